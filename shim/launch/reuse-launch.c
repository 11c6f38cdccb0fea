/*
 * reuse-launch [OPTION]... [--] PROGRAM [ARG]... - several copies of a server as one service.
 *
 * Starts the copies by reuse-run, so that they share their ports; starts again those that die; and
 * on SIGHUP has a new generation of them take over from the old without losing a request.
 *
 * One loop waits for signals, one of which tells of copies that have ended, and for the time of
 * what is due next.  What is done then is in takeover.c.
 *
 * Exit status: 0 stopped by a signal, 1 the copies did not get ready, 2 wrong usage.
 */
#define _GNU_SOURCE
#include "say.h"
#include "takeover.h"
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

const struct tool tool = {.name = "reuse-launch", .failure = 2, .usage = options_usage};

/* What signals have asked for and has not been begun. */
struct requests {
    bool reload;
    int changes[64]; /* SIGTTIN and SIGTTOU, in their order */
    size_t change_count;
    bool end, at_once;
};

/* ------------------------------------------------------------------------------ the pid file */

/* Whether PID is a reuse-launch. */
static bool is_launcher(pid_t pid) {
    char path[64], name[64] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    FILE *file = fopen(path, "re");
    bool same = file && fgets(name, sizeof name, file) && strcmp(name, "reuse-launch\n") == 0;
    if (file)
        fclose(file);
    return same;
}

/* The process id in the file NAME; 0 if there is none. */
static pid_t read_pid(const char *name) {
    int pid = 0;
    FILE *file = fopen(name, "re");
    if (file && fscanf(file, "%d", &pid) != 1)
        pid = 0;
    if (file)
        fclose(file);
    return pid;
}

/* Writes the process id to the file NAME, unless another one runs by it. */
static void write_pid_file(const char *name) {
    pid_t other = read_pid(name);
    if (other > 0 && other != getpid() && is_launcher(other)) {
        say("%s: pid %d runs already; stop it first", name, (int)other);
        exit(EXIT_FAILURE);
    }
    FILE *file = fopen(name, "we");
    bool written = file && fprintf(file, "%d\n", (int)getpid()) > 0;
    if (file)
        written &= fclose(file) == 0;
    if (!written) {
        say("%s: cannot be written", name);
        exit(EXIT_FAILURE);
    }
}

/* Removes the file, unless it has become another's. */
static void remove_pid_file(const char *name) {
    if (name && read_pid(name) == getpid())
        unlink(name);
}

/* -------------------------------------------------------------------------------- setting up */

/* The reuse-run beside this program; ends if there is none. */
static char *find_reuse_run(void) {
    char own[PATH_MAX + 1];
    ssize_t length = readlink("/proc/self/exe", own, PATH_MAX);
    if (length <= 0) {
        say("cannot read /proc/self/exe: %s; mount /proc", strerror(errno));
        exit(EXIT_FAILURE);
    }
    own[length] = 0;
    const char *folder = dirname(own);
    char *name = tool_text("%s/reuse-run", folder);
    if (access(name, X_OK)) {
        say("there is no reuse-run in %s; run 'make' first", folder);
        exit(EXIT_FAILURE);
    }
    return name;
}

/* The working folder by the name that the shell has for it, which may be a link that is to be
   followed anew for each copy; NULL if that names another one. */
static char *find_folder(void) {
    struct stat here, there;
    char *name = getenv("PWD");
    bool same = name && *name == '/' && stat(".", &here) == 0 && stat(name, &there) == 0 &&
                here.st_dev == there.st_dev && here.st_ino == there.st_ino;
    return same ? name : NULL;
}

/* Descriptors 0 to 2 that are closed are not to become a file's of ours. */
static void hold_standard_descriptors(void) {
    int fd;
    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

/* Has as many descriptors as may be: a reload takes one for each old socket. */
static unsigned long raise_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return 1024;
    unsigned long before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    return before;
}

/* Blocks the signals that mean something, and returns a descriptor that tells them; puts those that
   were blocked before into MASK. */
static int block_signals(const struct options *options, sigset_t *mask) {
    static const int own[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGTTIN, SIGTTOU, SIGCHLD};
    sigset_t heard = options->relayed;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        sigaddset(&heard, own[i]);
    signal(SIGCHLD, SIG_DFL); /* ignored, the copies would be reaped by nobody */
    sigprocmask(SIG_BLOCK, &heard, mask);
    int fd = signalfd(-1, &heard, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        say("cannot wait for signals: %s", strerror(errno));
        exit(EXIT_FAILURE);
    }
    return fd;
}

