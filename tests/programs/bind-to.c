/*
 * bind-to [-1alrsuw] KIND [ADDRESS:]PORT... - binds a socket of KIND (socket-kind.h) to each
 * address in turn, and prints what came of it and the socket's SO_REUSEPORT:
 *
 *     127.0.0.1:8000 bound, SO_REUSEPORT 1
 *     127.0.0.1:8001 EADDRINUSE, SO_REUSEPORT 0
 *
 * -1: one socket for all the addresses.  -a: SO_REUSEADDR is set before.  -r: SO_REUSEPORT is set
 * before, by the program itself; -l: it is later, after the bind.  -s: an IPv6 address is as short
 * as can be.  -u: the addresses are of AF_UNSPEC.  -w: waits to be killed, and holds the ports
 * until then.
 *
 * ADDRESS is numeric, an IPv6 one in brackets; 0.0.0.0 or [::] where it is left out.  Kinds other
 * than IP take "-" for an address, and get one of their own that they can bind to.
 */
#define _GNU_SOURCE
#include "names.h"
#include "socket-kind.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

static socklen_t read_address(const struct socket_kind *kind, const char *text,
                              struct sockaddr_storage *address) {
    const char *colon = strrchr(text, ':');
    char host[64] = "";
    if (colon)
        snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
    in_port_t port = htons((uint16_t)atoi(colon ? colon + 1 : text));
    memset(address, 0, sizeof *address);
    address->ss_family = (sa_family_t)kind->domain;
    switch (kind->domain) {
    case AF_INET: {
        struct sockaddr_in *in = (struct sockaddr_in *)address;
        in->sin_port = port;
        inet_pton(AF_INET, host, &in->sin_addr);
        return sizeof *in;
    }
    case AF_INET6: {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;
        in6->sin6_port = port;
        if (*host)
            host[strlen(host) - 1] = 0;
        inet_pton(AF_INET6, host + 1, &in6->sin6_addr);
        return sizeof *in6;
    }
    case AF_NETLINK:
        return sizeof(struct sockaddr_nl);
    case AF_PACKET:
        return sizeof(struct sockaddr_ll);
    default:
        return sizeof(sa_family_t); /* unix(7): autobind */
    }
}

static void set_option(int fd, int option) {
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, option, &on, sizeof on)) {
        perror("setsockopt");
        exit(2);
    }
}

static int new_socket(const struct socket_kind *kind) {
    int fd = socket(kind->domain, kind->type, kind->protocol);
    if (fd < 0) {
        perror(kind->name);
        exit(2);
    }
    return fd;
}

int main(int argc, char **argv) {
    bool one = false, address_shared = false, later = false, shared = false;
    bool brief = false, unspecified = false, wait_for_kill = false;
    for (int option; (option = getopt(argc, argv, "1alrsuw")) != -1;) {
        one |= option == '1';
        address_shared |= option == 'a';
        later |= option == 'l';
        shared |= option == 'r';
        brief |= option == 's';
        unspecified |= option == 'u';
        wait_for_kill |= option == 'w';
    }
    const struct socket_kind *kind = optind < argc ? find_socket_kind(argv[optind]) : NULL;
    if (!kind) {
        fprintf(stderr, "bind-to: no such kind of socket\n");
        return 2;
    }
    int fd = -1;
    for (int i = optind + 1; i < argc; i++) {
        if (fd < 0 || !one)
            fd = new_socket(kind);
        if (address_shared)
            set_option(fd, SO_REUSEADDR);
        if (shared)
            set_option(fd, SO_REUSEPORT);
        struct sockaddr_storage address;
        socklen_t length = read_address(kind, argv[i], &address);
        if (brief && kind->domain == AF_INET6)
            length = offsetof(struct sockaddr_in6, sin6_scope_id);
        if (unspecified)
            address.ss_family = AF_UNSPEC;
        int result = bind(fd, (struct sockaddr *)&address, length);
        if (later)
            set_option(fd, SO_REUSEPORT);
        printf("%s %s, SO_REUSEPORT %d\n", argv[i], result ? error_name(errno) : "bound",
               reuseport_of(fd));
    }
    fflush(stdout);
    if (wait_for_kill)
        pause();
    return 0;
}
