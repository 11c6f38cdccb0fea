/*
 * reuse-run [OPTION]... PROGRAM [ARG]... - runs a program with its ports shared, whatever it is.
 *
 * A program with a loader gets the shim preloaded and is exec'd in place.  One that a preload
 * cannot reach (way.h) is watched: its binds are trapped (trap.h).  That takes two processes
 * besides:
 *
 *     front       the one that was started.  Passes signals on, and ends as the program does.
 *     supervisor  its child, the program's parent.  Answers the binds of the program and of all
 *                 that the program starts, until the last of them has gone.
 *
 * The supervisor is apart, so that the front can end while daemons go on; and it is their ancestor
 * (PR_SET_CHILD_SUBREAPER), as under Yama nobody else may take their sockets
 * (Documentation/admin-guide/LSM/Yama.rst).  If it is killed, the front takes its place.
 *
 * The program stays in the process group that reuse-run was started in; front and supervisor make
 * one of their own.  So what the terminal or kill(1) sends to the group reaches the program once,
 * and what is sent to reuse-run is passed on, once.
 */
#define _GNU_SOURCE
#include "identity.h"
#include "log.h"
#include "permits.h"
#include "ports.h"
#include "process.h"
#include "reaper.h"
#include "tool.h"
#include "trap.h"
#include "way.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Exit statuses, as of env(1) and timeout(1). */
enum { EXIT_OWN_ERROR = 125, EXIT_NOT_RUNNABLE = 126, EXIT_NOT_FOUND = 127 };

const struct tool tool = {
    .name = "reuse-run",
    .failure = EXIT_OWN_ERROR,
    .usage =
        "Usage: reuse-run [OPTION]... PROGRAM [ARG]...\n"
        "Run PROGRAM with its ports shared: any number of copies can bind the same.\n"
        "\n"
        "  -p, --ports=LIST       share only these, such as 80,8000-8010,53/udp,[::1]:9000;\n"
        "                           sets LIBREUSE_PORTS\n"
        "      --preload          preload libreuse.so, whatever PROGRAM seems to be\n"
        "      --watch            watch PROGRAM and all it starts, such as a shell script\n"
        "                           that starts a static server\n"
        "      --die-with-parent[=PID]\n"
        "                         kill PROGRAM when the parent of reuse-run dies, which is to\n"
        "                           be PID\n"
        "      --leave-nothing    stay as its parent, and when PROGRAM ends kill all that it\n"
        "                           has started, daemons too\n"
        "  -v, --verbose          say which way was taken, and why\n"
        "      --help             display this help and exit\n"
        "      --version          output version information and exit\n"
        "\n"
        "A dynamic program gets libreuse.so preloaded and takes the place of reuse-run.\n"
        "One that is static or written in Go, or runs such a program that is named in ARGs,\n"
        "is watched by a process that stays on.\n"
        "\n"
        "Exit status: 125 if reuse-run itself fails, 126 if PROGRAM cannot be run, 127 if\n"
        "it cannot be found; else that of PROGRAM, or death by the same signal.\n",
};

/* What the command line says. */
struct command {
    char **arguments; /* PROGRAM and its own */
    enum way way;
    bool verbose;
    pid_t parent;   /* 0: whose death does not matter */
    pid_t launcher; /* the parent, if nothing is to be left; 0 if not so */
    pid_t started;  /* this process, at first */
};

/*
 * Runs the program in this process's place, which stands for STARTED, the first.  LAUNCHER, if
 * there is one, and what it starts may take its sockets, also where Yama has that be for ancestors
 * only: a launcher's tools are none.
 */
__attribute__((noreturn)) static void exec(char **arguments, pid_t launcher, pid_t started) {
    identity_take_over(started);
    if (launcher)
        prctl(PR_SET_PTRACER, launcher);
    execvp(arguments[0], arguments);
    int error = errno;
    fprintf(stderr, "reuse-run: cannot run '%s': %s\n", arguments[0], strerror(error));
    exit(error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUNNABLE);
}

/* ------------------------------------------------------------------- watched: the supervisor */

/* What the supervisor tells the front at first. */
struct start {
    pid_t program;
    int listener; /* the supervisor's number for it */
};

/* A watch over a program.  The front is 0 if it has gone, or is itself the one that watches. */
struct watch {
    pid_t program, front;
    int signals; /* signalfd(2) of all signals, which are blocked */
    int report;  /* the pipe to the front */
    bool ended;
    struct ending ending;
    struct trap trap;
};

