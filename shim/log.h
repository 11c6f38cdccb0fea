/*
 * log.h - what libreuse says on stderr: the lines that LIBREUSE_LOG asks for, and the one about a
 * malformed LIBREUSE_PORTS.  Shared by everything that flags sockets.
 *
 * A line is one write(2).  It is dropped rather than written to a stderr that is closed, or was at
 * the start; to a broken one, or one that would make the program wait; and to a network connection:
 * a daemon that closed its stderr may have got a socket with that number.
 *
 * Nothing here allocates, locks, uses stdio or changes errno: it may run in a signal handler.
 */
#ifndef LOG_H
#define LOG_H

#include "ports.h"
#include <sys/types.h>

/* Whether LIBREUSE_LOG asks for lines (it is neither empty nor 0) and there is a stderr now. */
bool log_wanted(void);

/* One bind, and what came of it. */
struct log_bind {
    pid_t pid;
    int protocol;                   /* as SO_PROTOCOL has it */
    const struct sockaddr *address; /* of AF_INET, AF_INET6 or AF_UNSPEC, whole */
    enum ports_plan plan;
    int option_error; /* errno of setting SO_REUSEPORT, 0 if it was set */
    int bind_error;   /* errno of the bind, 0 if it succeeded */
};

/* Says that a bind was shared, left out or refused; a refusal also why a shared port can be. */
void log_bind(const struct log_bind *bind);

/* Says what is wrong with LIBREUSE_PORTS. */
void log_bad_ports(const struct ports_error *error);

#endif
