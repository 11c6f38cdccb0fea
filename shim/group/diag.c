/*
 * diag.c - see diag.h.
 */
#define _GNU_SOURCE
#include "diag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/*
 * What the kernel runs to see whether a socket is wanted (inet_diag_bc_run()): steps that go on by
 * as many octets as they say, and take the socket if that leads to the end.
 */
struct filter {
    struct inet_diag_bc_op *steps;
    unsigned count;
};

enum { STEP = sizeof(struct inet_diag_bc_op), PORT_STEPS = 5 };

/* How many octets it is from step FROM to step TO; one behind the end leaves the socket out. */
static unsigned short skip(unsigned from, unsigned to) {
    return (unsigned short)((to - from) * STEP);
}

/* Appends: the port is PORT, and on to the end, or on to the next step. */
static void add_port(struct filter *filter, uint16_t port, unsigned end) {
    unsigned at = filter->count, next = at + PORT_STEPS;
    unsigned otherwise = next < end ? next : end + 1;
    const struct inet_diag_bc_op steps[PORT_STEPS] = {
        {INET_DIAG_BC_S_GE, 2 * STEP, skip(at, otherwise)},
        {.no = port},
        {INET_DIAG_BC_S_LE, 2 * STEP, skip(at + 2, otherwise)},
        {.no = port},
        {INET_DIAG_BC_JMP, STEP, skip(at + 4, end)},
    };
    memcpy(&filter->steps[at], steps, sizeof steps);
    filter->count = next;
}

/* Makes the filter of QUERY, whose steps are to be freed; returns false and errno. */
static bool make_filter(struct filter *filter, const struct diag_query *query) {
    unsigned end = query->picked + (unsigned)query->port_count * PORT_STEPS;
    *filter = (struct filter){calloc(end + 1, STEP), 0};
    if (!filter->steps)
        return false;
    if (query->picked)
        filter->steps[filter->count++] =
            (struct inet_diag_bc_op){INET_DIAG_BC_AUTO, STEP, skip(0, end + 1)};
    for (size_t i = 0; i < query->port_count; i++)
        add_port(filter, query->ports[i], end);
    return true;
}

/* Sends QUERY over LINE; returns 0, or -1 and errno. */
static int ask(int line, const struct diag_query *query) {
    struct filter filter;
    if (!make_filter(&filter, query))
        return -1;
    struct rtattr attribute = {
        .rta_len = (unsigned short)RTA_LENGTH(filter.count * STEP),
        .rta_type = INET_DIAG_REQ_BYTECODE,
    };
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
    } message = {
        .header = {.nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .request = {.sdiag_family = query->family,
                    .sdiag_protocol = query->protocol,
                    .idiag_ext = query->extensions,
                    .idiag_states = query->states},
    };
    struct iovec pieces[] = {
        {&message, sizeof message},
        {&attribute, sizeof attribute},
        {filter.steps, filter.count * STEP},
    };
    int count = filter.count ? 3 : 1;
    for (int i = 0; i < count; i++)
        message.header.nlmsg_len += (uint32_t)pieces[i].iov_len;
    ssize_t sent = writev(line, pieces, count);
    int error = errno;
    free(filter.steps);
    errno = error;
    return sent < 0 ? -1 : 0;
}

/* What the message that ends a dump says: an error, where the kernel has no inet_diag, or 0. */
static int end_error(const struct nlmsghdr *header) {
    int error = 0;
    if (header->nlmsg_len >= NLMSG_LENGTH(sizeof error))
        memcpy(&error, NLMSG_DATA(header), sizeof error);
    return -error;
}

/* Has EACH take one message. */
static bool take(const struct nlmsghdr *header, diag_fn *each, void *data) {
    struct diag_answer answer = {.message = NLMSG_DATA(header)};
    if (header->nlmsg_len < NLMSG_LENGTH(sizeof *answer.message))
        return true;
    answer.attributes = (const void *)(answer.message + 1);
    answer.length = header->nlmsg_len - (unsigned)NLMSG_LENGTH(sizeof *answer.message);
    return each(&answer, data);
}

/* The most that the kernel sends at once (netlink_dump()), and what is received at one go. */
enum { PIECE = 32768, ROOM = 64 * PIECE };

/* Whether HEADER is of the message that ends a dump. */
static bool is_end(const struct nlmsghdr *header) {
    return header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR;
}

/* Whether the messages in LENGTH octets from HEADER on end a dump. */
static bool have_end(const struct nlmsghdr *header, unsigned length) {
    while (NLMSG_OK(header, length) && !is_end(header))
        header = NLMSG_NEXT(header, length);
    return NLMSG_OK(header, length);
}

