/*
 * random-lists REUSE-CGROUP SEED LISTS BINDS - in a cgroup of its own: has the tool REUSE-CGROUP
 * turn on sharing there for each of LISTS random port lists, makes BINDS random binds under each,
 * and compares what the kernel has made of SO_REUSEPORT with what ports_plan() says.  Prints the
 * lists and binds that they do not agree on, and at the end how many there were, and how many
 * shared:
 *
 *     tcp6 [::1]:8000 under 8000/udp: shared, and not to be
 *     1000 lists, 100000 binds, 23456 shared
 *
 * The binds need not succeed: the option is set before that is decided, and stays.
 */
#define _GNU_SOURCE
#include "ports.h"
#include "socket-kind.h"

#include <arpa/inet.h>
#include <spawn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { LIST_SIZE = PORTS_MAX * 80, SHORTEST_IN6 = 24 };

static const char *const addresses[] = {"0.0.0.0",
                                        "127.0.0.1",
                                        "127.0.0.2",
                                        "10.1.2.3",
                                        "255.255.255.255",
                                        "::",
                                        "::ffff:127.0.0.1",
                                        "::ffff:0.0.0.0",
                                        "::1",
                                        "::2",
                                        "::fffe:127.0.0.1",
                                        "2001:db8::1",
                                        "2001:db8:0:1::1",
                                        "2001:db8::1:0:0:1",
                                        "fe80::1"};
enum { ADDRESSES = sizeof addresses / sizeof *addresses };

/* splitmix64: the next random number after *STATE, below LIMIT. */
static unsigned next_random(uint64_t *state, unsigned limit) {
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (unsigned)((z ^ (z >> 31)) % limit);
}

/* A port, mostly one of few, so that items and binds meet. */
static unsigned random_port(uint64_t *state) {
    static const unsigned ends[] = {1, 2, 255, 256, 32767, 32768, 65534, 65535};
    switch (next_random(state, 4)) {
    case 0:
        return ends[next_random(state, sizeof ends / sizeof *ends)];
    case 1:
        return 1 + next_random(state, 65535);
    default:
        return 8000 + next_random(state, 16);
    }
}

/* Appends a random item to the list at TEXT, which has room for it; returns where that ends. */
static char *random_item(uint64_t *state, char *text) {
    static const char *const protocols[] = {"", "", "/tcp", "/udp"};
    const char *address = addresses[next_random(state, ADDRESSES)];
    unsigned first = random_port(state), last = random_port(state);
    if (next_random(state, 2))
        text += sprintf(text, strchr(address, ':') ? "[%s]:" : "%s:", address);
    text += sprintf(text, "%u", first);
    if (last >= first && next_random(state, 2))
        text += sprintf(text, "-%u", last);
    return text + sprintf(text, "%s", protocols[next_random(state, 4)]);
}

/* Now and then of one item, or full. */
static void random_list(uint64_t *state, char *text) {
    unsigned count = 1 + next_random(state, next_random(state, 4) ? 8 : PORTS_MAX);
    if (!next_random(state, 16))
        count = PORTS_MAX;
    for (unsigned i = 0; i < count; i++) {
        if (i)
            *text++ = ',';
        text = random_item(state, text);
    }
}

/* Runs "TOOL --ports=LIST self"; exits if it fails. */
static void turn_on(char *tool, const char *list) {
    static char option[LIST_SIZE + 16], self[] = "self";
    char *arguments[] = {tool, option, self, NULL};
    pid_t child;
    int status = -1;
    snprintf(option, sizeof option, "--ports=%s", list);
    if (posix_spawn(&child, tool, NULL, NULL, arguments, environ) ||
        waitpid(child, &status, 0) != child || status != 0) {
        fprintf(stderr, "random-lists: %s %s: status %d\n", tool, option, status);
        exit(2);
    }
}

struct try {
    const struct socket_kind *kind;
    int protocol;
    struct sockaddr_storage address;
    socklen_t length;
    bool unspecified; /* of AF_UNSPEC, as AF_INET sockets may be bound */
    char name[INET6_ADDRSTRLEN];
    unsigned port;
};

