/*
 * copies.c - see copies.h.
 */
#define _GNU_SOURCE
#include "copies.h"
#include "say.h"
#include "signals.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int64_t copies_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* The smallest slot that no copy has. */
static unsigned free_slot(const struct copies *copies) {
    unsigned slot = copies->first_slot;
    for (size_t i = 0; i < copies->count;)
        if (copies->all[i]->slot == slot) {
            slot++;
            i = 0;
        } else {
            i++;
        }
    return slot;
}

struct copy *copies_add(struct copies *copies, unsigned number, enum role role) {
    struct copy *copy = calloc(1, sizeof *copy);
    struct copy **more = reallocarray(copies->all, copies->count + 1, sizeof *copies->all);
    if (more)
        copies->all = more;
    if (!copy || !more) {
        free(copy);
        return NULL;
    }
    copy->number = number;
    copy->slot = free_slot(copies);
    copy->role = role;
    copies->all[copies->count++] = copy;
    return copy;
}

void copies_remove(struct copies *copies, struct copy *copy) {
    size_t i = 0;
    while (copies->all[i] != copy)
        i++;
    copies->count--;
    memmove(&copies->all[i], &copies->all[i + 1], (copies->count - i) * sizeof *copies->all);
    for (i = 0; i < copy->wanted.count; i++)
        free(copy->wanted.all[i]);
    free(copy->wanted.all);
    free(copy);
}

/* ---------------------------------------------------------------------------------- starting */

/* TEXT with NUMBER for every {} and SLOT for every {slot}. */
static char *replace(const char *text, unsigned number, unsigned slot) {
    struct text result = {0};
    text_add(&result, "%s", "");
    while (*text) {
        if (strncmp(text, "{}", 2) == 0) {
            text_add(&result, "%u", number);
            text += 2;
        } else if (strncmp(text, "{slot}", 6) == 0) {
            text_add(&result, "%u", slot);
            text += 6;
        } else {
            text_add(&result, "%c", *text++);
        }
    }
    return result.letters;
}

/* The arguments of the reuse-run of COPY; NULL for want of memory. */
static char **make_arguments(const struct copies *copies, const struct copy *copy, char *parent) {
    const struct options *options = copies->options;
    size_t count = 0, i = 0;
    while (options->program[count])
        count++;
    char **arguments = calloc(count + 6, sizeof *arguments);
    if (!arguments)
        return NULL;
    arguments[i++] = copies->reuse_run;
    arguments[i++] = (char *)"--leave-nothing"; /* first: it tells an orphan */
    if (!options->keep)
        arguments[i++] = parent;
    if (options->way)
        arguments[i++] = (char *)options->way;
    arguments[i++] = (char *)"--";
    for (size_t j = 0; j < count; j++, i++) {
        arguments[i] = j && options->replace
                           ? replace(options->program[j], copy->number, copy->slot)
                           : options->program[j];
        if (!arguments[i])
            return NULL;
    }
    return arguments;
}

/* Puts NAME=VALUE into the environment. */
static bool set_number(const char *name, long value) {
    char digits[32];
    snprintf(digits, sizeof digits, "%ld", value);
    return setenv(name, digits, 1) == 0;
}

/* What the copy finds. */
static bool set_environment(const struct copy *copy, pid_t launcher) {
    return set_number("LIBREUSE_COPY", (long)copy->number) &&
           set_number("LIBREUSE_SLOT", (long)copy->slot) &&
           set_number("LIBREUSE_LAUNCH", (long)launcher);
}

/* Gives the process the signals that a program expects, but for those ignored that are none of
   reuse-launch's. */
static void restore_signals(const struct copies *copies) {
    static const int own[] = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGTERM, SIGTTIN, SIGTTOU};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        signal(own[i], SIG_DFL);
    sigprocmask(SIG_SETMASK, &copies->mask, NULL);
}

