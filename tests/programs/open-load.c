/*
 * open-load [-u] [-r RATE] [-t SECONDS] [-T MS] [-s MS] [ADDRESS:]PORT - a load that does not wait
 * for answers: RATE requests a second (100), evenly, whatever comes back.  A client that waits asks
 * less of a server that is slow, and so hides that it is.  Each request is HTTP over a connection
 * of its own, or with -u a datagram from a socket of its own.  It goes on for SECONDS, without -t
 * until SIGTERM or SIGINT, then waits for what is still to come, and prints:
 *
 *     2800 sent, 2797 answered, 3 failed, p50 20.4, p99 61.2, max 93.8 ms
 *     failed: 1 refused, 1 reset, 0 closed, 1 timed out, 0 other
 *
 * How long a request took is counted from when it was begun; the times are of those that were
 * answered.  A request fails that gets no whole answer within MS of -T (5000); "closed" is an end
 * before the answer.  -s: of each MS since the start, by when a request was begun, a line follows:
 * the time in milliseconds, and each server's process id and how many it has answered:
 *
 *     at 300: 4242 17, 4243 12
 */
#define _GNU_SOURCE
#include "http.h"
#include "server-socket.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum outcome { OPEN, ANSWERED, REFUSED, RESET, CLOSED, TIMED_OUT, OTHER, OUTCOMES };

/* Times are in microseconds since the start. */
struct request {
    int fd;
    enum outcome outcome;
    bool asked;
    int64_t begun, took;
    int pid; /* who has answered */
    size_t length;
    char text[256];
};

struct load {
    struct sockaddr_storage server;
    socklen_t server_length;
    bool udp;
    int64_t rate, limit, slot;
    int64_t end; /* when to begin no more */
    int64_t zero;
    int epoll;
    struct request *requests;   /* in the order in which they were begun */
    size_t count, room, oldest; /* before the oldest, none is open */
};

static volatile sig_atomic_t told_to_stop;

static void hear_stop(int number) {
    (void)number;
    told_to_stop = true;
}

static int64_t now(const struct load *load) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000) + time.tv_nsec / 1000 - load->zero;
}

/* ---- A request. */

static void finish(const struct load *load, struct request *request, enum outcome outcome) {
    request->outcome = outcome;
    request->took = now(load) - request->begun;
    close(request->fd);
}

static enum outcome outcome_of(int error) {
    return error == ECONNREFUSED ? REFUSED : error == ECONNRESET || error == EPIPE ? RESET : OTHER;
}

static void begin(struct load *load) {
    if (load->count == load->room) {
        load->room = load->room ? load->room * 2 : 1024;
        load->requests = realloc(load->requests, load->room * sizeof *load->requests);
        if (!load->requests)
            die("realloc");
    }
    struct request *request = &load->requests[load->count];
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u64 = load->count++};
    *request = (struct request){.begun = now(load)};
    request->fd = socket(load->server.ss_family,
                         (load->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (request->fd < 0)
        die("socket");
    if (connect(request->fd, (struct sockaddr *)&load->server, load->server_length) &&
        errno != EINPROGRESS)
        finish(load, request, outcome_of(errno));
    else if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, request->fd, &event))
        die("epoll_ctl");
}

/* The connection can be written to, or it has failed. */
static void ask(const struct load *load, struct request *request) {
    const char *text = load->udp ? "x" : http_request;
    if (send(request->fd, text, strlen(text), MSG_NOSIGNAL) < 0)
        finish(load, request, outcome_of(errno));
    request->asked = true;
}

/* Reads to the end of the answer: of the connection, or of the datagram. */
static void read_on(const struct load *load, struct request *request) {
    size_t room;
    ssize_t got;
    while ((room = sizeof request->text - 1 - request->length) > 0 &&
           (got = read(request->fd, request->text + request->length, room)) > 0) {
        request->length += (size_t)got;
        if (load->udp)
            break;
    }
    if (room && got < 0) {
        if (errno != EAGAIN)
            finish(load, request, outcome_of(errno));
        return;
    }
    const char *body = load->udp ? request->text : http_body(request->text);
    const char *pid = body ? strstr(body, "pid ") : NULL;
    request->pid = pid ? atoi(pid + 4) : 0;
    finish(load, request, body ? ANSWERED : CLOSED);
}

static void go_on(const struct load *load, struct request *request) {
    if (request->outcome == OPEN && !request->asked)
        ask(load, request);
    if (request->outcome == OPEN)
        read_on(load, request);
}