static void set_up(struct takeover *takeover) {
    struct copies *copies = &takeover->copies;
    copies->options = &takeover->options;
    copies->reuse_run = find_reuse_run();
    copies->folder = find_folder();
    copies->descriptors = raise_descriptors();
    copies->label.line = -1;
    takeover->count = takeover->options.copies;
    if (takeover->options.pin) {
        copies->processors = tool_got(calloc(1, sizeof *copies->processors));
        if (sched_getaffinity(0, sizeof *copies->processors, copies->processors)) {
            say("--pin: cannot find the processors: %s", strerror(errno));
            exit(EXIT_FAILURE);
        }
    }
    if (takeover->options.prefix && label_start(&copies->label)) {
        say("--prefix: cannot start what labels the output: %s", strerror(errno));
        exit(EXIT_FAILURE);
    }
}

/* ------------------------------------------------------------------------------------- signals */

/* Whether there is a terminal, that this process belongs to. */
static bool has_terminal(void) {
    int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* Whether SIGHUP was ignored when this process was started, as nohup(1) does. */
static bool ignores_hangup(void) {
    struct sigaction action;
    return sigaction(SIGHUP, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

/* Takes in one SIGNAL; TERMINAL: there was one in the beginning that can hang up. */
static void hear(struct takeover *takeover, struct requests *requests, int signal, bool terminal) {
    if (sigismember(&takeover->options.relayed, signal)) {
        copies_signal(&takeover->copies, signal);
        return;
    }
    switch (signal) {
    case SIGHUP:
        if (terminal && !has_terminal()) { /* it was not a person who sent it */
            requests->end = true;
            break;
        }
        if (!requests->reload && takeover->step != STEP_START && !takeover_may_reload(takeover))
            say("reload: asked for again; it follows when this one is over");
        requests->reload = true;
        break;
    case SIGTTIN:
    case SIGTTOU:
        if (requests->change_count < sizeof requests->changes / sizeof *requests->changes)
            requests->changes[requests->change_count++] = signal;
        break;
    case SIGUSR1:
        takeover_report(takeover);
        break;
    case SIGINT:
    case SIGQUIT:
    case SIGTERM:
        requests->at_once = requests->end;
        requests->end = true;
        break;
    }
}

/* Begins what can be begun of what has been asked for. */
static void begin_requested(struct takeover *takeover, struct requests *requests) {
    if (requests->end) {
        if (takeover->step != STEP_END || requests->at_once)
            takeover_end(takeover, requests->at_once);
        return;
    }
    if (requests->change_count && takeover_may_change(takeover)) {
        int signal = requests->changes[0];
        requests->change_count--;
        memmove(requests->changes, requests->changes + 1,
                requests->change_count * sizeof *requests->changes);
        if (signal == SIGTTIN)
            takeover_add(takeover);
        else
            takeover_take_away(takeover);
    } else if (requests->reload && takeover_may_reload(takeover)) {
        requests->reload = false;
        takeover_reload(takeover);
    }
}

/* Waits for signals until what is due next. */
static void await(const struct takeover *takeover, int signals, bool more) {
    int64_t next = takeover_next(takeover), now = copies_now();
    int64_t timeout = more || next <= now ? 0 : next - now;
    if (next == INT64_MAX && !more)
        timeout = -1;
    poll(&(struct pollfd){.fd = signals, .events = POLLIN}, 1,
         timeout > INT_MAX ? INT_MAX : (int)timeout);
}

/* Whether something that has been asked for can be begun. */
static bool has_request(const struct takeover *takeover, const struct requests *requests) {
    return takeover->step != STEP_END &&
           (requests->end || (requests->change_count && takeover_may_change(takeover)) ||
            (requests->reload && takeover_may_reload(takeover)));
}

/* Serves until the end is asked for, or the first generation fails, and all copies have ended. */
static void serve(struct takeover *takeover, int signals, bool terminal) {
    struct requests requests = {0};
    takeover_start(takeover);
    while (takeover->step != STEP_END || takeover->copies.count) {
        struct signalfd_siginfo info;
        await(takeover, signals, has_request(takeover, &requests));
        while (read(signals, &info, sizeof info) == sizeof info)
            hear(takeover, &requests, (int)info.ssi_signo, terminal);
        takeover_go_on(takeover);
        begin_requested(takeover, &requests);
    }
}

int main(int argc, char **argv) {
    struct takeover takeover = {.next_look = INT64_MAX};
    hold_standard_descriptors();
    options_read(&takeover.options, argc, argv);
    bool terminal = !ignores_hangup() && has_terminal();
    set_up(&takeover);
    if (takeover.options.pid_file)
        write_pid_file(takeover.options.pid_file);
    int signals = block_signals(&takeover.options, &takeover.copies.mask);
    serve(&takeover, signals, terminal);
    label_finish(&takeover.copies.label);
    remove_pid_file(takeover.options.pid_file);
    return takeover.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
