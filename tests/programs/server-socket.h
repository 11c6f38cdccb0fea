/*
 * server-socket.h - a server's socket, made as plainly as can be.
 */
#ifndef SERVER_SOCKET_H
#define SERVER_SOCKET_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

/* Reads WHERE, [ADDRESS:]PORT, into ADDRESS and returns its length; 0 if it is malformed. */
static inline socklen_t read_where(const char *where, struct sockaddr_storage *address) {
    struct sockaddr_in *in = (struct sockaddr_in *)address;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address; /* has its port at the same place */
    char host[INET6_ADDRSTRLEN + 2] = "127.0.0.1";
    const char *colon = strrchr(where, ':');
    if (colon)
        snprintf(host, sizeof host, "%.*s", (int)(colon - where), where);
    memset(address, 0, sizeof *address);
    in->sin_port = htons((uint16_t)atoi(colon ? colon + 1 : where));
    if (*host != '[') {
        in->sin_family = AF_INET;
        return inet_pton(AF_INET, host, &in->sin_addr) == 1 ? sizeof *in : 0;
    }
    in6->sin6_family = AF_INET6;
    host[strlen(host) - 1] = 0;
    return inet_pton(AF_INET6, host + 1, &in6->sin6_addr) == 1 ? sizeof *in6 : 0;
}

/*
 * Returns a socket of TYPE and PROTOCOL that is bound to WHERE, [ADDRESS:]PORT: the address is
 * numeric, an IPv6 one in brackets, and 127.0.0.1 by default.  A stream socket gets SO_REUSEADDR
 * first, as servers do it.  Exits 1, with the system's words, where that cannot be.
 */
static inline int server_socket(const char *where, int type, int protocol) {
    struct sockaddr_storage address;
    socklen_t length = read_where(where, &address);
    if (!length) {
        fprintf(stderr, "%s: not [ADDRESS:]PORT\n", where);
        exit(1);
    }
    int fd = socket(address.ss_family, type, protocol), on = 1;
    if (fd < 0)
        die("socket");
    if (type == SOCK_STREAM)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, length))
        die("bind");
    return fd;
}

#endif
