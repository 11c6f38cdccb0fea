/*
 * reuse-cgroup [OPTION]... CGROUP [-- PROGRAM [ARG]...] - has the kernel share every port that is
 * bound in a cgroup.
 *
 * The cgroup is a folder (folders.h).  The kernel runs a program at each bind there
 * (instructions.h), which is attached to the cgroup (attach.h) and stays when this tool has ended.
 * Where that is so is shown as a table (list.h).
 */
#define _GNU_SOURCE
#include "attach.h"
#include "folders.h"
#include "list.h"
#include "ports.h"
#include "tool.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/utsname.h>
#include <unistd.h>

/* Exit statuses, as of env(1). */
enum { EXIT_NOT_ON = 1, EXIT_OWN_ERROR = 125, EXIT_NOT_RUNNABLE = 126, EXIT_NOT_FOUND = 127 };

const struct tool tool = {
    .name = "reuse-cgroup",
    .failure = EXIT_OWN_ERROR,
    .usage =
        "Usage: reuse-cgroup [--ports=LIST] [--force] CGROUP [-- PROGRAM [ARG]...]\n"
        "  or:  reuse-cgroup --remove CGROUP\n"
        "  or:  reuse-cgroup [--list] [--tsv]\n"
        "Have the kernel share every TCP and UDP port that is bound in CGROUP and below it, by\n"
        "whatever program; or show where that is so.\n"
        "\n"
        "CGROUP is a folder of cgroup v2, absolute or relative to where that is mounted; or self,\n"
        "the caller's own; or a process id, that of the process.\n"
        "With PROGRAM, make CGROUP if it is not there, and run PROGRAM in it, in the place of\n"
        "reuse-cgroup.\n"
        "\n"
        "  -p, --ports=LIST       share only these, such as 80,8000-8010,53/udp,[::1]:9000\n"
        "      --remove           share no longer what is bound from now on\n"
        "      --force            let CGROUP be the root, and so the whole machine\n"
        "      --list             show where it is on\n"
        "      --tsv              the same as tab-separated values, for scripts\n"
        "      --help             display this help and exit\n"
        "      --version          output version information and exit\n"
        "\n"
        "Exit status: 0; 1 if it is on nowhere, or was not where it is to be removed; 125 if\n"
        "reuse-cgroup itself fails, 126 if PROGRAM cannot be run, 127 if it cannot be found;\n"
        "else that of PROGRAM.\n",
};

enum action { TURN_ON, TURN_OFF, LIST };

/* What the command line says. */
struct command {
    enum action action;
    bool force, tsv;
    const char *list; /* NULL: every port */
    struct ports ports;
    const char *cgroup;
    char **program; /* NULL: none */
};

/* ----------------------------------------------------------------------------- what goes wrong */

/* Since bpf_setsockopt() takes SO_REUSEPORT; in these hooks it may be called since 5.11. */
enum { LINUX_MAJOR = 5, LINUX_MINOR = 13 };

static bool is_too_old(const struct utsname *system) {
    unsigned major = 0, minor = 0;
    sscanf(system->release, "%u.%u", &major, &minor);
    return major < LINUX_MAJOR || (major == LINUX_MAJOR && minor < LINUX_MINOR);
}

/* Ends if the kernel is too old: between 5.11 and 5.13 it would take the program, and not share. */
static void check_kernel(void) {
    struct utsname system;
    if (uname(&system) == 0 && is_too_old(&system))
        tool_fail("this kernel, Linux %s, is too old: it takes %d.%d or newer, where BPF programs "
                  "can set SO_REUSEPORT",
                  system.release, LINUX_MAJOR, LINUX_MINOR);
}