/* Gives up those that have waited too long. */
static void expire(struct load *load) {
    for (; load->oldest < load->count; load->oldest++) {
        struct request *request = &load->requests[load->oldest];
        if (request->outcome == OPEN && now(load) - request->begun < load->limit)
            return;
        if (request->outcome == OPEN)
            finish(load, request, TIMED_OUT);
    }
}

/* ---- All of them. */

static int64_t due(const struct load *load) {
    return (int64_t)load->count * 1000000 / load->rate;
}

static void run(struct load *load) {
    enum { AT_ONCE = 64 };
    struct epoll_event events[AT_ONCE];
    load->zero = now(load);
    while (true) {
        bool more = !told_to_stop && due(load) < load->end;
        if (more && due(load) <= now(load))
            begin(load);
        expire(load);
        if (!more && load->oldest == load->count)
            return;
        int64_t left = more ? due(load) - now(load) : 50000;
        int timeout = left <= 0 ? 0 : left < 50000 ? (int)((left + 999) / 1000) : 50;
        int ready = epoll_wait(load->epoll, events, AT_ONCE, timeout);
        for (int i = 0; i < ready; i++)
            go_on(load, &load->requests[events[i].data.u64]);
    }
}

/* ---- What came of it. */

static int compare(const void *one, const void *other) {
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

static void print_summary(const struct load *load) {
    int64_t *times = calloc(load->count + 1, sizeof *times);
    size_t counts[OUTCOMES] = {0}, n = 0;
    if (!times)
        die("calloc");
    for (size_t i = 0; i < load->count; i++) {
        counts[load->requests[i].outcome]++;
        if (load->requests[i].outcome == ANSWERED)
            times[n++] = load->requests[i].took;
    }
    qsort(times, n, sizeof *times, compare);
    printf("%zu sent, %zu answered, %zu failed, p50 %.1f, p99 %.1f, max %.1f ms\n", load->count, n,
           load->count - n, (double)times[n / 2] / 1e3, (double)times[n * 99 / 100] / 1e3,
           (double)times[n ? n - 1 : 0] / 1e3);
    printf("failed: %zu refused, %zu reset, %zu closed, %zu timed out, %zu other\n",
           counts[REFUSED], counts[RESET], counts[CLOSED], counts[TIMED_OUT], counts[OTHER]);
    free(times);
}

/* Prints how often each process has answered the requests from FIRST to before END. */
static void print_slot(const struct load *load, size_t first, size_t end) {
    const char *before = "";
    printf("at %lld:", (long long)(load->requests[first].begun / load->slot * load->slot / 1000));
    for (size_t i = first; i < end; i++) {
        int pid = load->requests[i].pid, count = 0;
        bool seen = false;
        for (size_t j = first; j < end; j++) {
            seen |= j < i && load->requests[j].pid == pid;
            count += load->requests[j].pid == pid;
        }
        if (pid && !seen) {
            printf("%s %d %d", before, pid, count);
            before = ",";
        }
    }
    putchar('\n');
}

static void print_slots(const struct load *load) {
    for (size_t first = 0, end; first < load->count; first = end) {
        int64_t slot = load->requests[first].begun / load->slot;
        for (end = first; end < load->count && load->requests[end].begun / load->slot == slot;)
            end++;
        print_slot(load, first, end);
    }
}

int main(int argc, char **argv) {
    struct load load = {.rate = 100, .limit = 5000000, .end = INT64_MAX};
    for (int option; (option = getopt(argc, argv, "ur:t:T:s:")) != -1;) {
        if (option == 'u')
            load.udp = true;
        else if (option == 'r')
            load.rate = atoll(optarg);
        else if (option == 't')
            load.end = (int64_t)(atof(optarg) * 1e6);
        else if (option == 'T')
            load.limit = atoll(optarg) * 1000;
        else if (option == 's')
            load.slot = atoll(optarg) * 1000;
        else
            return 2;
    }
    load.server_length = optind < argc ? read_where(argv[optind], &load.server) : 0;
    if (!load.server_length || load.rate < 1) {
        fprintf(stderr, "usage: open-load [-u] [-r RATE] [-t SECONDS] [-T MS] [-s MS] "
                        "[ADDRESS:]PORT\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGTERM, hear_stop);
    signal(SIGINT, hear_stop);
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    run(&load);
    print_summary(&load);
    if (load.slot)
        print_slots(&load);
    free(load.requests);
    return 0;
}
