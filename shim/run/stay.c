/*
 * stay.c - see stay.h.
 *
 * Front and supervisor talk over a pair of sockets: the supervisor says which process the program
 * is, and later how it has ended; the front says when it is ready.  Each sees there, too, that the
 * other has gone.
 */
#define _GNU_SOURCE
#include "stay.h"
#include "children.h"
#include "kernel.h"
#include "log.h"
#include "process.h"
#include "tool.h"
#include "trap.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct ending killed = {CLD_KILLED, SIGKILL};

/* What the supervisor tells the front when the program has ended. */
struct report {
    struct ending ending;
    pid_t spared; /* a process that was to be killed, and may not be */
};

/* What the program has, that the processes around it do not. */
struct heritage {
    sigset_t mask;
    struct sigaction on_child;
    pid_t group;
};

struct supervisor {
    const struct stay *stay;
    pid_t program, front; /* 0: it has gone */
    pid_t group;          /* the program's at first */
    int signals;          /* signalfd(2) of all signals, which are blocked */
    int line;             /* to the front */
    struct trap trap;     /* if STAY has ports */
};

/* Gives descriptors a number above the standard ones, which may have been closed on purpose. */
static int above_standard(int fd) {
    int above = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (above < 0)
        tool_fail("cannot set up: %s", strerror(errno));
    close(fd);
    return above;
}

static void make_pair(int ends[2]) {
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
        tool_fail("cannot set up: socketpair: %s", strerror(errno));
    ends[0] = above_standard(ends[0]);
    ends[1] = above_standard(ends[1]);
}

/* ----------------------------------------------------------------------------- the program */

/* In the program's process: is trapped, if STAY says so, tells the supervisor over LINE the number
   of the listener, and returns when that says that all is set up. */
static void become_program(const struct stay *stay, const struct heritage *heritage, int line) {
    int listener = stay->ports ? trap_install() : -1;
    if (stay->ports && listener < 0 && errno == EBUSY)
        tool_fail("cannot watch '%s': a container manager or the like watches it already; for a "
                  "dynamic program there is --preload, and outside of the container reuse-cgroup",
                  stay->program);
    if (stay->ports && listener < 0)
        tool_fail("cannot watch '%s': seccomp: %s", stay->program, strerror(errno));
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char word;
    if (write(line, &listener, sizeof listener) < 0 || read(line, &word, 1) != 1)
        exit(tool.failure);
    close(line);
    sigaction(SIGCHLD, &heritage->on_child, NULL);
    sigprocmask(SIG_SETMASK, &heritage->mask, NULL);
}

/* -------------------------------------------------------------------------- the supervisor */

/* Takes from the program the listener that has its number LISTENER there. */
static void take_listener(struct supervisor *supervisor, int listener) {
    const struct stay *stay = supervisor->stay;
    listener = trap_take(supervisor->program, listener);
    if (listener < 0)
        tool_fail("cannot watch '%s': pidfd_getfd: %s; a container may have to permit it "
                  "(CAP_SYS_PTRACE), or for a dynamic program use --preload, or outside of the "
                  "container reuse-cgroup",
                  stay->program, strerror(errno));
    if (!trap_open(&supervisor->trap, above_standard(listener), stay->ports, log_wanted()))
        tool_fail("cannot watch '%s': %s", stay->program, strerror(errno));
}

/* Stops the front when the program stops, and has it go on when that does: a shell with job
   control looks at the front. */
static void mirror_stops(const struct supervisor *supervisor) {
    siginfo_t info = {0};
    if (waitid(P_PID, (id_t)supervisor->program, &info, WSTOPPED | WCONTINUED | WNOHANG) ||
        !info.si_pid || getppid() != supervisor->front)
        return;
    kill(supervisor->front, info.si_code == CLD_CONTINUED ? SIGCONT : SIGSTOP);
}

/* Reports the program's ending to the front, which may be stopped, once nothing is left where that
   is asked for.  Before the program is reaped it joins its process group, which lasts as long, so
   that the front can die in it. */
