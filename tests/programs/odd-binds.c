/*
 * odd-binds [KIND]... - makes some thousand bind() calls, most of them wrong in some way, each in a
 * child process, and prints how each ended: the result, errno, and SO_REUSEPORT where the bind
 * failed or the socket is none of TCP or UDP.  A crash is an outcome too.  What it prints must not
 * change when the program is run with its ports shared.  KINDs (socket-kind.h) limit it to sockets
 * of these.
 */
#define _GNU_SOURCE
#include "names.h"
#include "socket-kind.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PORT = 7000, PAGE = 4096, MARK = 9999 };

/* The last bytes that can be read: what follows is not mapped. */
static char *edge;

/* One call: what it is called in the output, and what it takes. */
struct odd_bind {
    char name[128];
    const struct socket_kind *kind; /* NULL: FD is the descriptor */
    int fd;
    const void *address;
    socklen_t length;
    const struct sockaddr_storage *bound_before; /* a first bind, to this, of BEFORE_LENGTH */
    socklen_t before_length;
    bool shared_before; /* SO_REUSEPORT is set by the program itself */
};

static bool is_tcp_or_udp(const struct socket_kind *kind) {
    return strncmp(kind->name, "tcp", 3) == 0 || strncmp(kind->name, "udp", 3) == 0 ||
           strncmp(kind->name, "mptcp", 5) == 0;
}

/* In the child: makes the call and prints its outcome. */
static void call(const struct odd_bind *odd) {
    int fd = odd->fd, on = 1;
    if (odd->kind) {
        fd = socket(odd->kind->domain, odd->kind->type, odd->kind->protocol);
        if (fd < 0) {
            printf("no socket\n");
            return;
        }
    }
    if (odd->shared_before)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (odd->bound_before)
        bind(fd, (const struct sockaddr *)odd->bound_before, odd->before_length);
    errno = MARK;
    int result = bind(fd, odd->address, odd->length);
    int error = errno;
    printf("%d %s", result, error == MARK ? "errno kept" : error_name(error));
    if (odd->kind && !odd->bound_before && !odd->shared_before &&
        (result || !is_tcp_or_udp(odd->kind)))
        printf(", SO_REUSEPORT %d", reuseport_of(fd));
    printf("\n");
}

static void try(const struct odd_bind *odd) {
    printf("%s: ", odd->name);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        call(odd);
        fflush(stdout);
        _exit(0);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) < 0) {
        perror("odd-binds");
        exit(2);
    }
    if (WIFSIGNALED(status))
        printf("killed by signal %d\n", WTERMSIG(status));
}

/* A good address for sockets of KIND: port PORT on loopback; for other kinds than IP no port, so
   that a Unix socket gets no path in the file system. */
static socklen_t good_address(const struct socket_kind *kind, struct sockaddr_storage *address) {
    memset(address, 0, sizeof *address);
    if (kind->domain == AF_INET6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(PORT);
        in6->sin6_addr = in6addr_loopback;
        return sizeof *in6;
    }
    struct sockaddr_in *in = (struct sockaddr_in *)address;
    in->sin_family = AF_INET;
    if (kind->domain != AF_INET)
        return sizeof *in;
    in->sin_port = htons(PORT);
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return sizeof *in;
}

/* Returns a call of a socket of KIND, to be completed. */
static struct odd_bind odd_bind(const struct socket_kind *kind, const char *what, int number) {
    struct odd_bind odd = {.kind = kind};
    snprintf(odd.name, sizeof odd.name, "%s, %s %d", kind->name, what, number);
    return odd;
}

static void try_families(const struct socket_kind *kind) {
    for (int family = 0; family <= 46; family++) {
        struct sockaddr_storage address;
        struct odd_bind odd = odd_bind(kind, "address family", family);
        odd.length = good_address(kind, &address);
        odd.address = &address;
        address.ss_family = (sa_family_t)family;
        try(&odd);
    }
}

static void try_lengths(const struct socket_kind *kind) {
    for (int length = -1; length <= 129; length++) {
        struct sockaddr_storage address;
        struct odd_bind odd = odd_bind(kind, "length", length);
        good_address(kind, &address);
        odd.address = &address;
        odd.length = (socklen_t)length;
        try(&odd);
    }
}

static void try_pointers(const struct socket_kind *kind) {
    /* Not too far below the top: there the stack of a 32-bit program can be. */
    static const uintptr_t bad[] = {0, 1, 4095, (uintptr_t)-1, (uintptr_t)-4096};
    struct sockaddr_storage address;
    socklen_t length = good_address(kind, &address);
    for (int i = 0; i < (int)(sizeof bad / sizeof *bad); i++) {
        struct odd_bind odd = odd_bind(kind, "bad pointer", i);
        odd.address = (const void *)bad[i];
        odd.length = length;
        try(&odd);
    }
    for (int present = 0; present <= (int)length; present++) {
        struct odd_bind odd = odd_bind(kind, "bytes before an unmapped page:", present);
        memcpy(edge - present, &address, (size_t)present);
        odd.address = edge - present;
        odd.length = length;
        try(&odd);
    }
    for (int after = 1; after < (int)length; after++) {
        struct odd_bind odd = odd_bind(kind, "bytes after a page's start:", after);
        char *start = edge - PAGE - (int)length + after;
        memcpy(start, &address, length);
        odd.address = start;
        odd.length = length;
        try(&odd);
    }
}

