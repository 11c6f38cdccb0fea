/*
 * label.h - puts the number of a copy before each line of its output, in a process of its own: that
 * one outlives reuse-launch as long as there is somebody to write.
 */
#ifndef LABEL_H
#define LABEL_H

#include <sys/types.h>

struct label {
    int line; /* to the process; -1: there is none */
    pid_t pid;
};

/* Starts it.  Returns 0, or -1 and errno. */
int label_start(struct label *label);

/* A pipe to it for what copy NUMBER writes to descriptor FD, standard output or error: the end to
   write to.  Returns -1 and errno. */
int label_pipe(const struct label *label, unsigned number, int fd);

/* Waits until it has written the last words, as long as there is nobody left to write more. */
void label_finish(struct label *label);

#endif
