/*
 * bind-cost [-r] KIND PORT TIMES K... - prints what it costs to bind the K-th copy of a group to
 * 127.0.0.1:PORT, for each K, in ascending order: the medians of TIMES groups, in nanoseconds.
 *
 *     1000 bind 1210 listen 2040 shared 1
 *
 * KIND is tcp or udp (socket-kind.h).  -r: the program sets SO_REUSEPORT itself, and this is part
 * of the cost.  A TCP socket joins the group in listen(), a UDP socket in bind().  shared is the
 * SO_REUSEPORT that the last of them has.  The copies are sockets of one process: what the kernel
 * does for them is the same.
 */
#include "socket-kind.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static int64_t median(int64_t *values, size_t count) {
    qsort(values, count, sizeof *values, ascending);
    return values[count / 2];
}

/* Binds one more copy; what that and listen() cost goes to *BIND_COST and *LISTEN_COST. */
static int join(const struct socket_kind *kind, in_port_t port, bool shared, int64_t *bind_cost,
                int64_t *listen_cost) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int on = 1, fd = socket(kind->domain, kind->type, kind->protocol);
    if (fd < 0)
        die("socket");
    int64_t start = now();
    if (shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on))
        die("SO_REUSEPORT");
    if (bind(fd, (struct sockaddr *)&address, sizeof address))
        die("bind");
    int64_t bound = now();
    if (kind->type == SOCK_STREAM && listen(fd, 128))
        die("listen");
    *bind_cost = bound - start;
    *listen_cost = now() - bound;
    return fd;
}

/* A thousand copies are more than the usual limit of descriptors allows. */
static void allow_descriptors(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv) {
    bool shared = false;
    for (int option; (option = getopt(argc, argv, "r")) != -1;)
        shared |= option == 'r';
    const struct socket_kind *kind = optind + 3 < argc ? find_socket_kind(argv[optind]) : NULL;
    if (!kind) {
        fprintf(stderr, "usage: bind-cost [-r] KIND PORT TIMES K...\n");
        return 2;
    }
    in_port_t port = (in_port_t)atoi(argv[optind + 1]);
    size_t times = (size_t)atoi(argv[optind + 2]), count = (size_t)(argc - optind - 3);
    char **ks = argv + optind + 3;
    int largest = atoi(ks[count - 1]), last = -1;
    allow_descriptors();

    int *fds = calloc((size_t)largest, sizeof *fds);
    int64_t *binds = calloc(count * times, sizeof *binds);
    int64_t *listens = calloc(count * times, sizeof *listens);
    if (!fds || !binds || !listens)
        die("calloc");
    for (size_t i = 0; i < times; i++) {
        size_t next = 0;
        for (int k = 1; k <= largest; k++) {
            int64_t bind_cost, listen_cost;
            fds[k - 1] = join(kind, port, shared, &bind_cost, &listen_cost);
            if (k != atoi(ks[next]))
                continue;
            binds[next * times + i] = bind_cost;
            listens[next * times + i] = listen_cost;
            next++;
        }
        last = reuseport_of(fds[largest - 1]);
        for (int k = 0; k < largest; k++)
            close(fds[k]);
    }
    for (size_t i = 0; i < count; i++)
        printf("%s bind %jd listen %jd shared %d\n", ks[i],
               (intmax_t)median(binds + i * times, times),
               (intmax_t)median(listens + i * times, times), last);
    return 0;
}
