/*
 * reaper.h - a parent for a program that leaves nothing of it behind.
 */
#ifndef REAPER_H
#define REAPER_H

#include <sys/types.h>

/*
 * Forks.  Returns in the child, which is to become the program; or -1 and errno, if it cannot.
 *
 * The caller stays as the parent: it passes signals on to the child, and when that ends, kills all
 * that the child and its descendants have started and that is still there, daemons too
 * (PR_SET_CHILD_SUBREAPER), and ends as the child ended.  The same when process PARENT, its own,
 * is no more its parent; 0 if it may go on then.
 */
int reaper_fork(pid_t parent);

#endif