/* What to do about TROUBLE, that ended with errno. */
static const char *way_out(enum attach_trouble trouble) {
    bool forbidden = errno == EPERM || errno == EACCES;
    if (errno == ENOSYS)
        return "this kernel has no bpf(2), or a seccomp filter hides it; it takes "
               "CONFIG_BPF_SYSCALL";
    if (trouble == ATTACH_HOOK && forbidden)
        return "a program above, out of sight from here, allows none below it "
               "(BPF_F_ALLOW_MULTI); run reuse-cgroup outside of the container";
    if (trouble == ATTACH_HOOK && errno == E2BIG)
        return "64 programs are there already, the most that there can be; detach one (bpftool "
               "cgroup show, bpftool cgroup detach)";
    if (trouble == ATTACH_FIND && forbidden)
        return "other programs are there, and to look at them takes CAP_SYS_ADMIN, in the initial "
               "user namespace; be root";
    if (forbidden)
        return "this takes CAP_BPF and CAP_NET_ADMIN, in the initial user namespace, and nothing "
               "that forbids bpf(2), such as a container's seccomp filter or a security module; be "
               "root, outside of a container";
    if (errno == EINVAL)
        return "this kernel has no programs for the binds of a cgroup; it takes CONFIG_CGROUP_BPF";
    return "see bpf(2)";
}

__attribute__((noreturn)) static void fail(const char *what, const char *name,
                                           enum attach_trouble trouble) {
    tool_fail("cannot %s '%s': %s; %s", what, name, strerror(errno), way_out(trouble));
}

/*
 * Ends if a program of somebody else's is attached to CGROUP or above that allows none beside it:
 * the kernel refuses a second one then, or would run the other one no longer
 * (BPF_F_ALLOW_OVERRIDE).
 */
static void check_others(int cgroup, const char *path) {
    attach_free free_hooks = ATTACH_ALL_FREE;
    bool exclusive;
    char *at = tool_text("%s", path);
    int here = dup(cgroup);
    while (here >= 0) {
        enum attach_trouble trouble = attach_look(here, &free_hooks, &exclusive);
        if (trouble)
            fail("look at", at, trouble);
        if (exclusive)
            tool_fail("cannot turn it on for '%s': a program that is attached to '%s' allows none "
                      "beside it (BPF_F_ALLOW_MULTI); detach that (bpftool cgroup show, bpftool "
                      "cgroup detach)",
                      path, at);
        free(at);
        at = NULL;
        int below = here;
        here = folders_above(below, &at);
        close(below);
    }
    free(at);
}

/* ------------------------------------------------------------------------------- what it does */

/* Has the others that turn something on or off there wait. */
static void lock(int cgroup, const char *path) {
    if (flock(cgroup, LOCK_EX))
        tool_fail("cannot lock '%s': %s", path, strerror(errno));
}

static const char *entering_error(int error) {
    if (error == EBUSY)
        return "its controllers are for the cgroups below it (cgroup.subtree_control), so that it "
               "has no processes itself; name one below";
    if (error == EACCES || error == EPERM)
        return "be root, or its owner and that of a cgroup above both";
    if (error == EOPNOTSUPP)
        return "see cgroup.type there";
    return "see cgroups(7)";
}

/* Runs the program in CGROUP, in this process's place. */
__attribute__((noreturn)) static void run(const struct command *command, int cgroup,
                                          const char *path) {
    if (!folders_enter(cgroup))
        tool_fail("cannot go into '%s': %s; %s", path, strerror(errno), entering_error(errno));
    execvp(command->program[0], command->program);
    int error = errno;
    fprintf(stderr, "reuse-cgroup: cannot run '%s': %s\n", command->program[0], strerror(error));
    exit(error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUNNABLE);
}

static void turn_on(const struct command *command) {
    struct folders folders;
    check_kernel();
    folders_find(&folders);
    char *path = folders_path(&folders, command->cgroup);
    int cgroup = folders_open(path, command->program);
    if (folders_is_root(cgroup) && !command->force)
        tool_fail("'%s' is the root of all cgroups, and so the whole machine; name one below, or "
                  "use --force",
                  path);
    lock(cgroup, path);
    check_others(cgroup, path);
    enum attach_trouble trouble = attach_turn_on(cgroup, &command->ports, command->list);
    if (trouble)
        fail("turn it on for", path, trouble);
    if (command->program)
        run(command, cgroup, path);
}

