/*
 * socket-kind.h - the kinds of socket that the test programs bind, by name.
 */
#ifndef SOCKET_KIND_H
#define SOCKET_KIND_H

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

/* Since Linux 5.6; not in the headers of every libc. */
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

struct socket_kind {
    const char *name;
    int domain, type, protocol;
};

/* Ends with a kind that has no name. */
static const struct socket_kind socket_kinds[] = {
    {"tcp", AF_INET, SOCK_STREAM, 0},
    {"tcp6", AF_INET6, SOCK_STREAM, 0},
    {"udp", AF_INET, SOCK_DGRAM, 0},
    {"udp6", AF_INET6, SOCK_DGRAM, 0},
    {"mptcp", AF_INET, SOCK_STREAM, IPPROTO_MPTCP},
    {"mptcp6", AF_INET6, SOCK_STREAM, IPPROTO_MPTCP},
    {"udplite", AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE},
    {"udplite6", AF_INET6, SOCK_DGRAM, IPPROTO_UDPLITE},
    {"sctp", AF_INET, SOCK_STREAM, IPPROTO_SCTP},
    {"raw-tcp", AF_INET, SOCK_RAW, IPPROTO_TCP},
    {"raw-tcp6", AF_INET6, SOCK_RAW, IPPROTO_TCP},
    {"raw-udp", AF_INET, SOCK_RAW, IPPROTO_UDP},
    {"raw-udp6", AF_INET6, SOCK_RAW, IPPROTO_UDP},
    {"raw-icmp", AF_INET, SOCK_RAW, IPPROTO_ICMP},
    {"ping", AF_INET, SOCK_DGRAM, IPPROTO_ICMP},
    {"unix", AF_UNIX, SOCK_STREAM, 0},
    {"unix-dgram", AF_UNIX, SOCK_DGRAM, 0},
    {"netlink", AF_NETLINK, SOCK_RAW, 0},
    {"netlink-6", AF_NETLINK, SOCK_DGRAM, 6}, /* NETLINK_XFRM, with the number of TCP */
    {"packet", AF_PACKET, SOCK_DGRAM, 0},
    {0},
};

/* Returns the kind called NAME, NULL if there is none. */
static inline const struct socket_kind *find_socket_kind(const char *name) {
    for (const struct socket_kind *kind = socket_kinds; kind->name; kind++)
        if (strcmp(kind->name, name) == 0)
            return kind;
    return NULL;
}

/* Returns the SO_REUSEPORT of a socket, -1 if it has none. */
static inline int reuseport_of(int fd) {
    int value = -1;
    socklen_t length = sizeof value;
    return getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &value, &length) ? -1 : value;
}

#endif