/* Binds the process to the processor of copy NUMBER. */
static void pin(const struct copies *copies, unsigned number) {
    unsigned nth = number % (unsigned)CPU_COUNT(copies->processors);
    for (size_t i = 0; i < CPU_SETSIZE; i++) {
        cpu_set_t one;
        if (!CPU_ISSET(i, copies->processors) || nth--)
            continue;
        CPU_ZERO(&one);
        CPU_SET(i, &one);
        sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

/* What the copy writes to, and reads from.  Standard output and error may be closed, and stay so.
 */
static bool set_descriptors(const int *outputs) {
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd <= 2; fd++) {
        int source = fd && outputs[fd - 1] >= 0 ? outputs[fd - 1] : fd ? fd : null;
        if (source >= 0 && source != fd && dup2(source, fd) < 0)
            return false;
    }
    if (null > 2)
        close(null);
    return true;
}

/* The process that the fork has made: becomes the reuse-run of the copy. */
__attribute__((noreturn)) static void become(const struct copies *copies, const struct copy *copy,
                                             const int *outputs, pid_t launcher) {
    char parent[64];
    const char *failed = "start a copy";
    snprintf(parent, sizeof parent, "--die-with-parent=%d", (int)launcher);
    char **arguments = make_arguments(copies, copy, parent);
    setsid();
    if (copies->processors)
        pin(copies, copy->number);
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = copies->descriptors;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (copies->folder && chdir(copies->folder)) {
        failed = copies->folder;
    } else if (arguments && set_environment(copy, launcher) && set_descriptors(outputs)) {
        restore_signals(copies);
        failed = copies->reuse_run;
        execv(copies->reuse_run, arguments);
    }
    say("%s: %s", failed, strerror(errno));
    _exit(EXIT_FAILURE);
}

int copies_start(const struct copies *copies, struct copy *copy) {
    int outputs[2] = {-1, -1}, error = 0;
    pid_t launcher = getpid(), pid = -1;
    if (copies->label.line >= 0)
        for (int i = 0; i < 2 && !error; i++) {
            outputs[i] = label_pipe(&copies->label, copy->number, i + 1);
            error = outputs[i] < 0 ? errno : 0;
        }
    if (!error) {
        pid = fork();
        error = errno;
    }
    if (pid == 0)
        become(copies, copy, outputs, launcher);
    for (int i = 0; i < 2; i++)
        if (outputs[i] >= 0)
            close(outputs[i]);
    if (pid < 0) {
        errno = error;
        return -1;
    }
    copy->pid = pid;
    copy->since = copies_now();
    copy->due = 0;
    copy->listened = false;
    copy->waiting = copy->held = copy->idle = 0;
    return 0;
}

/* ------------------------------------------------------------------------------------ finding */

struct copy *copies_find(const struct copies *copies, pid_t pid) {
    for (size_t i = 0; i < copies->count; i++)
        if (copies->all[i]->pid == pid)
            return copies->all[i];
    return NULL;
}

struct copy *copies_serving(const struct copies *copies, unsigned number) {
    for (size_t i = 0; i < copies->count; i++)
        if (copies->all[i]->number == number && copies->all[i]->role == COPY_SERVING)
            return copies->all[i];
    return NULL;
}

const char *copies_name(const struct copy *copy) {
    static char name[64];
    if (copy->orphan)
        snprintf(name, sizeof name, "(pid %d, of a killed reuse-launch)", (int)copy->pid);
    else
        snprintf(name, sizeof name, "%u", copy->number);
    return name;
}

bool copies_any(const struct copies *copies, enum role role) {
    for (size_t i = 0; i < copies->count; i++)
        if (copies->all[i]->role == role)
            return true;
    return false;
}

struct copy *copies_owner(const struct copies *copies, const struct tree *tree, pid_t pid) {
    while (pid > 1) {
        struct copy *copy = copies_find(copies, pid);
        const struct tree_process *process = tree_find(tree, pid);
        if (copy || !process)
            return copy;
        pid = process->parent;
    }
    return NULL;
}

pid_t *copies_processes(const struct copies *copies, const struct tree *tree, bool leaving,
                        size_t *count) {
    pid_t *pids = calloc(tree->count + 1, sizeof *pids);
    *count = 0;
    for (size_t i = 0; pids && i < tree->count; i++) {
        const struct copy *copy = copies_owner(copies, tree, tree->all[i].pid);
        if (copy && (!leaving || copy->role == COPY_LEAVING))
            pids[(*count)++] = tree->all[i].pid;
    }
    return pids;
}

/* Reads the file NAME of PID: strings, each with its 0, and one more 0 in the end.  Returns it, to
   be freed; NULL if that cannot be. */
static char *read_strings(pid_t pid, const char *name) {
    enum { PIECE = 4096 };
    char path[64], *strings = NULL;
    size_t length = 0;
    ssize_t more = 0;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0) {
        char *larger = realloc(strings, length + PIECE + 2);
        if (!larger)
            break;
        strings = larger;
        more = read(fd, strings + length, PIECE);
        length += more > 0 ? (size_t)more : 0;
        strings[length] = strings[length + 1] = 0;
        if (more <= 0)
            break;
    }
    if (fd >= 0)
        close(fd);
    return strings;
}

/* The number that NAME= has in the ENVIRONMENT; -1 if it has none. */
static long number_in(const char *environment, const char *name) {
    size_t length = strlen(name);
    for (; *environment; environment += strlen(environment) + 1)
        if (strncmp(environment, name, length) == 0)
            return strtol(environment + length, NULL, 10);
    return -1;
}

/* Whether the command line ARGUMENTS are those that make_arguments() makes. */
static bool is_reuse_run(const char *arguments) {
    const char *base = strrchr(arguments, '/');
    return strcmp(base ? base + 1 : arguments, "reuse-run") == 0 &&
           strcmp(arguments + strlen(arguments) + 1, "--leave-nothing") == 0;
}

/* Makes PROCESS known if it is the reuse-run of a copy whose reuse-launch has been killed: it has
   the pid of that in its environment, and another parent. */
