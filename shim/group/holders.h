/*
 * holders.h - which processes hold a socket, as far as /proc lets the caller see, and what can be
 * told and done through a duplicate of it.
 */
#ifndef HOLDERS_H
#define HOLDERS_H

#include "sockets.h"

/* Finds who holds each of COUNT sockets, and whether it is shared: its SO_REUSEPORT, that nothing
   but a duplicate tells.  What the caller may not see stays empty, or unknown.  Returns false and
   errno for want of descriptors or memory (EMFILE, ENFILE, ENOMEM). */
bool holders_find(struct socket *sockets, size_t count);

/* A duplicate of SOCKET, from any of its holders; -1 and errno, EPERM if no holder is known. */
int holders_take(const struct socket *socket);

/* Whether PID is stopped, by a signal or a debugger (proc_pid_stat(5)). */
bool holders_stopped(pid_t pid);

/* Puts the command line of PID into COMMAND, what is not to be printed as '?'; its name where it
   has none; empty if there is no such process. */
void holders_command(pid_t pid, char *command, size_t size);

#endif