static void report_ending(struct supervisor *supervisor, struct ending ending) {
    struct report report = {.ending = ending};
    setpgid(0, supervisor->group);
    supervisor->program = 0;
    if (supervisor->stay->leave_nothing)
        report.spared = children_end();
    send(supervisor->line, &report, sizeof report, MSG_NOSIGNAL);
    if (getppid() == supervisor->front)
        kill(supervisor->front, SIGCONT);
}

/* Looks after the children; returns whether there is still something to stay for. */
static bool mind_children(struct supervisor *supervisor) {
    siginfo_t info = {0};
    if (supervisor->program) {
        mirror_stops(supervisor);
        waitid(P_PID, (id_t)supervisor->program, &info, WEXITED | WNOHANG | WNOWAIT);
        if (info.si_pid)
            report_ending(supervisor, (struct ending){info.si_code, info.si_status});
    }
    return children_reap() && (supervisor->program || !supervisor->stay->leave_nothing);
}

/* Nothing but SIGKILL, or its parent's death, ends the front before the program. */
static void lose_front(struct supervisor *supervisor) {
    supervisor->front = 0;
    if (supervisor->program)
        kill(supervisor->program, SIGKILL);
    setpgid(0, 0);
}

static void supervise(struct supervisor *supervisor) {
    enum { SIGNALS, FRONT, LISTENER };
    struct pollfd events[] = {
        {.fd = supervisor->signals, .events = POLLIN},
        {.fd = supervisor->line, .events = POLLIN},
        {.fd = supervisor->stay->ports ? supervisor->trap.listener : -1, .events = POLLIN},
    };
    while (mind_children(supervisor)) {
        poll(events, sizeof events / sizeof *events, -1);
        if (events[LISTENER].revents & POLLIN)
            trap_answer(&supervisor->trap);
        else if (events[LISTENER].revents)
            events[LISTENER].fd = -1; /* nobody is trapped any more */
        if (events[SIGNALS].revents)
            process_pass_signal(supervisor->signals, supervisor->program);
        if (events[FRONT].revents) {
            events[FRONT].fd = -1;
            lose_front(supervisor);
        }
    }
}

/* The supervisor, that the front at the other end of LINE has started: starts the program, as which
   it returns, and stays. */
static void be_supervisor(const struct stay *stay, const struct heritage *heritage, int signals,
                          int line) {
    struct supervisor supervisor = {.stay = stay,
                                    .front = getppid(),
                                    .group = heritage->group,
                                    .signals = signals,
                                    .line = line};
    int ends[2], listener;
    make_pair(ends);
    if (!supervisor.front)
        tool_fail("cannot watch '%s' from outside its process namespace; use unshare --fork",
                  stay->program);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    supervisor.program = fork();
    if (supervisor.program < 0)
        tool_fail("cannot start '%s': fork: %s", stay->program, strerror(errno));
    if (supervisor.program == 0) {
        close(ends[0]);
        become_program(stay, heritage, ends[1]);
        return;
    }
    close(ends[1]);
    if (read(ends[0], &listener, sizeof listener) != sizeof listener)
        exit(tool.failure); /* it has said why */
    if (stay->ports)
        take_listener(&supervisor, listener);
    setpgid(0, 0);
    /* The front says when it is ready, too. */
    char word = 0;
    if (write(line, &supervisor.program, sizeof supervisor.program) < 0 ||
        read(line, &word, 1) != 1 || write(ends[0], &word, 1) < 0)
        exit(tool.failure);

    static const char name[] = "reuse-run-watch";
    prctl(PR_SET_NAME, name);
    memset(stay->title, 0, stay->title_size);
    snprintf(stay->title, stay->title_size, "%s", name);
    const int kept[] = {signals, line, supervisor.trap.log ? STDERR_FILENO : line,
                        stay->ports ? supervisor.trap.listener : line};
    process_leave_descriptors(kept, sizeof kept / sizeof *kept);
    if (chdir("/"))
        exit(tool.failure);
    supervise(&supervisor);
    exit(EXIT_SUCCESS);
}

/* ------------------------------------------------------------------------------- the front */

