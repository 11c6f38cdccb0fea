/*
 * bind-in threads|signal|fork|vfork - binds TCP sockets in places where little is allowed, many
 * times, and prints how many were bound and how many of these have SO_REUSEPORT:
 *
 *     3200 bound, 3200 shared
 *
 * threads: 32 at once.  signal: in the handler of a timer's signal, that interrupts the same being
 * done by the program.  fork, vfork: in such a child.
 */
#define _GNU_SOURCE
#include "socket-kind.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PORT = 7000, THREADS = 32, ROUNDS = 100 };

/* Counted also by signal handlers and vfork children, that share the memory. */
static atomic_int bound, shared;

static void bind_one(void) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        return;
    bound += bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    shared += reuseport_of(fd) == 1;
    close(fd);
}

static void *thread(void *unused) {
    for (int i = 0; i < ROUNDS; i++)
        bind_one();
    return unused;
}

static void in_threads(void) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, thread, NULL)) {
            fprintf(stderr, "bind-in: no thread\n");
            exit(2);
        }
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static volatile sig_atomic_t signals;

static void on_signal(int unused) {
    (void)unused;
    signals++;
    bind_one();
}

static void in_signal(void) {
    signal(SIGALRM, on_signal);
    setitimer(ITIMER_REAL,
              &(struct itimerval){.it_interval = {.tv_usec = 500}, .it_value = {.tv_usec = 500}},
              NULL);
    while (signals < ROUNDS)
        bind_one();
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
}

static void in_fork(void) {
    for (int i = 0; i < ROUNDS; i++) {
        pid_t child = fork();
        if (child == 0) {
            bound = shared = 0;
            bind_one();
            _exit(bound == 1 && shared == 1 ? 0 : 1);
        }
        int status = -1;
        waitpid(child, &status, 0);
        bound += status == 0;
        shared += status == 0;
    }
}

static void in_vfork(void) {
    for (int i = 0; i < ROUNDS; i++) {
        pid_t child = vfork();
        if (child == 0) {
            bind_one();
            _exit(0);
        }
        waitpid(child, NULL, 0);
    }
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } places[] = {
        {"threads", in_threads}, {"signal", in_signal}, {"fork", in_fork}, {"vfork", in_vfork}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (argc == 2 && strcmp(argv[1], places[i].name) == 0) {
            places[i].run();
            printf("%d bound, %d shared\n", bound, shared);
            return 0;
        }
    }
    fprintf(stderr, "bind-in: usage: bind-in threads|signal|fork|vfork\n");
    return 2;
}
