/*
 * ports.c - reads LIBREUSE_PORTS and decides about binds; see ports.h.
 */
#include "ports.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

/* The shortest sockaddr_in6 that the kernel takes: RFC 2133's, without a scope id. */
enum { SIN6_LENGTH_MIN = 24 };

/* A piece of the list: from START up to END. */
struct span {
    const char *start, *end;
};

static const char *find(struct span in, char c) {
    for (const char *p = in.start; p < in.end; p++)
        if (*p == c)
            return p;
    return NULL;
}

static bool is(struct span text, const char *word) {
    size_t length = strlen(word);
    return (size_t)(text.end - text.start) == length && memcmp(text.start, word, length) == 0;
}

/* Reads a port, 1 to 65535 in at most five digits; returns 0 if it is not one. */
static uint16_t read_port(struct span text) {
    unsigned port = 0;
    if (text.end - text.start > 5)
        return 0;
    for (const char *p = text.start; p < text.end; p++) {
        if (*p < '0' || *p > '9')
            return 0;
        port = port * 10 + (unsigned)(*p - '0');
    }
    return port <= UINT16_MAX ? (uint16_t)port : 0;
}

static void map_ipv4(uint8_t mapped[16], const struct in_addr *address) {
    memset(mapped, 0, 10);
    memset(mapped + 10, 0xff, 2);
    memcpy(mapped + 12, address, 4);
}

/* Each read_... takes its part of an item and returns what is wrong with it, NULL if nothing. */

static const char *read_address(struct ports_item *item, struct span text) {
    char name[INET6_ADDRSTRLEN] = {0};
    bool bracketed = text.start < text.end && *text.start == '[';
    if (bracketed) {
        if (text.end[-1] != ']')
            return "the bracket is not closed";
        text.start++;
        text.end--;
    }
    size_t length = (size_t)(text.end - text.start);
    if (length >= sizeof name)
        return "the address is too long";
    memcpy(name, text.start, length);
    struct in_addr ipv4;
    if (bracketed) {
        if (inet_pton(AF_INET6, name, item->address) != 1)
            return "the brackets hold no IPv6 address";
    } else if (inet_pton(AF_INET, name, &ipv4) == 1) {
        map_ipv4(item->address, &ipv4);
    } else if (find(text, ':')) {
        return "an IPv6 address goes in brackets";
    } else {
        return "an address is numeric, such as 127.0.0.1 or [::1]";
    }
    return NULL;
}

static const char *read_range(struct ports_item *item, struct span text) {
    const char *dash = find(text, '-');
    item->first = read_port((struct span){text.start, dash ? dash : text.end});
    item->last = dash ? read_port((struct span){dash + 1, text.end}) : item->first;
    if (!item->first || !item->last)
        return "a port is a number from 1 to 65535";
    if (item->first > item->last)
        return "the range runs backwards";
    return NULL;
}

static const char *read_item(struct ports_item *item, struct span text) {
    if (text.start == text.end)
        return "an item is empty";
    *item = (struct ports_item){.tcp = true, .udp = true, .any_address = true};

    const char *slash = find(text, '/');
    if (slash) {
        struct span protocol = {slash + 1, text.end};
        item->tcp = is(protocol, "tcp");
        item->udp = is(protocol, "udp");
        if (!item->tcp && !item->udp)
            return "a protocol is tcp or udp";
        text.end = slash;
    }

    const char *colon = NULL;
    if (*text.start == '[' && !find(text, ']'))
        return "the bracket is not closed";
    for (const char *p = text.start; p < text.end; p++)
        if (*p == ':')
            colon = p;
    if (colon && *text.start == '[' && find(text, ']') > colon)
        return "the port is missing";
    if (colon) {
        item->any_address = false;
        const char *wrong = read_address(item, (struct span){text.start, colon});
        if (wrong)
            return wrong;
        text.start = colon + 1;
    }
    return read_range(item, text);
}

bool ports_read(struct ports *ports, const char *list, struct ports_error *error) {
    ports->listed = list;
    ports->count = 0;
    while (list) {
        struct span text = {list, list + strcspn(list, ",")};
        const char *wrong = ports->count < PORTS_MAX ? read_item(&ports->items[ports->count], text)
                                                     : "the list has more than 128 items";
        if (wrong) {
            ports->count = 0;
            *error = (struct ports_error){list, (size_t)(text.end - text.start), wrong};
            return false;
        }
        ports->count++;
        list = *text.end ? text.end + 1 : NULL;
    }
    return true;
}

bool ports_shareable(int type, int protocol) {
    switch (protocol) {
    case PROTOCOL_TCP:
    case PROTOCOL_MPTCP:
        return type == SOCK_STREAM;
    case PROTOCOL_UDP:
    case PROTOCOL_UDPLITE:
        return type == SOCK_DGRAM;
    default:
        return false;
    }
}

static bool included(const struct ports *ports, int protocol, uint16_t port,
                     const uint8_t address[16]) {
    bool tcp = protocol == PROTOCOL_TCP || protocol == PROTOCOL_MPTCP;
    for (unsigned i = 0; i < ports->count; i++) {
        const struct ports_item *item = &ports->items[i];
        if ((tcp ? item->tcp : item->udp) && item->first <= port && port <= item->last &&
            (item->any_address || memcmp(item->address, address, 16) == 0))
            return true;
    }
    return false;
}

enum ports_plan ports_plan(const struct ports *ports, int protocol, const struct sockaddr *address,
                           socklen_t length) {
    uint16_t port;
    uint8_t ip[16];
    sa_family_t family;
    if (length < sizeof(struct sockaddr_in))
        return PORTS_IGNORE;
    memcpy(&family, &address->sa_family, sizeof family);
    if (family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
        if (length < SIN6_LENGTH_MIN)
            return PORTS_IGNORE;
        port = ntohs(in6->sin6_port);
        memcpy(ip, &in6->sin6_addr, sizeof ip);
    } else if (family == AF_INET || family == AF_UNSPEC) {
        /* The kernel takes AF_UNSPEC for AF_INET (bind(2) says nothing of it; inet_bind() does). */
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
        port = ntohs(in->sin_port);
        map_ipv4(ip, &in->sin_addr);
    } else {
        return PORTS_IGNORE;
    }
    if (port == 0)
        return ports->listed ? PORTS_LEAVE_OUT : PORTS_SHARE_AFTER;
    if (ports->listed && !included(ports, protocol, port, ip))
        return PORTS_LEAVE_OUT;
    return PORTS_SHARE_BEFORE;
}
