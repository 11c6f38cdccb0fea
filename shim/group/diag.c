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

/* What the kernel runs to see whether a local port is the one: both comparisons hold, and then it
   goes to the end, or it goes on with the next port (inet_diag_bc_run()). */
struct port_filter {
    struct inet_diag_bc_op least, least_port, most, most_port, found;
};

/* The filter for the ports of QUERY. */
static void write_filter(struct port_filter *filter, const struct diag_query *query) {
    enum { COMPARISON = 2 * sizeof(struct inet_diag_bc_op), OUT = sizeof(struct inet_diag_bc_op) };
    for (size_t i = 0; i < query->port_count; i++) {
        uint16_t port = query->ports[i];
        size_t left = (query->port_count - i) * sizeof *filter;
        /* The last one's way out is behind the end, which is where the kernel leaves it out. */
        unsigned short out = i + 1 < query->port_count ? 0 : OUT;
        filter[i] = (struct port_filter){
            .least = {INET_DIAG_BC_S_GE, COMPARISON, (unsigned short)(sizeof *filter + out)},
            .least_port = {.no = port},
            .most = {INET_DIAG_BC_S_LE, COMPARISON,
                     (unsigned short)(sizeof *filter - COMPARISON + out)},
            .most_port = {.no = port},
            .found = {INET_DIAG_BC_JMP, OUT, (unsigned short)(left - 2 * COMPARISON)},
        };
    }
}

/* Sends QUERY over LINE; returns 0, or -1 and errno. */
static int ask(int line, const struct diag_query *query) {
    struct port_filter *filter = calloc(query->port_count + 1, sizeof *filter);
    if (!filter)
        return -1;
    write_filter(filter, query);
    struct rtattr attribute = {
        .rta_len = (unsigned short)RTA_LENGTH(query->port_count * sizeof *filter),
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
        {filter, query->port_count * sizeof *filter},
    };
    int count = query->port_count ? 3 : 1;
    for (int i = 0; i < count; i++)
        message.header.nlmsg_len += (uint32_t)pieces[i].iov_len;
    ssize_t sent = writev(line, pieces, count);
    int error = errno;
    free(filter);
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

/* Has EACH take what the kernel answers; returns 0, or -1 and errno. */
static int take_all(int line, diag_fn *each, void *data) {
    _Alignas(struct nlmsghdr) char buffer[32768]; /* the most that a piece has: netlink_dump() */
    for (bool changed = false;;) {
        ssize_t length = recv(line, buffer, sizeof buffer, MSG_TRUNC);
        if (length > (ssize_t)sizeof buffer)
            errno = EMSGSIZE;
        if (length < 0 || length > (ssize_t)sizeof buffer)
            return -1;
        unsigned left = (unsigned)length;
        const struct nlmsghdr *header = (const void *)buffer;
        for (; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
            changed |= header->nlmsg_flags & NLM_F_DUMP_INTR;
            /* An error's message begins with its number, as that of the end does. */
            if (header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR) {
                int error = end_error(header);
                errno = !error && changed ? EAGAIN : error;
                return errno ? -1 : 0;
            }
            if (!take(header, each, data))
                return -1;
        }
    }
}

int diag_dump(const struct diag_query *query, diag_fn *each, void *data) {
    if (query->port_count > DIAG_PORTS) {
        errno = E2BIG;
        return -1;
    }
    int line = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (line < 0)
        return -1;
    int result = ask(line, query);
    if (result == 0)
        result = take_all(line, each, data);
    int error = errno;
    close(line);
    errno = error;
    return result;
}

const void *diag_attribute(const struct diag_answer *answer, unsigned short type, size_t size) {
    unsigned left = answer->length;
    const struct rtattr *attribute = answer->attributes;
    for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
        if (attribute->rta_type == type && RTA_PAYLOAD(attribute) >= size)
            return RTA_DATA(attribute);
    return NULL;
}