/* Stops the front when the program stops, and has it go on when that does: a shell with job
   control looks at the front. */
static void mirror_stops(const struct watch *watch) {
    siginfo_t info = {0};
    if (waitid(P_PID, (id_t)watch->program, &info, WSTOPPED | WCONTINUED | WNOHANG) ||
        !info.si_pid || getppid() != watch->front)
        return;
    kill(watch->front, info.si_code == CLD_CONTINUED ? SIGCONT : SIGSTOP);
}

/* Tells the front, which may be stopped. */
static void report_ending(const struct watch *watch) {
    send(watch->report, &watch->ending, sizeof watch->ending, MSG_NOSIGNAL);
    if (getppid() == watch->front)
        kill(watch->front, SIGCONT);
}

/*
 * Reaps what has ended, and reports the program's ending.  The program stays a zombie until the
 * front has gone: its process group lasts that long, and the front can die in it.  Returns false
 * when there is no child left.
 */
static bool mind_children(struct watch *watch) {
    if (!watch->ended)
        mirror_stops(watch);
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL))
            return false;
        if (!info.si_pid)
            return true;
        if (info.si_pid == watch->program && !watch->ended) {
            watch->ended = true;
            watch->ending = (struct ending){info.si_code, info.si_status};
            if (watch->front)
                report_ending(watch);
        }
        if (info.si_pid == watch->program && watch->front)
            return true;
        waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | __WALL);
    }
}

/* Watches until no watched process is left, or, in the front's place, until the program ends. */
static void watch_over(struct watch *watch) {
    enum { SIGNALS, LISTENER, FRONT };
    struct pollfd events[] = {
        {.fd = watch->signals, .events = POLLIN},
        {.fd = watch->trap.listener, .events = POLLIN},
        {.fd = watch->front ? watch->report : -1},
    };
    bool in_place_of_front = !watch->front;
    while (mind_children(watch) && !(in_place_of_front && watch->ended)) {
        poll(events, sizeof events / sizeof *events, -1);
        if (events[LISTENER].revents & POLLIN)
            trap_answer(&watch->trap);
        else if (events[LISTENER].revents)
            events[LISTENER].fd = -1; /* nobody is trapped any more */
        if (events[SIGNALS].revents)
            process_pass_signal(watch->signals, watch->ended ? 0 : watch->program);
        if (events[FRONT].revents) {
            events[FRONT].fd = -1;
            watch->front = 0;
            if (!watch->ended) /* nothing but SIGKILL ends the front before the program */
                kill(watch->program, SIGKILL);
        }
    }
}

/* Closes what the program has open, and the watch over it does not need. */
static void leave_descriptors(const struct watch *watch) {
    const int kept[] = {watch->signals, watch->report, watch->trap.listener};
    process_leave_descriptors(kept, sizeof kept / sizeof *kept);
}

/* What the program has before it is exec'd, that the processes around it do not. */
struct heritage {
    sigset_t mask;
    struct sigaction on_child;
    pid_t launcher, started;
};

/* The program's process: is trapped, tells its parent over LINE, waits for the word, execs. */
__attribute__((noreturn)) static void be_program(char **arguments, const struct heritage *heritage,
                                                 int line) {
    int listener = trap_install();
    if (listener < 0 && errno == EBUSY)
        tool_fail("cannot watch '%s': a container manager or the like watches it already; for a "
                  "dynamic program there is --preload, and outside of the container reuse-cgroup",
                  arguments[0]);
    if (listener < 0)
        tool_fail("cannot watch '%s': seccomp: %s", arguments[0], strerror(errno));
    char word;
    if (write(line, &listener, sizeof listener) < 0 || read(line, &word, 1) != 1)
        exit(EXIT_OWN_ERROR);
    sigaction(SIGCHLD, &heritage->on_child, NULL);
    sigprocmask(SIG_SETMASK, &heritage->mask, NULL);
    exec(arguments, heritage->launcher, heritage->started);
}

/* Gives descriptors a number above the standard ones, which may have been closed on purpose. */
static int above_standard(int fd) {
    int above = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (above < 0)
        tool_fail("cannot set up: %s", strerror(errno));
    close(fd);
    return above;
}

