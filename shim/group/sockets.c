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
#include <time.h>
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

/* Whether those of SOCKETS from FIRST to MIDDLE are those from there on, in the same order. */
static bool is_twice(const struct sockets *sockets, size_t first, size_t middle) {
    size_t count = middle - first, i = 0;
    if (sockets->count - middle != count)
        return false;
    while (i < count && sockets->all[first + i].cookie == sockets->all[middle + i].cookie)
        i++;
    return i == count;
}

static int compare_cookies(const void *left, const void *right) {
    const struct socket *const *a = left, *const *b = right;
    return ((*a)->cookie > (*b)->cookie) - ((*a)->cookie < (*b)->cookie);
}

/* Makes LIST one of COUNT sockets from FIRST on, by cookie. */
static void sort_by_cookie(struct socket **list, struct socket *first, size_t count) {
    for (size_t i = 0; i < count; i++)
        list[i] = first + i;
    qsort(list, count, sizeof *list, compare_cookies);
}

/* Whether one of SOCKETS from FIRST on is there twice; also if there is no memory to see it. */
static bool has_twice(const struct sockets *sockets, size_t first) {
    size_t count = sockets->count - first, i = 1;
    struct socket **list = calloc(count + 1, sizeof *list);
    if (!list)
        return true;
    sort_by_cookie(list, sockets->all + first, count);
    while (i < count && list[i]->cookie != list[i - 1]->cookie)
        i++;
    free(list);
    return i < count;
}

/* In milliseconds, from some start. */
static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000) + time.tv_nsec / 1000000;
}

/*
 * Appends the sockets of PROTOCOL and FAMILY when the kernel has told the same twice in a row, and
 * each once, as it may tell of some twice, or not at all (diag.h); after half a second what it has
 * told last.  Returns false and errno.
 */
static bool dump_steady(struct reader *reader, uint8_t protocol, uint8_t family) {
    enum { LONG_MS = 500 };
    struct sockets *sockets = &reader->sockets;
    size_t first = sockets->count;
    bool complete = dump(reader, protocol, family), steady = false;
    int64_t end = now() + LONG_MS;
    while (complete && !steady && now() < end) {
        size_t again = sockets->count;
        complete = dump(reader, protocol, family);
        steady = complete && is_twice(sockets, first, again);
        for (size_t from = again; from < sockets->count; from++)
            sockets->all[first + from - again] = sockets->all[from];
        sockets->count -= again - first;
        steady = steady && (sockets->count == first || !has_twice(sockets, first));
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

/* Sorts SOCKETS, and lists them by cookie; returns false and errno if there is no memory. */
static bool sort(struct sockets *sockets) {
    sockets->by_cookie = calloc(sockets->count + 1, sizeof *sockets->by_cookie);
    if (!sockets->by_cookie)
        return false;
    if (sockets->count)
        qsort(sockets->all, sockets->count, sizeof *sockets->all, compare);
    sort_by_cookie(sockets->by_cookie, sockets->all, sockets->count);
    return true;
}

/* Reads all by DUMP_PART, sorts it, and makes SOCKETS of it; returns false and errno. */
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
    complete = complete && sort(&reader.sockets);
    int error = errno;
    if (!complete)
        sockets_free(&reader.sockets);
    *sockets = reader.sockets;
    errno = error;
    return complete;
}

bool sockets_read(struct sockets *sockets, const struct sockets_query *query) {
    return read_by(dump_steady, sockets, query);
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
