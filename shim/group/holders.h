/*
 * holders.h - which processes hold a socket, as far as /proc lets the caller see, and what can be
 * told and done through a duplicate of it.
 */
#ifndef HOLDERS_H
#define HOLDERS_H

#include "sockets.h"

/* Finds who holds each of SOCKETS, and whether it is shared: its SO_REUSEPORT, that nothing but a
   duplicate tells.  What the caller may not see stays empty, or unknown.  Returns false and errno
   for want of descriptors or memory (EMFILE, ENFILE, ENOMEM). */
bool holders_find(struct sockets *sockets);

/* Finds who of COUNT processes holds each of SOCKETS, with no look at others; not whether it is
   shared. */
bool holders_find_among(struct sockets *sockets, const pid_t *pids, size_t count);

/* Finds whether each of SOCKETS that has a holder is shared. */
bool holders_ask(struct sockets *sockets);

/* A duplicate of SOCKET, from any of its holders; -1 and errno, EPERM if no holder is known. */
int holders_take(const struct socket *socket);

/* Whether PROCESS was stopped, by a signal or a debugger, when this was first asked. */
bool holders_stopped(struct process *process);

/* The command line of PROCESS, as it may be printed (printable.h); its name where it has none;
   empty if there is no such process any more.  Read when it is first asked for. */
const char *holders_command(struct process *process);

#endif
