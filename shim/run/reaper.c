/*
 * reaper.c - see reaper.h.
 */
#define _GNU_SOURCE
#include "reaper.h"
#include "process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* The parent of PID, by proc_pid_status(5); 0 if there is no such process. */
static pid_t parent_of(int pid) {
    char path[64];
    pid_t parent = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *status = fopen(path, "re");
    if (!status)
        return 0;
    char line[256];
    while (!parent && fgets(line, sizeof line, status))
        (void)sscanf(line, "PPid: %d", &parent);
    fclose(status);
    return parent;
}

/* Kills every child. */
static void kill_children(void) {
    DIR *processes = opendir("/proc");
    if (!processes)
        return;
    for (const struct dirent *entry; (entry = readdir(processes));) {
        int pid = atoi(entry->d_name);
        if (pid > 0 && parent_of(pid) == getpid())
            kill(pid, SIGKILL);
    }
    closedir(processes);
}

/* Kills everything below.  What a child has started becomes a child when that ends. */
static void kill_rest(void) {
    do
        kill_children();
    while (waitid(P_ALL, 0, &(siginfo_t){0}, WEXITED | __WALL) == 0);
}

/* Reaps what has ended; returns whether CHILD has, and how. */
static bool reap(pid_t child, struct ending *ending) {
    siginfo_t info = {0};
    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | __WALL) == 0 && info.si_pid) {
        if (info.si_pid == child) {
            *ending = (struct ending){info.si_code, info.si_status};
            return true;
        }
        info.si_pid = 0;
    }
    return false;
}

/* The parent: see reaper.h. */
__attribute__((noreturn)) static void stay(pid_t parent, pid_t child, int signals) {
    struct ending ending = {CLD_KILLED, SIGKILL};
    struct pollfd event = {.fd = signals, .events = POLLIN};
    process_leave_descriptors(&signals, 1);
    while (!reap(child, &ending) && (!parent || getppid() == parent)) {
        poll(&event, 1, -1);
        process_pass_signal(signals, child);
    }
    kill_rest();
    process_end_as(ending);
}

int reaper_fork(pid_t parent) {
    pid_t self = getpid();
    sigset_t all, mask;
    sigfillset(&all);
    int low = signalfd(-1, &all, SFD_CLOEXEC);
    int signals = fcntl(low, F_DUPFD_CLOEXEC, 3); /* the first three may have been closed */
    if (signals < 0)
        return -1;
    close(low);
    sigprocmask(SIG_SETMASK, &all, &mask);
    struct sigaction on_child;
    sigaction(SIGCHLD, &(struct sigaction){.sa_handler = SIG_DFL}, &on_child);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (parent) /* wakes up, and is not passed on */
        prctl(PR_SET_PDEATHSIG, SIGCHLD);
    pid_t child = fork();
    if (child < 0)
        return -1;
    if (child)
        stay(parent, child, signals);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != self)
        raise(SIGKILL);
    close(signals);
    sigaction(SIGCHLD, &on_child, NULL);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    return 0;
}
