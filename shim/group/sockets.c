/*
 * sockets.c - reads sockets as diag.h has the kernel tell of them; see sockets.h.
 *
 * Order of joining: a socket is put into its group and into the hash table that the kernel dumps
 * under one lock, when it listens (TCP, inet_hash()) or is bound (UDP, udp_lib_get_port()).  Over
 * IPv6 a shared socket goes to the tail of the table's list, over IPv4 to the head.
 */
#define _GNU_SOURCE
#include "sockets.h"
#include "diag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What is to be read, and what was. */
struct reader {
    sockets_filter *wanted;
    const void *context;
    struct diag_query query;
    struct sockets sockets;
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

/* Takes in one answer, for the reader DATA; returns false and errno. */
static bool take(const struct diag_answer *answer, void *data) {
    struct reader *reader = data;
    const struct inet_diag_msg *message = answer->message;
    struct socket *socket = append(&reader->sockets);
    if (!socket)
        return false;
    socket->protocol = reader->query.protocol;
    socket->family = message->idiag_family;
    socket->port = ntohs(message->id.idiag_sport);
    memcpy(socket->address, message->id.idiag_src, sizeof socket->address);
    socket->device = message->id.idiag_if;
    socket->user = message->idiag_uid;
    socket->inode = message->idiag_inode;
    socket->cookie = message->id.idiag_cookie[0] | (uint64_t)message->id.idiag_cookie[1] << 32;
    socket->waiting = message->idiag_rqueue;
    socket->limit = message->idiag_wqueue;
    const uint8_t *ipv6_only = diag_attribute(answer, INET_DIAG_SKV6ONLY, sizeof *ipv6_only);
    socket->ipv6_only = ipv6_only && *ipv6_only;
    const uint32_t *memory =
        diag_attribute(answer, INET_DIAG_SKMEMINFO, SK_MEMINFO_VARS * sizeof *memory);
    if (memory) {
        socket->dropped = memory[SK_MEMINFO_DROPS];
        if (socket->protocol == IPPROTO_UDP)
            socket->limit = memory[SK_MEMINFO_RCVBUF];
    }
    if (!reader->wanted(socket, reader->context))
        reader->sockets.count--;
    return true;
}

/* Appends the sockets of PROTOCOL and FAMILY; returns false and errno. */
static bool dump(struct reader *reader, uint8_t protocol, uint8_t family) {
    struct sockets *sockets = &reader->sockets;
    size_t first = sockets->count;
    reader->query = (struct diag_query){
        .protocol = protocol,
        .family = family,
        /* A UDP socket that is bound and not connected is closed, to the kernel. */
        .states = 1U << (protocol == IPPROTO_TCP ? TCP_LISTEN : TCP_CLOSE),
        .extensions = 1 << (INET_DIAG_SKMEMINFO - 1),
    };
    if (diag_dump(&reader->query, take, reader) && errno != EAGAIN) /* read_steady() sees to it */
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
static bool read_once(struct reader *reader) {
    static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP}, families[] = {AF_INET, AF_INET6};
    reader->sockets = (struct sockets){0};
    for (int i = 0; i < 4; i++)
        if (!dump(reader, protocols[i / 2], families[i % 2]))
            return false;
    if (reader->sockets.count)
        qsort(reader->sockets.all, reader->sockets.count, sizeof *reader->sockets.all, compare);
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
 * Reads until the same comes twice in a row, as one dump may tell of some twice, or not at all
 * (diag.h).
 */
static bool read_steady(struct reader *reader) {
    enum { TRIES = 20 };
    bool complete = read_once(reader), steady = false;
    for (int i = 0; complete && !steady && i < TRIES; i++) {
        struct sockets before = reader->sockets;
        complete = read_once(reader);
        steady = complete && same(&before, &reader->sockets);
        sockets_free(&before);
    }
    return complete;
}

bool sockets_read(struct sockets *sockets, sockets_filter *wanted, const void *context) {
    struct reader reader = {.wanted = wanted, .context = context};
    bool complete = read_steady(&reader);
    int error = errno;
    if (!complete)
        sockets_free(&reader.sockets);
    *sockets = reader.sockets;
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
