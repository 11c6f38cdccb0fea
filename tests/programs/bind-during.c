/*
 * bind-during execs|threads COUNT - binds without a pause while something else goes on.
 *
 * execs: the first thread binds, and another runs the program anew, COUNT times in all; then
 * prints "done".  threads: COUNT threads bind, and "all bind" is printed; after a line on standard
 * input, each that makes no two more binds within a minute is counted:
 *
 *     all bind
 *     0 stuck
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PORT = 7000, THREADS_MAX = 64 };

static void bind_once(void) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bind(fd, (struct sockaddr *)&address, sizeof address);
    close(fd);
}

static void *run_anew(void *count) {
    char left[16];
    snprintf(left, sizeof left, "%d", *(int *)count - 1);
    usleep(300 + (useconds_t)getpid() * 7919 % 500 + (useconds_t)(*(int *)count * 37 % 500));
    execl("/proc/self/exe", "bind-during", "execs", left, (char *)NULL);
    return NULL;
}

static void during_execs(int count) {
    pthread_t other;
    bind_once(); /* the loader has done its work then */
    pthread_create(&other, NULL, run_anew, &count);
    for (;;)
        bind_once();
}

static atomic_long binds[THREADS_MAX];

static void *bind_on(void *counter) {
    for (;;) {
        bind_once();
        ++*(atomic_long *)counter;
    }
    return NULL;
}

/* Waits until each counter is two more than in BEFORE, as one bind may have been on its way; a
 * minute at most.  Returns how many are not. */
static int count_stuck(int count, const long *before) {
    int stuck = count;
    for (int tries = 0; stuck && tries < 6000; tries++) {
        usleep(10 * 1000);
        stuck = 0;
        for (int i = 0; i < count; i++)
            stuck += binds[i] < before[i] + 2;
    }
    return stuck;
}

static void during_threads(int count) {
    long before[THREADS_MAX] = {0};
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, bind_on, &binds[i]);
    }
    if (count_stuck(count, before) == 0)
        puts("all bind");
    fflush(stdout);
    getchar();
    for (int i = 0; i < count; i++)
        before[i] = binds[i];
    printf("%d stuck\n", count_stuck(count, before));
}

int main(int argc, char **argv) {
    int count = argc == 3 ? atoi(argv[2]) : -1;
    if (count >= 0 && count <= THREADS_MAX && strcmp(argv[1], "threads") == 0) {
        during_threads(count);
        return 0;
    }
    if (count > 0 && strcmp(argv[1], "execs") == 0)
        during_execs(count);
    puts("done");
    return 0;
}
