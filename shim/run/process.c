/*
 * process.c - see process.h.
 */
#define _GNU_SOURCE
#include "process.h"
#include "kernel.h"

#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* Whether the terminal sent the signal: then the program, in the foreground as well, has it. */
static bool is_of_terminal(const struct signalfd_siginfo *signal) {
    static const int terminal[] = {SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGWINCH};
    for (size_t i = 0; i < sizeof terminal / sizeof *terminal; i++)
        if (signal->ssi_signo == (uint32_t)terminal[i])
            return signal->ssi_code == SI_KERNEL;
    return false;
}

void process_pass_signal(int signals, pid_t to) {
    struct signalfd_siginfo signal;
    if (read(signals, &signal, sizeof signal) != sizeof signal || signal.ssi_signo == SIGCHLD)
        return;
    /* From the program to its parent, or from the supervisor to the front. */
    bool from_below = signal.ssi_pid == (uint32_t)to;
    if (to && !from_below && !is_of_terminal(&signal))
        kill(to, (int)signal.ssi_signo);
}

/* Closes descriptors FIRST up to LAST (close_range(2), since Linux 5.9). */
static void close_all(unsigned first, unsigned last) {
    if (first > last || syscall(SYS_close_range, first, last, 0) == 0)
        return;
    unsigned limit = (unsigned)sysconf(_SC_OPEN_MAX);
    for (unsigned fd = first; fd <= last && fd < limit; fd++)
        close((int)fd);
}

static bool is_among(int fd, const int *kept, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (kept[i] == fd)
            return true;
    return false;
}

void process_leave_descriptors(const int *kept, size_t count) {
    for (int fd = 0; fd <= 2; fd++)
        if (!is_among(fd, kept, count))
            dup2(kept[0], fd); /* without another file, such as /dev/null, which may be missing */
    /* From each descriptor that is kept to the next, the first of which is standard error. */
    for (int last = 2, next; last < INT_MAX; last = next) {
        next = INT_MAX;
        for (size_t i = 0; i < count; i++)
            if (kept[i] > last && kept[i] < next)
                next = kept[i];
        close_all((unsigned)last + 1, (unsigned)next - 1);
    }
}

void process_end_as(struct ending ending) {
    if (ending.code == CLD_EXITED)
        exit(ending.status);
    prctl(PR_SET_DUMPABLE, 0); /* the program has left a core, if one is wanted */
    sigset_t one;              /* others may be pending */
    sigemptyset(&one);
    sigaddset(&one, ending.status);
    signal(ending.status, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
    raise(ending.status);
    exit(128 + ending.status);
}