static void make_pipe(int ends[2]) {
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
        tool_fail("cannot set up: socketpair: %s", strerror(errno));
    ends[0] = above_standard(ends[0]);
    ends[1] = above_standard(ends[1]);
}

/* The supervisor: starts the program and watches over it. */
__attribute__((noreturn)) static void supervise(char **arguments, const struct heritage *heritage,
                                                struct watch *watch) {
    int line[2], listener;
    make_pipe(line);
    watch->front = getppid();
    watch->program = fork();
    if (watch->program < 0)
        tool_fail("cannot start '%s': fork: %s", arguments[0], strerror(errno));
    if (watch->program == 0) {
        close(line[0]);
        be_program(arguments, heritage, line[1]);
    }
    close(line[1]);
    if (read(line[0], &listener, sizeof listener) != sizeof listener)
        exit(EXIT_OWN_ERROR); /* it has said why */
    listener = trap_take(watch->program, listener);
    if (listener < 0)
        tool_fail("cannot watch '%s': pidfd_getfd: %s; a container may have to permit it "
                  "(CAP_SYS_PTRACE), or for a dynamic program use --preload, or outside of the "
                  "container reuse-cgroup",
                  arguments[0], strerror(errno));
    listener = above_standard(listener);
    if (!trap_open(&watch->trap, listener))
        tool_fail("cannot watch '%s': %s", arguments[0], strerror(errno));
    setpgid(0, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    struct start start = {watch->program, listener};
    /* The front says when it is ready, too. */
    char word = 0;
    if (write(watch->report, &start, sizeof start) < 0 || read(watch->report, &word, 1) != 1 ||
        write(line[0], &word, 1) < 0)
        exit(EXIT_OWN_ERROR);

    prctl(PR_SET_NAME, "reuse-run-watch");
    leave_descriptors(watch);
    if (chdir("/"))
        exit(EXIT_OWN_ERROR);
    watch_over(watch);
    exit(EXIT_SUCCESS);
}

/* ------------------------------------------------------------------------ watched: the front */

/* Passes signals on to the supervisor until that reports the program's ending; returns false if
   the supervisor ends without. */
static bool wait_for_ending(struct watch *watch, pid_t supervisor) {
    struct pollfd events[] = {
        {.fd = watch->signals, .events = POLLIN},
        {.fd = watch->report, .events = POLLIN},
    };
    for (;;) {
        poll(events, 2, -1);
        if (events[1].revents)
            return read(watch->report, &watch->ending, sizeof watch->ending) ==
                   sizeof watch->ending;
        if (events[0].revents)
            process_pass_signal(watch->signals, supervisor);
    }
}

/* Runs the program watched, in child processes. */
__attribute__((noreturn)) static void run_watched(const struct command *command,
                                                  const struct ports *ports) {
    struct heritage heritage = {.launcher = command->launcher, .started = command->started};
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &heritage.mask);
    sigaction(SIGCHLD, &(struct sigaction){.sa_handler = SIG_DFL}, &heritage.on_child);

    int ends[2];
    make_pipe(ends);
    struct watch watch = {.trap = {.ports = *ports, .log = log_wanted()}};
    if (!trap_share_request(&watch.trap))
        tool_fail("cannot watch '%s': %s", command->arguments[0], strerror(errno));
    watch.signals = above_standard(signalfd(-1, &all, SFD_CLOEXEC));
    pid_t group = getpgrp();
    pid_t supervisor = fork();
    if (supervisor < 0)
        tool_fail("cannot start '%s': fork: %s", command->arguments[0], strerror(errno));
    watch.report = ends[supervisor == 0];
    close(ends[supervisor != 0]);
    if (supervisor == 0)
        supervise(command->arguments, &heritage, &watch);

    struct start start;
    int listener;
    if (read(watch.report, &start, sizeof start) != sizeof start ||
        (listener = trap_take(supervisor, start.listener)) < 0 || !trap_open(&watch.trap, listener))
        exit(EXIT_OWN_ERROR); /* the supervisor has said why */
    watch.program = start.program;
    watch.trap.listener = above_standard(listener);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    setpgid(0, supervisor); /* not for the leader of a session */
    if (write(watch.report, "", 1) < 0)
        exit(EXIT_OWN_ERROR);
    leave_descriptors(&watch);
    if (!wait_for_ending(&watch, supervisor)) {
        trap_answer_last(&watch.trap);
        watch_over(&watch);
    }
    setpgid(0, group);
    process_end_as(watch.ending);
}

