/*
 * http-load [-c CLIENTS] [-n REQUESTS] [ADDRESS:]PORT - a load for an HTTP server that closes the
 * connection after each answer: CLIENTS at once, each request over a connection of its own, until
 * REQUESTS are answered or, without -n, until SIGTERM.  It then prints how many were answered, how
 * many failed, and the longest that a client waited for an answer:
 *
 *     48211 answered, 12 failed, longest 20731 microseconds
 *
 * A request fails when it does not get the whole answer: the connection is refused or reset, or
 * closed too early, or nothing comes for 5 seconds.  The client then tries again, 10 milliseconds
 * later, and goes on waiting.
 */
#include "http.h"
#include "server-socket.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_storage server;
static socklen_t server_length;
static atomic_bool stopped;
static atomic_long left = LONG_MAX, answered, failed, longest;

static long microseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static bool ask(void) {
    struct timeval limit = {.tv_sec = 5};
    char text[4096];
    size_t length = 0;
    ssize_t got = -1;
    int fd = socket(server.ss_family, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&server, server_length) == 0 &&
        send(fd, http_request, sizeof http_request - 1, MSG_NOSIGNAL) == sizeof http_request - 1)
        while ((got = read(fd, text + length, sizeof text - 1 - length)) > 0)
            length += (size_t)got;
    close(fd);
    text[length] = 0;
    return got == 0 && http_body(text);
}

static void *be_client(void *unused) {
    (void)unused;
    while (!stopped && atomic_fetch_sub(&left, 1) > 0) {
        long start = microseconds();
        bool done = false;
        while (!(done = ask()) && !stopped) {
            failed++;
            usleep(10000);
        }
        long waited = microseconds() - start, known = longest;
        while (waited > known && !atomic_compare_exchange_weak(&longest, &known, waited))
            continue;
        answered += done;
        failed += !done;
    }
    return NULL;
}

int main(int argc, char **argv) {
    enum { MAX_CLIENTS = 256 };
    int clients = 16;
    bool endless = true;
    for (int option; (option = getopt(argc, argv, "c:n:")) != -1;) {
        if (option == 'c') {
            clients = atoi(optarg);
        } else if (option == 'n') {
            left = atol(optarg);
            endless = false;
        } else {
            return 2;
        }
    }
    server_length = read_where(optind < argc ? argv[optind] : "8000", &server);
    if (!server_length || clients < 1 || clients > MAX_CLIENTS) {
        fprintf(stderr, "usage: http-load [-c CLIENTS] [-n REQUESTS] [ADDRESS:]PORT\n");
        return 2;
    }
    /* No client is to be interrupted: the signal is taken by this thread, when it asks for it. */
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigprocmask(SIG_BLOCK, &end, NULL);
    pthread_t threads[MAX_CLIENTS];
    for (int i = 0; i < clients; i++)
        if (pthread_create(&threads[i], NULL, be_client, NULL))
            die("pthread_create");
    int signal_number;
    if (endless)
        sigwait(&end, &signal_number);
    stopped = endless;
    for (int i = 0; i < clients; i++)
        pthread_join(threads[i], NULL);
    printf("%ld answered, %ld failed, longest %ld microseconds\n", answered, failed, longest);
    return 0;
}