/* A bind of any kind of socket that tells of its SO_REUSEPORT (MPTCP does not) to a port that is
   that of an item of PORTS, beside one, or any; to the item's address, or any. */
static void random_bind(uint64_t *state, const struct ports *ports, struct try *try) {
    static const char *const kinds[] = {"tcp", "tcp6", "udp", "udp6", "udplite", "udplite6"};
    static const int protocols[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE};
    unsigned which = next_random(state, 6);
    const struct ports_item *item = &ports->items[next_random(state, ports->count)];
    const unsigned near[] = {item->first, item->last, item->first - 1U, item->last + 1U,
                             random_port(state)};
    struct in6_addr in6;
    inet_pton(AF_INET6, "::ffff:0.0.0.0", &in6);
    const char *text = addresses[next_random(state, ADDRESSES)];
    if (inet_pton(AF_INET6, text, &in6) != 1)
        inet_pton(AF_INET, text, &in6.s6_addr[12]);
    if (!item->any_address && next_random(state, 2))
        memcpy(&in6, item->address, sizeof in6);
    *try = (struct try){.kind = find_socket_kind(kinds[which]), .protocol = protocols[which / 2]};
    try->port = next_random(state, 16) ? near[next_random(state, 5)] & 0xffff : 0;
    struct sockaddr_in *to = (struct sockaddr_in *)&try->address;
    struct sockaddr_in6 *to6 = (struct sockaddr_in6 *)&try->address;
    to->sin_port = htons((uint16_t)try->port); /* IPv6 has it there too */
    if (try->kind->domain == AF_INET6) {
        to6->sin6_family = AF_INET6;
        to6->sin6_addr = in6;
        try->length = next_random(state, 4) ? sizeof *to6 : SHORTEST_IN6;
    } else {
        try->unspecified = !next_random(state, 8);
        to->sin_family = try->unspecified ? AF_UNSPEC : AF_INET;
        memcpy(&to->sin_addr, &in6.s6_addr[12], sizeof to->sin_addr);
        try->length = sizeof *to;
    }
    inet_ntop(try->kind->domain, try->kind->domain == AF_INET6 ? (void *)&in6 : &to->sin_addr,
              try->name, sizeof try->name);
}

/* Makes the bind; returns the socket's SO_REUSEPORT after it. */
static int make(const struct try *try) {
    int fd = socket(try->kind->domain, try->kind->type, try->kind->protocol);
    if (fd < 0) {
        perror("random-lists: socket");
        exit(2);
    }
    if (bind(fd, (const struct sockaddr *)&try->address, try->length)) {
        /* It does not matter. */
    }
    int shared = reuseport_of(fd);
    close(fd);
    return shared;
}

int main(int argc, char **argv) {
    static char list[LIST_SIZE];
    static struct ports ports;
    if (argc != 5) {
        fprintf(stderr, "usage: random-lists REUSE-CGROUP SEED LISTS BINDS\n");
        return 2;
    }
    uint64_t state = strtoull(argv[2], NULL, 10);
    unsigned lists = (unsigned)atoi(argv[3]), binds = (unsigned)atoi(argv[4]), shared = 0;
    for (unsigned i = 0; i < lists; i++) {
        struct ports_error error;
        random_list(&state, list);
        if (!ports_read(&ports, list, &error)) {
            fprintf(stderr, "random-lists: %s: %s\n", list, error.reason);
            return 2;
        }
        turn_on(argv[1], list);
        for (unsigned j = 0; j < binds; j++) {
            struct try try;
            random_bind(&state, &ports, &try);
            int is = make(&try);
            int should = ports_plan(&ports, try.protocol, (struct sockaddr *)&try.address,
                                    try.length) == PORTS_SHARE_BEFORE;
            shared += is == 1;
            if (is != should)
                printf("%s%s [%s]:%u under %s: %s\n", try.kind->name,
                       try.unspecified ? ", AF_UNSPEC" : "", try.name, try.port, list,
                       is ? "shared, and not to be" : "not shared, and to be");
        }
    }
    printf("%u lists, %u binds, %u shared\n", lists, lists * binds, shared);
    return 0;
}
