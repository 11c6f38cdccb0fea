/*
 * port-zero [-c] KIND COUNT - binds COUNT sockets of KIND (socket-kind.h, an IP one) to port 0,
 * then one more to each port that the kernel picked, and prints how many ports differ and could be
 * joined:
 *
 *     4000 sockets, 4000 ports, 4000 joined
 *
 * TCP sockets listen, as a TCP port is shared between listeners.  -c: UDP sockets get their ports
 * when they connect, and not at the bind (IP_BIND_ADDRESS_NO_PORT).
 */
#include "socket-kind.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static void die(const char *what) {
    perror(what);
    exit(2);
}

static int connect_to_discard(int fd) {
    struct sockaddr_in discard = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    return connect(fd, (struct sockaddr *)&discard, sizeof discard);
}

/* Binds a new socket of KIND to PORT, and returns it; -1 if the bind or the listen fails. */
static int bind_new(const struct socket_kind *kind, in_port_t port, bool at_connect) {
    /* sin6_port stands where sin_port does; the address is the wildcard of either family. */
    struct sockaddr_in6 address = {.sin6_family = (sa_family_t)kind->domain, .sin6_port = port};
    int fd = socket(kind->domain, kind->type, kind->protocol);
    if (fd < 0)
        die("socket");
    if (at_connect && setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int)))
        die("IP_BIND_ADDRESS_NO_PORT");
    if (bind(fd, (struct sockaddr *)&address, sizeof address) ||
        (at_connect && connect_to_discard(fd)) || (kind->type == SOCK_STREAM && listen(fd, 1))) {
        close(fd);
        return -1;
    }
    return fd;
}

static in_port_t port_of(int fd) {
    struct sockaddr_in6 address;
    socklen_t length = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &length))
        die("getsockname");
    return address.sin6_port;
}

int main(int argc, char **argv) {
    bool at_connect = argc == 4 && strcmp(argv[1], "-c") == 0;
    argv += at_connect;
    const struct socket_kind *kind = argc == 3 + at_connect ? find_socket_kind(argv[1]) : NULL;
    if (!kind) {
        fprintf(stderr, "port-zero: usage: port-zero [-c] KIND COUNT\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    static bool seen[UINT16_MAX + 1];
    int sockets = atoi(argv[2]), ports = 0, joined = 0;
    for (int i = 0; i < sockets; i++) {
        int fd = bind_new(kind, 0, at_connect);
        if (fd < 0)
            die("bind to port 0");
        ports += !seen[port_of(fd)];
        seen[port_of(fd)] = true;
    }
    for (int port = 0; port <= UINT16_MAX; port++) {
        int fd = seen[port] ? bind_new(kind, (in_port_t)port, false) : -1;
        if (fd >= 0) {
            joined++;
            close(fd);
        }
    }
    printf("%d sockets, %d ports, %d joined\n", sockets, ports, joined);
    return 0;
}