static int turn_off(const struct command *command) {
    struct folders folders;
    bool was_on;
    folders_find(&folders);
    char *path = folders_path(&folders, command->cgroup);
    int cgroup = folders_open(path, false);
    lock(cgroup, path);
    enum attach_trouble trouble = attach_turn_off(cgroup, &was_on);
    if (trouble)
        fail("turn it off for", path, trouble);
    if (was_on)
        return EXIT_SUCCESS;
    fprintf(stderr, "reuse-cgroup: it is not on for '%s'; see reuse-cgroup --list\n", path);
    return EXIT_NOT_ON;
}

static int show(const struct command *command) {
    struct folders folders;
    struct list list = {0};
    folders_find(&folders);
    enum attach_trouble trouble = list_read(&list, folders.mount, NULL);
    if (trouble)
        fail("look at what is below", folders.mount, trouble);
    if (list.count) {
        list_print(&list, &folders, command->tsv);
        return EXIT_SUCCESS;
    }
    fputs("reuse-cgroup: it is on nowhere\n", stderr);
    return EXIT_NOT_ON;
}

/* ------------------------------------------------------------------------ the command, and main */

static void read_ports(struct command *command, const char *list) {
    struct ports_error error;
    command->list = list;
    if (!ports_read(&command->ports, list, &error))
        tool_fail("--ports: '%.*s': %s", (int)error.length, error.item, error.reason);
}

__attribute__((noreturn)) static void misuse(const char *wrong, const char *word) {
    fprintf(stderr, "reuse-cgroup: %s '%s'\n", wrong, word);
    tool_misuse();
}

/* Reads CGROUP and what follows it. */
static void read_operands(struct command *command, char **operands) {
    if (command->action == LIST) {
        if (*operands)
            misuse("extra operand", *operands);
        return;
    }
    command->cgroup = *operands++;
    if (command->action == TURN_ON && *operands && strcmp(*operands, "--") == 0) {
        command->program = ++operands;
        if (!*operands)
            misuse("which program to run is missing after", "--");
    } else if (*operands) {
        misuse("extra operand", *operands);
    }
}

static void read_command(struct command *command, int argc, char **argv) {
    enum { REMOVE = 256, FORCE, LIST_OPTION, TSV };
    static const struct option options[] = {
        {"ports", required_argument, NULL, 'p'},
        {"remove", no_argument, NULL, REMOVE},
        {"force", no_argument, NULL, FORCE},
        {"list", no_argument, NULL, LIST_OPTION},
        {"tsv", no_argument, NULL, TSV},
        TOOL_OPTIONS,
        {0},
    };
    static char name[] = "reuse-cgroup";
    argv[0] = name; /* for getopt_long()'s messages */
    int option;
    bool list = false;
    while ((option = tool_option(argc, argv, "+p:", options)) != -1) {
        switch (option) {
        case 'p':
            read_ports(command, optarg);
            break;
        case REMOVE:
            command->action = TURN_OFF;
            break;
        case FORCE:
            command->force = true;
            break;
        case TSV:
            command->tsv = true;
            list = true;
            break;
        case LIST_OPTION:
            list = true;
            break;
        }
    }
    bool alone = argc == 1;
    if (list || alone)
        command->action = LIST;
    else if (!argv[optind]) {
        fputs("reuse-cgroup: which cgroup is missing\n", stderr);
        tool_misuse();
    }
    read_operands(command, argv + optind);
}

int main(int argc, char **argv) {
    struct command command = {0};
    int status = EXIT_SUCCESS;
    read_command(&command, argc, argv);
    if (command.action == TURN_ON)
        turn_on(&command);
    else if (command.action == TURN_OFF)
        status = turn_off(&command);
    else
        status = show(&command);
    tool_finish(status);
}
