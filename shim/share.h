/*
 * share.h - what is done to a socket around its bind(), by whatever makes the bind.
 *
 *     if (share_socket(&share, fd) && <its address can be read into share.address>)
 *         share_before(&share, &ports);
 *     <the bind>
 *     share_after(&share, &ports, bind_error);
 *     if (log)
 *         share_log(&share, pid, bind_error);
 *
 * Nothing here allocates, locks or uses stdio; errno is not kept.
 */
#ifndef SHARE_H
#define SHARE_H

#include "ports.h"
#include <sys/types.h>

struct share {
    int fd;
    int protocol;                    /* as SO_PROTOCOL has it */
    enum ports_plan plan;            /* PORTS_IGNORE, which is 0, until share_before() */
    struct sockaddr_storage address; /* what the program wants to bind to */
    socklen_t length;                /* of ADDRESS, at most its size */
    int option_error;                /* errno of setting SO_REUSEPORT, 0 if that went well */
};

/* Begins SHARE for the socket FD; returns whether it is one of TCP or UDP. */
bool share_socket(struct share *share, int fd);

/* Makes the plan, and sets SO_REUSEPORT where that comes before the bind. */
void share_before(struct share *share, const struct ports *ports);

/*
 * Does what comes after the bind, which ended with BIND_ERROR (0: it succeeded).
 *
 * After a bind that failed it clears the option, so that the socket's next bind is decided afresh
 * (to port 0, say, or to a port that is left out).  Only a socket that already has a port, and a
 * shared one, keeps it.
 */
void share_after(struct share *share, const struct ports *ports, int bind_error);

/* Writes the line that LIBREUSE_LOG asks for, for process PID; none if the bind was ignored. */
void share_log(const struct share *share, pid_t pid, int bind_error);

#endif
