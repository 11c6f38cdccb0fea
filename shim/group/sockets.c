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

/* What is to be read, of which protocol and family at present, and what was. */
struct reader {
    const struct sockets_query *query;
    struct diag_query part;
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
    socket->protocol = reader->part.protocol;
    socket->family = message->idiag_family;
    socket->port = ntohs(message->id.idiag_sport);
    memcpy(socket->address, message->id.idiag_src, sizeof socket->address);
    socket->device = message->id.idiag_if;
    socket->user = message->idiag_uid;
    socket->inode = message->idiag_inode;
    socket->cookie = diag_cookie(message);
    socket->waiting = message->idiag_rqueue;
    socket->limit = message->idiag_wqueue;
    const uint8_t *ipv6_only = diag_attribute(answer, INET_DIAG_SKV6ONLY, sizeof *ipv6_only);
    socket->ipv6_only = ipv6_only && *ipv6_only;
    const uint32_t *memory =
        diag_attribute(answer, INET_DIAG_SKMEMINFO, SK_MEMINFO_VARS * sizeof *memory);
    if (memory) {
        socket->dropped = memory[SK_MEMINFO_DROPS];
        if (socket->protocol != IPPROTO_TCP)
            socket->limit = memory[SK_MEMINFO_RCVBUF];
    }
    const struct sockets_query *query = reader->query;
    if (query->wanted && !query->wanted(socket, query->context))
        reader->sockets.count--;
    return true;
}

/* Appends the sockets of PROTOCOL and FAMILY; returns false and errno. */
static bool dump(struct reader *reader, uint8_t protocol, uint8_t family) {
    struct sockets *sockets = &reader->sockets;
    size_t first = sockets->count;
    reader->part = (struct diag_query){
        .protocol = protocol,
        .family = family,
        /* A UDP socket that is bound and not connected is closed, to the kernel. */
        .states = 1U << (protocol == IPPROTO_TCP ? TCP_LISTEN : TCP_CLOSE),
        .extensions = 1 << (INET_DIAG_SKMEMINFO - 1),
    };
    if (reader->query->port_count <= DIAG_PORTS) {
        reader->part.ports = reader->query->ports;
        reader->part.port_count = reader->query->port_count;
    }
    if (diag_dump(&reader->part, take, reader) && errno != EAGAIN) /* dump_steady() sees to it */
        return false;
    for (size_t i = first; i < sockets->count; i++)
        sockets->all[i].order = family == AF_INET6 ? i - first : sockets->count - 1 - i;
    return true;
}

/* Whether COUNT sockets from A on are those from B on, in the same order. */
static bool same(const struct socket *a, const struct socket *b, size_t count) {
    size_t i = 0;
    while (i < count && a[i].cookie == b[i].cookie)
        i++;
    return i == count;
}

/*
 * Appends the sockets of PROTOCOL and FAMILY when the kernel has told the same twice in a row, as
 * once it may tell of some twice, or not at all (diag.h); returns false and errno.
 */
static bool dump_steady(struct reader *reader, uint8_t protocol, uint8_t family) {
    enum { TRIES = 50 };
    struct sockets *sockets = &reader->sockets;
    size_t first = sockets->count;
    bool complete = dump(reader, protocol, family), steady = false;
    for (int i = 0; complete && !steady && i < TRIES; i++) {
        size_t again = sockets->count, count = again - first;
        complete = dump(reader, protocol, family);
        steady = complete && sockets->count - again == count &&
                 same(sockets->all + first, sockets->all + again, count);
        if (sockets->count > again)
            memmove(sockets->all + first, sockets->all + again,
                    (sockets->count - again) * sizeof *sockets->all);
        sockets->count -= count;
    }
    return complete;
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

static int compare_cookies(const void *left, const void *right) {
    const struct socket *const *a = left, *const *b = right;
    return ((*a)->cookie > (*b)->cookie) - ((*a)->cookie < (*b)->cookie);
}

/* Makes the list by cookie; returns false and errno. */
static bool sort_by_cookie(struct sockets *sockets) {
    sockets->by_cookie = calloc(sockets->count + 1, sizeof *sockets->by_cookie);
    if (!sockets->by_cookie)
        return false;
    for (size_t i = 0; i < sockets->count; i++)
        sockets->by_cookie[i] = &sockets->all[i];
    qsort(sockets->by_cookie, sockets->count, sizeof *sockets->by_cookie, compare_cookies);
    return true;
}

/* Reads all by DUMP, sorts it, and makes SOCKETS of it; returns false and errno. */
static bool read_by(bool (*dump_part)(struct reader *, uint8_t, uint8_t), struct sockets *sockets,
                    const struct sockets_query *query) {
    static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE};
    struct reader reader = {.query = query};
    bool complete = true;
    for (size_t i = 0; complete && i < sizeof protocols; i++) {
        complete =
            dump_part(&reader, protocols[i], AF_INET) && dump_part(&reader, protocols[i], AF_INET6);
        if (protocols[i] == IPPROTO_UDPLITE && !complete && errno == ENOENT)
            complete = true; /* not every kernel has it */
    }
    if (complete && reader.sockets.count)
        qsort(reader.sockets.all, reader.sockets.count, sizeof *reader.sockets.all, compare);
    complete = complete && sort_by_cookie(&reader.sockets);
    int error = errno;
    if (!complete)
        sockets_free(&reader.sockets);
    *sockets = reader.sockets;
    errno = error;
    return complete;
}

/* Whether SOCKETS has one twice. */
static bool has_twice(const struct sockets *sockets) {
    for (size_t i = 1; i < sockets->count; i++)
        if (sockets->by_cookie[i]->cookie == sockets->by_cookie[i - 1]->cookie)
            return true;
    return false;
}

bool sockets_read(struct sockets *sockets, const struct sockets_query *query) {
    enum { TRIES = 20 };
    bool complete = read_by(dump_steady, sockets, query);
    for (int i = 0; complete && has_twice(sockets) && i < TRIES; i++) {
        sockets_free(sockets);
        complete = read_by(dump_steady, sockets, query);
    }
    return complete;
}

bool sockets_sample(struct sockets *sockets, const struct sockets_query *query) {
    return read_by(dump, sockets, query);
}

struct socket *sockets_find(const struct sockets *sockets, uint64_t cookie) {
    const struct socket like = {.cookie = cookie}, *key = &like;
    struct socket **found = bsearch(&key, sockets->by_cookie, sockets->count,
                                    sizeof *sockets->by_cookie, compare_cookies);
    return found ? *found : NULL;
}

void sockets_free(struct sockets *sockets) {
    for (size_t i = 0; i < sockets->count; i++)
        free(sockets->all[i].holders);
    free(sockets->all);
    free(sockets->by_cookie);
    while (sockets->processes) {
        struct process *next = sockets->processes->next;
        free(sockets->processes->command);
        free(sockets->processes);
        sockets->processes = next;
    }
    *sockets = (struct sockets){0};
}
