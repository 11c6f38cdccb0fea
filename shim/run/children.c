/*
 * children.c - see children.h.
 *
 * waitid(2) knows for certain whether a number is that of a child, but lists none.  proc(5) lists
 * processes, but perhaps by the numbers of another namespace, or is not there: each that it lists
 * is asked about, and where that finds no child, each number that there may be.
 */
#include "children.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

/* PID_MAX_LIMIT in include/linux/threads.h, on a 64-bit kernel. */
enum { NUMBERS = 4 * 1024 * 1024 };

/* What has come of killing the children. */
struct sweep {
    bool killed;      /* one at least */
    unsigned awaited; /* how many of those are yet to be reaped, or fewer */
    pid_t spared;     /* one that may not be killed; 0 if there is none */
};

/* Reaps every child that has ended; returns whether one is left. */
static bool reap(struct sweep *sweep) {
    for (siginfo_t info = {0}; !waitid(P_ALL, 0, &info, WEXITED | WNOHANG | __WALL);
         info.si_pid = 0) {
        if (!info.si_pid)
            return true;
        if (sweep->awaited)
            sweep->awaited--;
    }
    return false;
}

bool children_reap(void) {
    return reap(&(struct sweep){0});
}

/* Kills process NUMBER if it is a child.  Until it is reaped the number stays its own. */
static void kill_child(struct sweep *sweep, pid_t number) {
    siginfo_t info;
    if (waitid(P_PID, (id_t)number, &info, WEXITED | WNOHANG | WNOWAIT | __WALL))
        return;
    if (kill(number, SIGKILL)) {
        sweep->spared = number;
        return;
    }
    sweep->killed = true;
    sweep->awaited++;
}

static void kill_listed(struct sweep *sweep) {
    DIR *processes = opendir("/proc");
    if (!processes)
        return;
    for (const struct dirent *entry; (entry = readdir(processes));) {
        int number = atoi(entry->d_name);
        if (number > 0)
            kill_child(sweep, number);
    }
    closedir(processes);
}

/* Looks every now and then whether a child is left: most have low numbers. */
static void kill_numbered(struct sweep *sweep) {
    enum { NOW_AND_THEN = 4096 };
    for (pid_t number = 1; number <= NUMBERS; number++) {
        kill_child(sweep, number);
        if (number % NOW_AND_THEN == 0 && !reap(sweep))
            return;
    }
}

pid_t children_end(void) {
    while (children_reap()) {
        struct sweep sweep = {0};
        kill_listed(&sweep);
        if (!sweep.killed && !sweep.spared)
            kill_numbered(&sweep);
        if (!sweep.killed)
            return sweep.spared;
        for (siginfo_t info; sweep.awaited; sweep.awaited--)
            waitid(P_ALL, 0, &info, WEXITED | __WALL);
    }
    return 0;
}
