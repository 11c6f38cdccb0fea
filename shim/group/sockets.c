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

/* What is to be read, and over which netlink socket. */
struct reader {
    int line;
    sockets_filter *wanted;
    const void *context;
};

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
static bool take(struct sockets *sockets, const struct reader *reader,
                 const struct nlmsghdr *header, uint8_t protocol) {
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
    if (!reader->wanted(socket, reader->context))
        sockets->count--;
    return true;
}

/* What the message that ends a dump says: an error, where the kernel has no inet_diag, or 0. */
static int end_error(const struct nlmsghdr *header) {
    int error = 0;
    if (header->nlmsg_len >= NLMSG_LENGTH(sizeof error))
        memcpy(&error, NLMSG_DATA(header), sizeof error);
    return -error;
}

/* Takes in what the kernel answers; returns false and errno. */
static bool take_all(struct sockets *sockets, const struct reader *reader, uint8_t protocol) {
    _Alignas(struct nlmsghdr) char buffer[32768];
    for (;;) {
        ssize_t length = recv(reader->line, buffer, sizeof buffer, 0);
        if (length < 0)
            return false;
        unsigned left = (unsigned)length;
        const struct nlmsghdr *header = (const void *)buffer;
        for (; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
            /* An error's message begins with its number, as that of the end does. */
            if (header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR) {
                errno = end_error(header);
                return errno == 0;
            }
            if (!take(sockets, reader, header, protocol))
                return false;
        }
    }
}

/* Appends the sockets of PROTOCOL and FAMILY; returns false and errno. */
static bool dump(struct sockets *sockets, const struct reader *reader, uint8_t protocol,
                 uint8_t family) {
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
    if (send(reader->line, &message, sizeof message, 0) < 0 || !take_all(sockets, reader, protocol))
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

/* Reads the sockets once; returns false and errno. */
static bool read_once(struct sockets *sockets, const struct reader *reader) {
    static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP}, families[] = {AF_INET, AF_INET6};
    *sockets = (struct sockets){0};
    for (int i = 0; i < 4; i++)
        if (!dump(sockets, reader, protocols[i / 2], families[i % 2]))
            return false;
    if (sockets->count)
        qsort(sockets->all, sockets->count, sizeof *sockets->all, compare);
    return true;
}

/* Whether both are the same sockets in the same order. */
static bool same(const struct sockets *a, const struct sockets *b) {
    size_t i = 0;
    while (i < a->count && i < b->count && a->all[i].cookie == b->all[i].cookie)
        i++;
    return i == a->count && i == b->count;
}

/*
 * Reads until the same comes twice in a row: the kernel dumps in pieces, and goes on by counting
 * in a list, so that what is bound or closed between two pieces has it tell of others twice, or
 * not at all.
 */
static bool read_steady(struct sockets *sockets, const struct reader *reader) {
    enum { TRIES = 20 };
    bool complete = read_once(sockets, reader), steady = false;
    for (int i = 0; complete && !steady && i < TRIES; i++) {
        struct sockets before = *sockets;
        complete = read_once(sockets, reader);
        steady = complete && same(&before, sockets);
        sockets_free(&before);
    }
    return complete;
}

bool sockets_read(struct sockets *sockets, sockets_filter *wanted, const void *context) {
    struct reader reader = {.wanted = wanted, .context = context};
    *sockets = (struct sockets){0};
    reader.line = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (reader.line < 0)
        return false;
    bool complete = read_steady(sockets, &reader);
    int error = errno;
    close(reader.line);
    if (!complete)
        sockets_free(sockets);
    errno = error;
    return complete;
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
