/*
 * children.h - the children of this process: which of them have ended, and the end of all.
 */
#ifndef CHILDREN_H
#define CHILDREN_H

#include <stdbool.h>
#include <sys/types.h>

/* Reaps every child that has ended; returns whether one is left. */
bool children_reap(void);

/*
 * Kills every child and reaps it, and so what becomes a child by that (PR_SET_CHILD_SUBREAPER).
 * Returns 0 when none is left; else the process id of one that it may not kill (kill(2), EPERM),
 * when only such are left.
 */
pid_t children_end(void);

#endif