/* Passes signals on to the supervisor until that reports the program's ending.  Reaps what has
   become a child of process 1.  Returns false if the supervisor is gone without a report. */
static bool wait_for_report(const struct stay *stay, pid_t supervisor, int signals, int line,
                            struct report *report) {
    struct pollfd events[] = {
        {.fd = line, .events = POLLIN},
        {.fd = signals, .events = POLLIN},
    };
    while (!stay->die_with_parent || getppid() == stay->parent) {
        poll(events, sizeof events / sizeof *events, -1);
        if (events[0].revents)
            return read(line, report, sizeof *report) == sizeof *report;
        if (events[1].revents)
            process_pass_signal(signals, supervisor);
        children_reap();
    }
    report->ending = killed; /* as the supervisor will do */
    return true;
}

/* The supervisor has been killed.  So is the program, by the kernel (PR_SET_PDEATHSIG), which
   forgets to if it has changed user; and all below, where nothing is to be left. */
static void lose_supervisor(const struct stay *stay, int program) {
    fprintf(stderr, "reuse-run: killed '%s', as the process that %s was killed\n", stay->program,
            stay->ports ? "answers its binds" : "is its parent");
    syscall(SYS_pidfd_send_signal, program, SIGKILL, NULL, 0);
    if (stay->leave_nothing)
        children_end();
}

__attribute__((noreturn)) static void be_front(const struct stay *stay,
                                               const struct heritage *heritage, int signals,
                                               int line, pid_t supervisor) {
    pid_t program;
    struct report report = {0};
    if (read(line, &program, sizeof program) != sizeof program)
        exit(tool.failure); /* the supervisor has said why */
    int pidfd = (int)syscall(SYS_pidfd_open, program, 0);
    /* It is no leader of its session where this fails.  Process 1 is in no group that has another
       number: the kernel, which waits for all other numbers to be free when it ends, would wait for
       that for ever (zap_pid_ns_processes() in kernel/pid_namespace.c). */
    setpgid(0, getpid() == 1 ? 0 : supervisor);
    if (stay->leave_nothing)
        prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (write(line, "", 1) < 0)
        exit(tool.failure);
    const int kept[] = {line, signals, STDERR_FILENO, pidfd};
    process_leave_descriptors(kept, sizeof kept / sizeof *kept);
    if (!wait_for_report(stay, supervisor, signals, line, &report)) {
        lose_supervisor(stay, pidfd);
        report.ending = killed;
    }
    if (report.spared)
        fprintf(stderr, "reuse-run: cannot kill process %d, which '%s' has started: %s\n",
                (int)report.spared, stay->program, strerror(EPERM));
    setpgid(0, heritage->group);
    process_end_as(report.ending);
}

void stay_around(const struct stay *stay) {
    struct heritage heritage = {.group = getpgrp()};
    sigset_t all;
    int ends[2];
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &heritage.mask);
    sigaction(SIGCHLD, &(struct sigaction){.sa_handler = SIG_DFL}, &heritage.on_child);
    make_pair(ends);
    int signals = signalfd(-1, &all, SFD_CLOEXEC);
    if (signals < 0)
        tool_fail("cannot set up: signalfd: %s", strerror(errno));
    signals = above_standard(signals);
    if (stay->die_with_parent) {
        /* Sent whenever the thread ends that has started this process, or another one that has
           taken its place as the parent (PR_SET_PDEATHSIG): SIGCHLD wakes up, to look whether the
           process has.  Of a parent outside its namespace it does not see that. */
        prctl(PR_SET_PDEATHSIG, stay->parent ? SIGCHLD : SIGKILL);
        if (getppid() != stay->parent)
            process_end_as(killed);
    }
    pid_t supervisor = fork();
    if (supervisor < 0)
        tool_fail("cannot start '%s': fork: %s", stay->program, strerror(errno));
    close(ends[supervisor != 0]);
    if (supervisor)
        be_front(stay, &heritage, signals, ends[0], supervisor);
    be_supervisor(stay, &heritage, signals, ends[1]);
}
