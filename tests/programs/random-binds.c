/*
 * random-binds [-s] SEED COUNT - makes COUNT random bind() calls, the same for the same SEED, and
 * prints for each the result, errno, SO_REUSEPORT and getsockname() after it:
 *
 *     17 udp6, reuseaddr: 28 bytes at [::1]:7001: 0 errno kept, SO_REUSEPORT 0, [::1]:7001
 *
 * Sockets are of every kind and come in every state, addresses and pointers are good and bad, and
 * one call in three is not the socket's first.  Nothing that it prints may change when it is run
 * with its ports shared, but for SO_REUSEPORT.  That is accounted for: with -s the option has to be
 * what sharing makes of it, as the README says, and is printed as it would be without sharing; else
 * what it is and should be is printed.
 *
 * No bind succeeds only because ports are shared: two sockets of this program are bound to one port
 * only if both have set SO_REUSEPORT, or SO_REUSEADDR, themselves.
 */
#define _GNU_SOURCE
#include "names.h"
#include "socket-kind.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, MARK = 9999, SHORTEST_IN6 = 24 };

/* The page before it can be read and written, that at it cannot. */
static char *edge;

/* Sockets have options that their user sets first. */
enum option { NO_OPTION, REUSEADDR, REUSEPORT, NO_PORT, V6ONLY, NOT_V6ONLY, DEVICE, FREEBIND };

static const char *const option_names[] = {"",          ", reuseaddr", ", reuseport", ", no port",
                                           ", v6 only", ", v4 too",    ", on lo",     ", freebind"};

struct subject {
    struct socket_kind kind;
    int fd;
    enum option option;
    bool no_port;   /* IP_BIND_ADDRESS_NO_PORT was set */
    int own;        /* SO_REUSEPORT, as the program alone would have it */
    int shared;     /* and as sharing makes it */
    uint16_t asked; /* the port of the last call that succeeded */
};

struct address {
    struct sockaddr_storage bytes;
    socklen_t length;  /* as it is said to be */
    const void *place; /* where the call is told that it is */
    bool readable;
    char name[160];
};

/* splitmix64: the next random number after *STATE, below LIMIT. */
static unsigned next_random(uint64_t *state, unsigned limit) {
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (unsigned)((z ^ (z >> 31)) % limit);
}

/* A kind of socket: mostly a named one, mostly of IP. */
static struct socket_kind random_kind(uint64_t *state) {
    static const int domains[] = {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK, AF_PACKET, AF_VSOCK};
    static const int protocols[] = {0,
                                    1,
                                    IPPROTO_TCP,
                                    IPPROTO_UDP,
                                    33,
                                    IPPROTO_ICMPV6,
                                    IPPROTO_SCTP,
                                    IPPROTO_UDPLITE,
                                    255,
                                    IPPROTO_MPTCP};
    enum { FIRST_SHARED = 8, NAMED = sizeof socket_kinds / sizeof *socket_kinds - 1 };
    unsigned which = next_random(state, 8);
    if (which)
        return socket_kinds[next_random(state, which > 2 ? FIRST_SHARED : NAMED)];
    struct socket_kind kind = {"odd", domains[next_random(state, 6)], 0, 0};
    kind.type = (int)next_random(state, 6);
    kind.protocol = protocols[next_random(state, 10)];
    return kind;
}

static bool is_ip(const struct socket_kind *kind) {
    return kind->domain == AF_INET || kind->domain == AF_INET6;
}

/* Asks the kernel what the socket is, as its creator may have said 0 for the protocol. */
static bool is_shareable(const struct subject *subject) {
    int type = -1, protocol = -1;
    socklen_t length = sizeof type;
    if (!is_ip(&subject->kind) || getsockopt(subject->fd, SOL_SOCKET, SO_TYPE, &type, &length) ||
        getsockopt(subject->fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length))
        return false;
    return type == SOCK_STREAM
               ? protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP
               : type == SOCK_DGRAM && (protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE);
}

static bool is_datagram(const struct subject *subject) {
    return subject->kind.type == SOCK_DGRAM;
}

static void set_option(struct subject *subject, enum option option) {
    int fd = subject->fd, on = 1;
    subject->option = option;
    switch (option) {
    case REUSEADDR:
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        break;
    case REUSEPORT:
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0)
            subject->own = subject->shared = reuseport_of(fd);
        break;
    case NO_PORT:
        subject->no_port = setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) == 0;
        break;
    case V6ONLY:
    case NOT_V6ONLY:
        on = option == V6ONLY;
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
        break;
    case DEVICE:
        setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3);
        break;
    case FREEBIND:
        setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof on);
        break;
    case NO_OPTION:
        break;
    }
}

/* A port: of these, or any, but none that the kernel picks by itself, and seldom 0. */
static uint16_t random_port(uint64_t *state) {
    static const uint16_t ports[] = {0, 0, 1, 80, 1023, 1024, 7001, 7002, 7003, 7004, 8000, 65535};
    if (next_random(state, 4))
        return ports[next_random(state, sizeof ports / sizeof *ports)];
    return (uint16_t)(1 + next_random(state, 32000));
}

