/*
 * process.h - what the processes that reuse-run puts around a program have in common: they stand
 * in for it, so they pass its signals on, keep nothing open, and end as it ends.
 */
#ifndef PROCESS_H
#define PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* How a process ended: si_code and si_status of waitid(2). */
struct ending {
    int code, status;
};

/* Reads one signal from SIGNALS, a signalfd(2); passes it on to process TO (0: to nobody), unless
   it is SIGCHLD or has got there. */
void process_pass_signal(int signals, pid_t to);

/* Closes every descriptor but the COUNT in KEPT, the first of which is open, so that the program's
   pipes and files are closed when it closes them.  The first three, but for those in KEPT, are made
   what the first in KEPT is, so that nothing else gets their numbers. */
void process_leave_descriptors(const int *kept, size_t count);

/* Ends this process as another ended. */
__attribute__((noreturn)) void process_end_as(struct ending ending);

#endif