/* ------------------------------------------------------------------------- preloaded, and main */

/* Runs the program in this process's place, with SHIM preloaded before what is preloaded already.
 */
__attribute__((noreturn)) static void run_preloaded(const struct command *command,
                                                    const char *shim) {
    if (strpbrk(shim, " \t\n:"))
        tool_fail("cannot preload '%s': LD_PRELOAD takes no path with a space or a colon; install "
                  "libreuse elsewhere, or use --watch",
                  shim);
    const char *others = getenv("LD_PRELOAD");
    char *list;
    if (asprintf(&list, "%s%s%s", shim, others && *others ? ":" : "", others ? others : "") < 0 ||
        setenv("LD_PRELOAD", list, 1))
        tool_fail("cannot set LD_PRELOAD: %s", strerror(errno));
    exec(command->arguments, command->launcher, command->started);
}

/* Runs the command the way that is asked for, or that its programs need. */
__attribute__((noreturn)) static void run(const struct command *command,
                                          const struct ports *ports) {
    struct way_choice choice;
    way_choose(&choice, command->way, command->arguments);
    if (command->verbose && (choice.way != WAY_NONE || choice.why))
        way_explain(&choice, command->arguments[0]);
    if (choice.way == WAY_WATCH) {
        permits_need(command->arguments[0]);
        run_watched(command, ports);
    }
    if (choice.way == WAY_PRELOAD)
        run_preloaded(command, choice.shim);
    exec(command->arguments, command->launcher, command->started);
}

/* Sets LIBREUSE_PORTS to LIST, which must be well formed. */
static void set_ports(const char *list) {
    struct ports ports;
    struct ports_error error;
    if (!ports_read(&ports, list, &error))
        tool_fail("--ports: '%.*s': %s", (int)error.length, error.item, error.reason);
    if (setenv("LIBREUSE_PORTS", list, 1))
        tool_fail("cannot set LIBREUSE_PORTS: %s", strerror(errno));
}

static pid_t read_pid(const char *text) {
    char *end;
    long pid = strtol(text, &end, 10);
    if (pid <= 0 || pid > INT_MAX || *end)
        tool_fail("--die-with-parent: '%s' is no process id", text);
    return (pid_t)pid;
}

static void read_command(struct command *command, int argc, char **argv) {
    pid_t parent = getppid();
    enum { PRELOAD = 256, WATCH, DIE_WITH_PARENT, LEAVE_NOTHING };
    static const struct option options[] = {
        {"ports", required_argument, NULL, 'p'},
        {"preload", no_argument, NULL, PRELOAD},
        {"watch", no_argument, NULL, WATCH},
        {"die-with-parent", optional_argument, NULL, DIE_WITH_PARENT},
        {"leave-nothing", no_argument, NULL, LEAVE_NOTHING},
        {"verbose", no_argument, NULL, 'v'},
        TOOL_OPTIONS,
        {0},
    };
    int option;
    while ((option = tool_option(argc, argv, "+p:v", options)) != -1) {
        switch (option) {
        case 'p':
            set_ports(optarg);
            break;
        case PRELOAD:
            command->way = WAY_PRELOAD;
            break;
        case WATCH:
            command->way = WAY_WATCH;
            break;
        case DIE_WITH_PARENT:
            command->parent = optarg ? read_pid(optarg) : parent;
            break;
        case LEAVE_NOTHING:
            command->launcher = parent;
            break;
        case 'v':
            command->verbose = true;
            break;
        }
    }
    command->arguments = argv + optind;
    if (!*command->arguments) {
        fputs("reuse-run: missing operand\n", stderr);
        tool_misuse();
    }
}

int main(int argc, char **argv) {
    struct command command = {.started = getpid()};
    struct ports ports;
    struct ports_error error;
    read_command(&command, argc, argv);
    if (!ports_read(&ports, getenv("LIBREUSE_PORTS"), &error))
        log_bad_ports(&error);
    if (command.launcher) {
        if (reaper_fork(command.parent))
            tool_fail("cannot start '%s': %s", command.arguments[0], strerror(errno));
    } else if (command.parent) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != command.parent)
            raise(SIGKILL);
    }
    run(&command, &ports);
}
