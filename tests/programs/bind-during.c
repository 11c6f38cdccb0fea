/*
 * bind-during execs|threads COUNT - binds without a pause while something else goes on.
 *
 * execs: the first thread binds, and another runs the program anew, COUNT times in all; then
 * prints "done".  threads: COUNT threads bind for a second, then each that has made no bind in the
 * last half of it is counted:
 *
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

static void during_threads(int count) {
    long before[THREADS_MAX];
    int stuck = 0;
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, bind_on, &binds[i]);
    }
    usleep(500 * 1000);
    for (int i = 0; i < count; i++)
        before[i] = binds[i];
    usleep(500 * 1000);
    for (int i = 0; i < count; i++)
        stuck += binds[i] == before[i];
    printf("%d stuck\n", stuck);
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