static void find_orphan(struct copies *copies, const struct tree_process *process) {
    char *arguments = read_strings(process->pid, "cmdline");
    char *environment =
        arguments && is_reuse_run(arguments) ? read_strings(process->pid, "environ") : NULL;
    long launcher = environment ? number_in(environment, "LIBREUSE_LAUNCH=") : -1;
    struct copy *copy = launcher >= 0 && launcher != process->parent && !process->zombie
                            ? copies_add(copies, 0, COPY_FOUND)
                            : NULL;
    if (copy) {
        long slot = number_in(environment, "LIBREUSE_SLOT=");
        copy->slot = slot >= 0 ? (unsigned)slot : 0;
        copy->pid = process->pid;
        copy->orphan = process->birth;
        if (copies->first_slot <= copy->slot)
            copies->first_slot = copy->slot + 1;
    }
    free(arguments);
    free(environment);
}

void copies_find_orphans(struct copies *copies) {
    struct tree tree;
    if (!tree_read(&tree))
        return;
    for (size_t i = 0; i < tree.count; i++)
        find_orphan(copies, &tree.all[i]);
    tree_free(&tree);
}

/* ------------------------------------------------------------------------------------- ending */

/* Whether the orphan, which is no child, runs. */
static bool orphan_runs(const struct copy *copy) {
    struct tree_process now;
    return tree_look(copy->pid, &now) && !now.zombie && now.birth == copy->orphan;
}

/* Has COPY be down. */
static void take_down(struct copy *copy) {
    kill(-copy->pid, SIGKILL); /* left only if its reuse-run was killed */
    copy->pid = 0;
    copy->waiting = copy->held = 0;
}

struct copy *copies_reap(const struct copies *copies, struct ending *ending) {
    for (size_t i = 0; i < copies->count; i++) {
        struct copy *copy = copies->all[i];
        int status = 0;
        bool ended =
            copy->pid &&
            (copy->orphan ? !orphan_runs(copy) : waitpid(copy->pid, &status, WNOHANG) == copy->pid);
        if (!ended)
            continue;
        *ending = (struct ending){WIFSIGNALED(status),
                                  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)};
        take_down(copy);
        return copy;
    }
    return NULL;
}

/* How long a copy that has been killed may take before its process group is. */
enum { GRACE_MS = 5000 };

/* Kills COPY by its reuse-run's children: that one then sees to the rest. */
static void kill_copy(struct copy *copy) {
    struct tree tree;
    bool any = false;
    if (tree_read(&tree)) {
        for (size_t i = 0; i < tree.count; i++)
            if (tree.all[i].parent == copy->pid)
                any |= kill(tree.all[i].pid, SIGKILL) == 0;
        tree_free(&tree);
    }
    if (!any)
        kill(-copy->pid, SIGKILL);
    copy->kill_at = 0;
    copy->end_at = copies_now() + GRACE_MS;
}

void copies_tell(const struct copies *copies, struct copy *copy) {
    if (copy->role == COPY_TOLD)
        return;
    copy->role = COPY_TOLD;
    if (!copy->pid)
        return;
    copy->kill_at = copies_now() + copies->options->stop;
    if (copies->options->signal == SIGKILL)
        kill_copy(copy); /* what kills its reuse-run, leaves what that started */
    else
        kill(copy->pid, copies->options->signal);
}

void copies_kill_late(const struct copies *copies, bool now_all) {
    enum { TOGETHER_MS = 50 }; /* told one after the other, in one go */
    int64_t now = copies_now();
    if (!now_all && copies_next_kill(copies) > now)
        return;
    struct text late = {0};
    for (size_t i = 0; i < copies->count; i++) {
        struct copy *copy = copies->all[i];
        if (copy->role != COPY_TOLD || !copy->pid)
            continue;
        if (copy->kill_at && (now_all || copy->kill_at <= now + TOGETHER_MS)) {
            text_add(&late, " %s", copies_name(copy));
            kill_copy(copy);
        } else if (copy->end_at && copy->end_at <= now) { /* stopped, or no /proc */
            kill(-copy->pid, SIGKILL);
            copy->end_at = now + GRACE_MS;
        }
    }
    if (late.letters)
        say("copy%s: does not stop by SIG%s; killed", text_of(&late),
            signals_name(copies->options->signal));
    text_free(&late);
}

int64_t copies_next_kill(const struct copies *copies) {
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < copies->count; i++) {
        const struct copy *copy = copies->all[i];
        int64_t time = copy->kill_at ? copy->kill_at : copy->end_at;
        if (copy->role == COPY_TOLD && copy->pid && time && time < next)
            next = time;
    }
    return next;
}

void copies_signal(const struct copies *copies, int signal) {
    for (size_t i = 0; i < copies->count; i++)
        if (copies->all[i]->pid && copies->all[i]->role != COPY_TOLD)
            kill(copies->all[i]->pid, signal);
}
