/*
 * bind-after WHAT[+WHAT]... KIND PORT - does WHAT, one after the other, binds a socket of KIND to
 * PORT on loopback, prints what came of it and SO_REUSEPORT, as bind-to does, and ends (a daemon
 * waits to be killed):
 *
 *     user        changes user from root to nobody, as servers do (and so is not dumpable)
 *     undumpable  makes itself so (prctl(2), PR_SET_DUMPABLE)
 *     thread      starts a thread with descriptors of its own, which binds one that has the number
 *                 of another socket in the process, and prints "another too" if that is shared
 *     filter      installs a seccomp filter that makes getppid() fail
 *     forbidden   installs one that makes bind() fail with ECONNREFUSED
 *     landlock    confines itself so that it can bind no TCP port (landlock(7))
 *     daemon      goes into the background, with its first process gone, prints its
 *                 process id and waits a moment
 *     traced      has a child of its own trace it
 *     interrupted has a signal handler run every 50 microseconds
 */
#define _GNU_SOURCE
#include "fail-call.h"
#include "names.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

static void die(const char *what) {
    perror(what);
    exit(2);
}

struct wish {
    int type;
    in_port_t port;
};

static void bind_and_tell(const struct wish *wish) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(wish->port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, wish->type, 0), value = -1;
    socklen_t length = sizeof value;
    int error = bind(fd, (struct sockaddr *)&address, sizeof address) ? errno : 0;
    getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &value, &length);
    printf("%s, SO_REUSEPORT %d\n", error ? error_name(error) : "bound", value);
    fflush(stdout);
}

static void forbid(unsigned number, unsigned error) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || fail_call(number, error))
        die("seccomp");
}

/* The ruleset of Linux 6.7's headers: file accesses, then those of the network. */
static void confine(void) {
    struct {
        uint64_t files, network;
    } ruleset = {0, 1 /* LANDLOCK_ACCESS_NET_BIND_TCP */};
    int fd = (int)syscall(444 /* landlock_create_ruleset */, &ruleset, sizeof ruleset, 0);
    if (fd < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        syscall(446 /* landlock_restrict_self */, fd, 0))
        die("landlock");
}

static void *in_thread(void *wish) {
    if (unshare(CLONE_FILES))
        die("unshare");
    close(0); /* its socket gets this number */
    bind_and_tell(wish);
    return NULL;
}

static void ignore(int number) {
    (void)number;
}

static void interrupt_often(void) {
    struct sigaction action = {.sa_handler = ignore, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 50}, {0, 50}};
    setitimer(ITIMER_REAL, &often, NULL);
}

/* The tracer ends when this process does. */
static void be_traced(void) {
    int ready[2];
    char byte;
    if (pipe(ready))
        die("pipe");
    pid_t self = getpid(), tracer = fork();
    if (tracer == 0) {
        if (ptrace(PTRACE_SEIZE, self, NULL, NULL))
            die("ptrace");
        if (write(ready[1], "", 1) < 0)
            die("write");
        for (int status; waitpid(self, &status, __WALL) == self && WIFSTOPPED(status);)
            ptrace(PTRACE_CONT, self, NULL, NULL);
        exit(0);
    }
    prctl(PR_SET_PTRACER, tracer);
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1)
        die("tracer");
}

static void go_into_background(void) {
    if (fork())
        exit(7);
    setsid();
    if (fork())
        exit(0);
    printf("%d\n", (int)getpid());
    fflush(stdout);
    usleep(300000);
}

static void bind_in_thread(const struct wish *wish) {
    pthread_t thread;
    int another = socket(AF_INET, wish->type, 0), value = 0;
    socklen_t length = sizeof value;
    dup2(another, 0);
    pthread_create(&thread, NULL, in_thread, (void *)wish);
    pthread_join(thread, NULL);
    if (getsockopt(another, SOL_SOCKET, SO_REUSEPORT, &value, &length) || value)
        puts("another too");
    exit(0);
}

static void prepare(const char *what, const struct wish *wish) {
    if (strcmp(what, "thread") == 0) {
        bind_in_thread(wish);
    } else if (strcmp(what, "user") == 0) {
        if (setgid(65534) || setuid(65534))
            die("setuid");
    } else if (strcmp(what, "undumpable") == 0) {
        prctl(PR_SET_DUMPABLE, 0);
    } else if (strcmp(what, "filter") == 0) {
        forbid(SYS_getppid, EPERM);
    } else if (strcmp(what, "forbidden") == 0) {
        forbid(SYS_bind, ECONNREFUSED);
    } else if (strcmp(what, "landlock") == 0) {
        confine();
    } else if (strcmp(what, "traced") == 0) {
        be_traced();
    } else if (strcmp(what, "interrupted") == 0) {
        interrupt_often();
    } else if (strcmp(what, "daemon") == 0) {
        go_into_background();
    } else {
        die(what);
    }
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: bind-after WHAT[+WHAT]... tcp|udp PORT\n");
        return 2;
    }
    struct wish wish = {strcmp(argv[2], "udp") == 0 ? SOCK_DGRAM : SOCK_STREAM,
                        (in_port_t)atoi(argv[3])};
    const char *what = NULL;
    for (char *words = argv[1]; (words = strtok(words, "+")); words = NULL)
        prepare(what = words, &wish);
    bind_and_tell(&wish);
    if (what && strcmp(what, "daemon") == 0)
        pause();
    return 0;
}
