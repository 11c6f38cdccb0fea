/*
 * trap.h - the bind() calls of a process and its children, trapped by a seccomp filter and shared
 * from outside: what the preloaded shim does, for programs that it does not reach.
 */
#ifndef TRAP_H
#define TRAP_H

#include "ports.h"
#include <linux/seccomp.h>
#include <stdbool.h>
#include <sys/types.h>

/* What the process that answers the trapped calls needs. */
struct trap {
    int listener;
    bool log; /* LIBREUSE_LOG */
    const struct ports *ports;
    bool killable; /* a received call waits on through signals: Linux 5.19 */
    struct seccomp_notif_sizes sizes;
    struct seccomp_notif *request;
    struct seccomp_notif_resp *response;
};

/*
 * Traps bind() in this process and in all that it will start.  Gives up the gaining of privileges
 * (PR_SET_NO_NEW_PRIVS) only where the kernel insists.  Returns the listener, closed on exec; -1
 * and errno if that is not to be had (seccomp(2)): EBUSY if a process above has a listener.
 */
int trap_install(void);

/* Whether the calls of this process are trapped by a reuse-run already. */
bool trap_installed(void);

/* Makes TRAP ready to answer by PORTS what LISTENER has, and to say what comes of it on standard
   error if LOG; returns false and errno. */
bool trap_open(struct trap *trap, int listener, const struct ports *ports, bool log);

/* Answers one call that TRAP->listener has ready. */
void trap_answer(struct trap *trap);

/* A duplicate of descriptor FD of process PID; -1 and errno (pidfd_getfd(2)). */
int trap_take(pid_t pid, int fd);

#endif