/* Fills in an address for sockets of DOMAIN, with its text in NAME. */
static void good_address(uint64_t *state, int domain, struct address *address) {
    static const char *const ipv4[] = {"0.0.0.0",   "127.0.0.1", "127.0.0.1",
                                       "127.9.9.9", "192.0.2.1", "224.0.0.1"};
    static const char *const ipv6[] = {"::",      "::1",         "::ffff:127.0.0.1",
                                       "fe80::1", "2001:db8::1", "ff02::1"};
    uint16_t port = random_port(state);
    unsigned which = next_random(state, 6);
    memset(&address->bytes, 0, sizeof address->bytes);
    address->bytes.ss_family = (sa_family_t)domain;
    if (domain == AF_INET6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&address->bytes;
        in6->sin6_port = htons(port);
        in6->sin6_scope_id = which == 3 ? next_random(state, 3) : 0;
        inet_pton(AF_INET6, ipv6[which], &in6->sin6_addr);
        address->length = next_random(state, 8) ? sizeof *in6 : SHORTEST_IN6;
    } else {
        struct sockaddr_in *in = (struct sockaddr_in *)&address->bytes;
        in->sin_port = htons(domain == AF_INET ? port : 0);
        inet_pton(AF_INET, ipv4[which], &in->sin_addr);
        address->length = sizeof *in;
    }
    snprintf(address->name, sizeof address->name, "%s port %u",
             domain == AF_INET6 ? ipv6[which] : ipv4[which], port);
}

static void add_name(struct address *address, const char *what, long number) {
    size_t length = strlen(address->name);
    snprintf(address->name + length, sizeof address->name - length, ", %s %ld", what, number);
}

/* Spoils ADDRESS in one way, or leaves it. */
static void spoil(uint64_t *state, struct address *address) {
    static const int lengths[] = {-1, 0, 1, 2, 3, 4, 15, 16, 17, 23, 24, 27, 28, 29, 127, 128, 129};
    static const uintptr_t places[] = {0, 1, 4095, (uintptr_t)-1, (uintptr_t)-PAGE};
    int length;
    switch (next_random(state, 12)) {
    case 0: /* of another family, that has a meaning for IP or has not */
        address->bytes.ss_family = (sa_family_t)next_random(state, 12);
        add_name(address, "family", address->bytes.ss_family);
        break;
    case 1:
        length = lengths[next_random(state, sizeof lengths / sizeof *lengths)];
        address->length = (socklen_t)length;
        break;
    case 2:
        address->length = next_random(state, 200);
        break;
    case 3:
        address->place = (const void *)places[next_random(state, 5)];
        address->readable = false;
        add_name(address, "bad place", (long)(intptr_t)address->place);
        return;
    case 4: /* what follows the page's end cannot be read */
        length = (int)next_random(state, 32);
        memcpy(edge - length, &address->bytes, (size_t)length);
        address->place = edge - length;
        address->readable = (socklen_t)length >= address->length;
        add_name(address, "readable bytes", length);
        return;
    case 5: /* across the start of a page */
        length = (int)next_random(state, 32);
        memcpy(edge - PAGE - length, &address->bytes, sizeof address->bytes);
        address->place = edge - PAGE - length;
        add_name(address, "bytes before a page", length);
        break;
    default:
        break;
    }
}

/* Fills in an address to bind a socket of KIND to. */
static void random_address(uint64_t *state, const struct socket_kind *kind,
                           struct address *address) {
    bool other = !next_random(state, 12);
    good_address(state, other ? (kind->domain == AF_INET ? AF_INET6 : AF_INET) : kind->domain,
                 address);
    if (kind->domain == AF_UNIX) /* its name stays out of the file system */
        ((char *)&address->bytes)[offsetof(struct sockaddr, sa_data)] = 0;
    address->place = &address->bytes;
    address->readable = true;
    spoil(state, address);
    if (address->length > sizeof address->bytes) /* nobody is to read that many */
        address->readable = false;
}

/* The port of SUBJECT now, 0 if it has none. */
static uint16_t port_of(const struct subject *subject) {
    struct sockaddr_in6 name = {0};
    socklen_t length = sizeof name;
    return getsockname(subject->fd, (struct sockaddr *)&name, &length) ? 0 : ntohs(name.sin6_port);
}

/* What sharing makes of SO_REUSEPORT in a bind of SUBJECT that gave RESULT. */
static void account(struct subject *subject, const struct address *address, int result) {
    const struct sockaddr_in *in = (const void *)&address->bytes; /* IPv6 has its port there too */
    bool in6 = in->sin_family == AF_INET6;
    if (!is_shareable(subject) || !address->readable || address->length < sizeof *in ||
        (in6 && address->length < SHORTEST_IN6) ||
        (!in6 && in->sin_family != AF_INET && in->sin_family != AF_UNSPEC))
        return;
    bool has_port = port_of(subject);
    if (in->sin_port)
        subject->shared = result == 0 || has_port;
    else if (result == 0 && (has_port || !is_datagram(subject)))
        subject->shared = 1;
}

