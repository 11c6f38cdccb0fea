/*
 * server-socket.h - a server's socket, made as plainly as can be.
 */
#ifndef SERVER_SOCKET_H
#define SERVER_SOCKET_H

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

/*
 * Returns a socket of TYPE that is bound to WHERE, [ADDRESS:]PORT: the address is numeric, an IPv6
 * one in brackets, and 127.0.0.1 by default.  A stream socket gets SO_REUSEADDR first, as servers
 * do it.  Exits 1 with the system's words where that cannot be.
 */
static inline int server_socket(const char *where, int type) {
    char address[NI_MAXHOST] = "127.0.0.1";
    const char *colon = strrchr(where, ':');
    const char *port = colon ? colon + 1 : where;
    if (colon) {
        int bracket = *where == '[';
        snprintf(address, sizeof address, "%.*s", (int)(colon - where) - 2 * bracket,
                 where + bracket);
    }
    struct addrinfo hints = {.ai_socktype = type, .ai_flags = AI_NUMERICHOST};
    struct addrinfo *found;
    int error = getaddrinfo(address, port, &hints, &found);
    if (error) {
        fprintf(stderr, "%s: %s\n", where, gai_strerror(error));
        exit(1);
    }
    int fd = socket(found->ai_family, type, 0);
    if (fd < 0)
        die("socket");
    int on = 1;
    if (type == SOCK_STREAM)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, found->ai_addr, found->ai_addrlen))
        die("bind");
    freeaddrinfo(found);
    return fd;
}

#endif