/* Receives as much of a dump as there is, or as BUFFER has room for; returns its length, or -1 and
   errno.  The kernel makes a piece when it is asked for one: nothing else is done in between. */
static ssize_t receive(int line, char *buffer) {
    ssize_t length = 0, piece = 0;
    bool end = false;
    for (; !end && length + PIECE <= ROOM; length += (ssize_t)NLMSG_ALIGN((size_t)piece)) {
        piece = recv(line, buffer + length, PIECE, MSG_TRUNC);
        if (piece > PIECE)
            errno = EMSGSIZE;
        if (piece < 0 || piece > PIECE)
            return -1;
        end = have_end((const void *)(buffer + length), (unsigned)piece);
    }
    return length;
}

/* Has EACH take what the kernel answers, by way of BUFFER; returns 0, or -1 and errno. */
static int take_all(int line, char *buffer, diag_fn *each, void *data) {
    for (bool changed = false;;) {
        ssize_t length = receive(line, buffer);
        if (length < 0)
            return -1;
        unsigned left = (unsigned)length;
        const struct nlmsghdr *header = (const void *)buffer;
        for (; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
            changed |= header->nlmsg_flags & NLM_F_DUMP_INTR;
            /* An error's message begins with its number, as that of the end does. */
            if (is_end(header)) {
                int error = end_error(header);
                errno = !error && changed ? EAGAIN : error;
                return errno ? -1 : 0;
            }
            if (!take(header, each, data))
                return -1;
        }
    }
}

int diag_open(void) {
    return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
}

int diag_dump(const struct diag_query *query, diag_fn *each, void *data) {
    if (query->port_count > DIAG_PORTS) {
        errno = E2BIG;
        return -1;
    }
    int line = diag_open(), result = -1;
    char *buffer = malloc(ROOM);
    if (line >= 0 && buffer && ask(line, query) == 0)
        result = take_all(line, buffer, each, data);
    int error = errno;
    free(buffer);
    if (line >= 0)
        close(line);
    errno = error;
    return result;
}

int diag_dump_both(struct diag_query query, diag_fn *each, void *data) {
    enum { TRIES = 5 };
    static const uint8_t families[] = {AF_INET, AF_INET6};
    for (size_t i = 0; i < sizeof families; i++) {
        query.family = families[i];
        int tries = 1;
        while (diag_dump(&query, each, data))
            if (errno != EAGAIN)
                return -1;
            else if (tries++ == TRIES)
                break;
    }
    return 0;
}

uint64_t diag_cookie(const struct inet_diag_msg *message) {
    return message->id.idiag_cookie[0] | (uint64_t)message->id.idiag_cookie[1] << 32;
}

const void *diag_attribute(const struct diag_answer *answer, unsigned short type, size_t size) {
    unsigned left = answer->length;
    const struct rtattr *attribute = answer->attributes;
    for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
        if (attribute->rta_type == type && RTA_PAYLOAD(attribute) >= size)
            return RTA_DATA(attribute);
    return NULL;
}

uint64_t diag_choose(int line, const struct diag_packet *packet) {
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
    } message = {
        .header = {.nlmsg_len = sizeof message,
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST},
        .request = {.sdiag_family = packet->family,
                    .sdiag_protocol = packet->protocol,
                    .id = {.idiag_if = packet->device,
                           .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}},
    };
    struct inet_diag_sockid *id = &message.request.id;
    bool tcp = packet->protocol == IPPROTO_TCP; /* what is source and destination differs */
    memcpy(tcp ? id->idiag_src : id->idiag_dst, packet->address, sizeof packet->address);
    memcpy(tcp ? id->idiag_dst : id->idiag_src, packet->peer, sizeof packet->peer);
    *(tcp ? &id->idiag_sport : &id->idiag_dport) = htons(packet->port);
    *(tcp ? &id->idiag_dport : &id->idiag_sport) = htons(packet->peer_port);

    _Alignas(struct nlmsghdr) char answer[4096];
    if (send(line, &message, sizeof message, 0) < 0)
        return 0;
    ssize_t length = recv(line, answer, sizeof answer, 0);
    if (length < 0)
        return 0;
    const struct nlmsghdr *header = (const void *)answer;
    const struct inet_diag_msg *chosen = NLMSG_DATA(header);
    errno = header->nlmsg_type == NLMSG_ERROR ? end_error(header) : EBADMSG;
    if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY || (size_t)length < NLMSG_LENGTH(sizeof *chosen))
        return 0;
    return diag_cookie(chosen);
}
