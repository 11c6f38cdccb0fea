/*
 * sockets.c - reads sockets by netlink, sock_diag(7); see sockets.h.
 *
 * Order of joining: a socket is put into its group and into the hash table that the kernel dumps
 * under one lock, when it listens (TCP, inet_hash()) or is bound (UDP, udp_lib_get_port()).  Over
 * IPv6 a shared socket goes to the tail of the table's list, over IPv4 to the head.
 */
#define _GNU_SOURCE
#include "sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Makes room for one more and returns it; NULL and errno if there is no memory. */
static struct socket *append(struct sockets *sockets) {
    if (sockets->count % 64 == 0) {
        struct socket *more = reallocarray(sockets->all, sockets->count + 64, sizeof *sockets->all);
        if (!more)
            return NULL;
        sockets->all = more;
    }
    struct socket *socket = &sockets->all[sockets->count++];
    memset(socket, 0, sizeof *socket);
    return socket;
}

/* Takes in one message of the dump; returns false and errno. */
static bool take(struct sockets *sockets, const struct nlmsghdr *header, uint8_t protocol) {
    const struct inet_diag_msg *message = NLMSG_DATA(header);
    if (header->nlmsg_len < NLMSG_LENGTH(sizeof *message))
        return true;
    struct socket *socket = append(sockets);
    if (!socket)
        return false;
    socket->protocol = protocol;
    socket->family = message->idiag_family;
    socket->port = ntohs(message->id.idiag_sport);
    memcpy(socket->address, message->id.idiag_src, sizeof socket->address);
    socket->device = message->id.idiag_if;
    socket->user = message->idiag_uid;
    socket->inode = message->idiag_inode;
    socket->cookie = message->id.idiag_cookie[0] | (uint64_t)message->id.idiag_cookie[1] << 32;
    socket->waiting = message->idiag_rqueue;
    socket->limit = message->idiag_wqueue;

    const struct rtattr *attribute = (const void *)(message + 1);
    unsigned left = header->nlmsg_len - (unsigned)NLMSG_LENGTH(sizeof *message);
    for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
        const void *data = RTA_DATA(attribute);
        uint32_t memory[SK_MEMINFO_VARS];
        if (attribute->rta_type == INET_DIAG_SKV6ONLY) {
            socket->ipv6_only = *(const uint8_t *)data;
        } else if (attribute->rta_type == INET_DIAG_SKMEMINFO &&
                   RTA_PAYLOAD(attribute) >= sizeof memory) {
            memcpy(memory, data, sizeof memory);
            socket->dropped = memory[SK_MEMINFO_DROPS];
            if (protocol == IPPROTO_UDP)
                socket->limit = memory[SK_MEMINFO_RCVBUF];
        }
    }
    return true;
}

/* Takes in what the kernel answers over netlink socket LINE; returns false and errno. */
static bool take_all(struct sockets *sockets, int line, uint8_t protocol) {
    _Alignas(struct nlmsghdr) char buffer[32768];
    for (;;) {
        ssize_t length = recv(line, buffer, sizeof buffer, 0);
        if (length < 0)
            return false;
        unsigned left = (unsigned)length;
        const struct nlmsghdr *header = (const void *)buffer;
        for (; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
            if (header->nlmsg_type == NLMSG_DONE)
                return true;
            if (header->nlmsg_type == NLMSG_ERROR) {
                const struct nlmsgerr *error = NLMSG_DATA(header);
                errno = -error->error;
                return false;
            }
            if (!take(sockets, header, protocol))
                return false;
        }
    }
}

/* Appends the sockets of PROTOCOL and FAMILY; returns false and errno. */
static bool dump(struct sockets *sockets, int line, uint8_t protocol, uint8_t family) {
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
    } message = {
        .header = {.nlmsg_len = sizeof message,
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .request = {.sdiag_family = family,
                    .sdiag_protocol = protocol,
                    .idiag_ext = 1 << (INET_DIAG_SKMEMINFO - 1),
                    /* A UDP socket that is bound and not connected is closed, to the kernel. */
                    .idiag_states = 1U << (protocol == IPPROTO_TCP ? TCP_LISTEN : TCP_CLOSE)},
    };
    size_t first = sockets->count;
    if (send(line, &message, sizeof message, 0) < 0 || !take_all(sockets, line, protocol))
        return false;
    for (size_t i = first; i < sockets->count; i++)
        sockets->all[i].order = family == AF_INET6 ? i - first : sockets->count - 1 - i;
    return true;
}

/* By port, protocol, family, address, device, order. */
static int compare(const void *left, const void *right) {
    const struct socket *a = left, *b = right;
    int address = memcmp(a->address, b->address, sizeof a->address);
#define COMPARE(field)                                                                             \
    if (a->field != b->field)                                                                      \
    return a->field < b->field ? -1 : 1
    COMPARE(port);
    COMPARE(protocol);
    COMPARE(family);
    if (address)
        return address;
    COMPARE(ipv6_only);
    COMPARE(device);
    COMPARE(order);
#undef COMPARE
    return 0;
}

bool sockets_read(struct sockets *sockets) {
    static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP}, families[] = {AF_INET, AF_INET6};
    *sockets = (struct sockets){0};
    int line = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    bool complete = line >= 0;
    for (int i = 0; complete && i < 4; i++)
        complete = dump(sockets, line, protocols[i / 2], families[i % 2]);
    int error = errno;
    if (line >= 0)
        close(line);
    if (!complete) {
        sockets_free(sockets);
        errno = error;
        return false;
    }
    qsort(sockets->all, sockets->count, sizeof *sockets->all, compare);
    return true;
}

struct socket *sockets_find(const struct sockets *sockets, uint64_t cookie) {
    for (size_t i = 0; i < sockets->count; i++)
        if (sockets->all[i].cookie == cookie)
            return &sockets->all[i];
    return NULL;
}

void sockets_free(struct sockets *sockets) {
    for (size_t i = 0; i < sockets->count; i++)
        free(sockets->all[i].holders);
    free(sockets->all);
    *sockets = (struct sockets){0};
}