static void try_second_bind(const struct socket_kind *kind) {
    struct sockaddr_storage first, second;
    struct odd_bind odd = odd_bind(kind, "second bind to port", PORT + 1);
    odd.length = odd.before_length = good_address(kind, &first);
    good_address(kind, &second);
    ((struct sockaddr_in *)&second)->sin_port = htons(PORT + 1); /* in6 has it there too */
    odd.bound_before = &first;
    odd.address = &second;
    try(&odd);
    odd.address = &first;
    snprintf(odd.name, sizeof odd.name, "%s, second bind to the same port", kind->name);
    try(&odd);
    odd.bound_before = NULL;
    odd.shared_before = true;
    snprintf(odd.name, sizeof odd.name, "%s, shared by itself", kind->name);
    try(&odd);
}

static void try_ports(const struct socket_kind *kind) {
    static const int ports[] = {0, 1, 80, 1023, 1024, 65535};
    for (int i = 0; i < (int)(sizeof ports / sizeof *ports); i++) {
        struct sockaddr_storage address;
        struct odd_bind odd = odd_bind(kind, "port", ports[i]);
        odd.length = good_address(kind, &address);
        ((struct sockaddr_in *)&address)->sin_port = htons((uint16_t)ports[i]);
        odd.address = &address;
        try(&odd);
    }
}

static void try_addresses(const struct socket_kind *kind) {
    static const char *const ipv4[] = {"0.0.0.0",   "127.0.0.2",      "127.255.255.255",
                                       "192.0.2.1", "224.0.0.1",      "239.255.255.250",
                                       "240.0.0.1", "255.255.255.255"};
    static const char *const ipv6[] = {
        "::",      "::1",         "::ffff:127.0.0.1", "::ffff:0.0.0.0",
        "fe80::1", "ff02::1",     "ff0e::1",          "2001:db8::1",
        "::2",     "::127.0.0.1", "::ffff:192.0.2.1"};
    bool is_ipv6 = kind->domain == AF_INET6;
    int count = is_ipv6 ? sizeof ipv6 / sizeof *ipv6 : sizeof ipv4 / sizeof *ipv4;
    for (int i = 0; i < count; i++) {
        struct sockaddr_storage address;
        struct odd_bind odd = {.kind = kind, .length = good_address(kind, &address)};
        snprintf(odd.name, sizeof odd.name, "%s, address %s", kind->name,
                 is_ipv6 ? ipv6[i] : ipv4[i]);
        if (is_ipv6)
            inet_pton(AF_INET6, ipv6[i], &((struct sockaddr_in6 *)&address)->sin6_addr);
        else
            inet_pton(AF_INET, ipv4[i], &((struct sockaddr_in *)&address)->sin_addr);
        odd.address = &address;
        try(&odd);
    }
}

static void try_descriptors(void) {
    struct sockaddr_storage address;
    socklen_t length = good_address(&socket_kinds[0], &address);
    int pipes[2];
    if (pipe(pipes)) {
        perror("odd-binds: pipe");
        exit(2);
    }
    const struct odd_bind odd[] = {
        {.name = "descriptor -1", .fd = -1, .address = &address, .length = length},
        {.name = "descriptor 9999", .fd = 9999, .address = &address, .length = length},
        {.name = "a pipe", .fd = pipes[0], .address = &address, .length = length},
        {.name = "a file",
         .fd = open("/dev/null", O_RDONLY),
         .address = &address,
         .length = length},
        {.name = "an O_PATH", .fd = open("/", O_PATH), .address = &address, .length = length},
        {.name = "descriptor -1 and NULL", .fd = -1},
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        try(&odd[i]);
}

/* Whether the command line names KIND, or none at all. */
static bool wanted(const struct socket_kind *kind, char **names) {
    bool any = !*names;
    for (; *names; names++)
        any |= strcmp(kind->name, *names) == 0;
    return any;
}

int main(int argc, char **argv) {
    (void)argc;
    char *pages = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || munmap(pages + 2 * PAGE, PAGE)) {
        perror("odd-binds: mmap");
        return 2;
    }
    edge = pages + 2 * PAGE;
    try_descriptors();
    for (const struct socket_kind *kind = socket_kinds; kind->name; kind++) {
        if (!wanted(kind, argv + 1))
            continue;
        try_families(kind);
        try_lengths(kind);
        try_pointers(kind);
        if (kind->domain == AF_INET || kind->domain == AF_INET6) {
            try_ports(kind);
            try_addresses(kind);
            try_second_bind(kind);
        }
    }
    return 0;
}
