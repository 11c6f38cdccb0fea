/*
 * placeholder.c - see placeholder.h.
 *
 * What makes a socket join another's group is in inet_reuseport_add_sock() for TCP, in
 * udp_reuseport_add_sock() for UDP: the same family, port, address, device, IPV6_V6ONLY and user.
 *
 * A socket filter (SO_ATTACH_FILTER) would drop all, but some kernels have it take CAP_NET_ADMIN.
 */
#define _GNU_SOURCE
#include "placeholder.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif
#ifndef IPV6_MINHOPCOUNT
#define IPV6_MINHOPCOUNT 73
#endif

static bool set(int fd, int level, int option, int value) {
    return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

/* Makes FD like LIKE in all that is to be the same before the bind. */
static bool make_alike(int fd, const struct socket *like) {
    return set(fd, SOL_SOCKET, SO_REUSEPORT, 1) &&
           (like->user == geteuid() || fchown(fd, like->user, (gid_t)-1) == 0) &&
           (!like->device || set(fd, SOL_SOCKET, SO_BINDTOIFINDEX, (int)like->device)) &&
           (like->family != AF_INET6 || set(fd, IPPROTO_IPV6, IPV6_V6ONLY, like->ipv6_only)) &&
           set(fd, IPPROTO_IP, IP_FREEBIND, 1); /* the address may be nobody's yet, or no more */
}

/* Has the kernel drop what gets to FD by TCP, without an answer: all but packets from the same link
   with the highest time to live that there is.  It drops those of UDP when FD is closed. */
static bool drop_all(int fd, const struct socket *like) {
    enum { HIGHEST = 255 };
    return set(fd, IPPROTO_IP, IP_MINTTL, HIGHEST) && /* those of IPv4 that get to IPv6, too */
           (like->family != AF_INET6 || set(fd, IPPROTO_IPV6, IPV6_MINHOPCOUNT, HIGHEST));
}

static bool bind_alike(int fd, const struct socket *like) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(like->port)};
    struct sockaddr_in6 in6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(like->port), .sin6_scope_id = like->device};
    memcpy(&in.sin_addr, like->address, sizeof in.sin_addr);
    memcpy(&in6.sin6_addr, like->address, sizeof in6.sin6_addr);
    return like->family == AF_INET ? bind(fd, (const struct sockaddr *)&in, sizeof in) == 0
                                   : bind(fd, (const struct sockaddr *)&in6, sizeof in6) == 0;
}

int placeholder_open(const struct socket *like) {
    bool tcp = like->protocol == IPPROTO_TCP;
    int fd = socket(like->family, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, like->protocol);
    if (fd < 0)
        return -1;
    if (make_alike(fd, like) && (!tcp || drop_all(fd, like)) && bind_alike(fd, like) &&
        (!tcp || listen(fd, 0) == 0))
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}
