/*
 * work-server [-r] [-n COPIES] [-c MICROSECONDS] [-w MICROSECONDS] [ADDRESS:]PORT - a small HTTP
 * server that works for its answers: one process, one thread, any number of connections, one
 * request at a time.  It answers with its process id:
 *
 *     pid 4242
 *
 * -c: each answer costs so much time of the processor.  -w: each waits so long, as for a database,
 * and nothing else is done meanwhile.  -r: it sets SO_REUSEPORT itself.  -n: that many processes
 * take connections from the one listening socket.  SIGTERM ends it at once, as it ends most
 * programs.
 *
 * A connection carries one request after the other until the client asks to close it.
 */
#define _GNU_SOURCE
#include "server-socket.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FDS = 4096, MAX_REQUEST = 4096 };

/* What has come of the next request on each connection. */
struct request {
    size_t length;
    char text[MAX_REQUEST];
};

static struct request requests[MAX_FDS];

static int64_t processor_time(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * INT64_C(1000000) + time.tv_nsec / 1000;
}

/* So much of the processor, however often others interrupt it. */
static void compute(int64_t microseconds) {
    int64_t end = processor_time() + microseconds;
    do {
        for (volatile int i = 0; i < 20000; i++)
            continue;
    } while (processor_time() < end);
}

static int listen_at(const char *where, bool shared) {
    struct sockaddr_storage address;
    socklen_t length = read_where(where, &address);
    int on = 1, fd = socket(length ? address.ss_family : AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on))
        die("SO_REUSEPORT");
    if (bind(fd, (struct sockaddr *)&address, length))
        die("bind");
    if (listen(fd, 1024))
        die("listen");
    return fd;
}

/* Of several processes that wait for the same socket, the kernel wakes one. */
static void await(int epoll, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
        die("epoll_ctl");
}

static void take_connection(int epoll, int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (fd >= MAX_FDS) {
        close(fd);
        return;
    }
    requests[fd].length = 0;
    await(epoll, fd, EPOLLIN);
}

/* Returns whether the connection is to stay open. */
static bool answer(int fd, bool last) {
    char body[32], response[256];
    int length = snprintf(body, sizeof body, "pid %d\n", (int)getpid());
    length =
        snprintf(response, sizeof response,
                 "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n%s\r\n%s",
                 length, last ? "Connection: close\r\n" : "", body);
    return write(fd, response, (size_t)length) == length && !last;
}

/* Reads on; a whole request is worked for and answered. */
static void go_on(int fd, int64_t computing, int64_t waiting) {
    struct request *request = &requests[fd];
    ssize_t got = read(fd, request->text + request->length, MAX_REQUEST - 1 - request->length);
    if (got <= 0) {
        close(fd);
        return;
    }
    request->length += (size_t)got;
    request->text[request->length] = 0;
    if (!strstr(request->text, "\r\n\r\n"))
        return;
    bool last = strcasestr(request->text, "\r\nConnection: close") != NULL;
    request->length = 0;
    if (computing)
        compute(computing);
    if (waiting)
        usleep((useconds_t)waiting);
    if (!answer(fd, last))
        close(fd);
}

int main(int argc, char **argv) {
    bool shared = false;
    int copies = 1;
    int64_t computing = 0, waiting = 0;
    for (int option; (option = getopt(argc, argv, "rn:c:w:")) != -1;) {
        if (option == 'r')
            shared = true;
        else if (option == 'n')
            copies = atoi(optarg);
        else if (option == 'c')
            computing = atoll(optarg);
        else if (option == 'w')
            waiting = atoll(optarg);
        else
            return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_at(optind < argc ? argv[optind] : "8000", shared);
    for (int i = 1; i < copies; i++) {
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            break;
        }
    }
    int epoll = epoll_create1(0);
    await(epoll, listener, EPOLLIN | EPOLLEXCLUSIVE);
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(epoll, &event, 1, -1) < 1)
            continue;
        if (event.data.fd == listener)
            take_connection(epoll, listener);
        else
            go_on(event.data.fd, computing, waiting);
    }
}