/* Prints the name that SUBJECT has now; not the port that the kernel picked. */
static void print_name(const struct subject *subject) {
    struct sockaddr_storage name = {0};
    socklen_t length = sizeof name;
    char text[INET6_ADDRSTRLEN] = "";
    if (getsockname(subject->fd, (struct sockaddr *)&name, &length)) {
        printf("%s\n", error_name(errno));
        return;
    }
    if (name.ss_family != AF_INET && name.ss_family != AF_INET6) {
        printf("family %d\n", name.ss_family);
        return;
    }
    const struct sockaddr_in *in = (const struct sockaddr_in *)&name;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&name;
    inet_ntop(name.ss_family,
              name.ss_family == AF_INET ? (const void *)&in->sin_addr : &in6->sin6_addr, text,
              sizeof text);
    unsigned port = ntohs(in->sin_port);
    if (port && port != subject->asked)
        printf("[%s]:picked\n", text);
    else
        printf("[%s]:%u\n", text, port);
}

/* Makes one call and prints it as NUMBER. */
static void call(struct subject *subject, const struct address *address, unsigned number,
                 bool sharing) {
    const struct sockaddr_in *in = (const void *)&address->bytes;
    uint16_t asked = ntohs(in->sin_port);
    errno = MARK;
    int result = bind(subject->fd, address->place, address->length);
    int error = errno;
    if (result == 0 && is_ip(&subject->kind))
        subject->asked = asked;
    if (sharing)
        account(subject, address, result);
    printf("%u %s %d %d %d%s: %d bytes at %s: %d %s, SO_REUSEPORT ", number, subject->kind.name,
           subject->kind.domain, subject->kind.type, subject->kind.protocol,
           option_names[subject->option], (int)address->length, address->name, result,
           error == MARK ? "errno kept" : error_name(error));
    int option = reuseport_of(subject->fd), expected = sharing ? subject->shared : subject->own;
    if (option == expected || option < 0)
        printf("%d, ", option < 0 ? option : subject->own);
    else
        printf("%d and not %d, ", option, expected);
    print_name(subject);
}

/* Brings SUBJECT into a state that it may be in before a bind. */
static void prepare(uint64_t *state, struct subject *subject) {
    struct sockaddr_in discard = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    set_option(subject, (enum option)(next_random(state, 3) ? next_random(state, 8) : NO_OPTION));
    if (!is_shareable(subject) || next_random(state, 20))
        return;
    if (is_datagram(subject))
        connect(subject->fd, (struct sockaddr *)&discard, sizeof discard);
    else
        listen(subject->fd, 1);
}

/* Binds up to three times with one socket; now and then another holds the port of the first, and
   both permit that.  Returns the number of calls made. */
static unsigned use_socket(uint64_t *state, unsigned number, bool sharing) {
    struct subject subject = {.kind = random_kind(state)}, neighbour = {.fd = -1};
    bool has_neighbour = !next_random(state, 8);
    unsigned calls = 1 + (next_random(state, 3) ? 0 : next_random(state, 3));
    subject.fd = socket(subject.kind.domain, subject.kind.type, subject.kind.protocol);
    if (subject.fd < 0) {
        printf("%u no socket %d %d %d\n", number, subject.kind.domain, subject.kind.type,
               subject.kind.protocol);
        return 1;
    }
    subject.own = subject.shared = reuseport_of(subject.fd);
    prepare(state, &subject);
    for (unsigned i = 0; i < calls; i++) {
        struct address address;
        random_address(state, &subject.kind, &address);
        if (i == 0 && has_neighbour &&
            (subject.option == REUSEADDR || subject.option == REUSEPORT)) {
            neighbour = subject;
            neighbour.fd = socket(subject.kind.domain, subject.kind.type, subject.kind.protocol);
            set_option(&neighbour, subject.option);
            call(&neighbour, &address, number, sharing);
        }
        call(&subject, &address, number + i, sharing);
    }
    if (neighbour.fd >= 0)
        close(neighbour.fd);
    close(subject.fd);
    return calls;
}

int main(int argc, char **argv) {
    bool sharing = argc == 4 && strcmp(argv[1], "-s") == 0;
    if (argc != 3 + sharing) {
        fprintf(stderr, "random-binds: usage: random-binds [-s] SEED COUNT\n");
        return 2;
    }
    char *pages = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || munmap(pages + 2 * PAGE, PAGE)) {
        perror("random-binds: mmap");
        return 2;
    }
    edge = pages + 2 * PAGE;
    uint64_t state = strtoull(argv[1 + sharing], NULL, 10);
    unsigned count = (unsigned)strtoul(argv[2 + sharing], NULL, 10), number = 0;
    while (number < count)
        number += use_socket(&state, number, sharing);
    return 0;
}
