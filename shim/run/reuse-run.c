/*
 * reuse-run [OPTION]... PROGRAM [ARG]... - runs a program with its ports shared, whatever it is.
 *
 * A program with a loader gets the shim preloaded and is exec'd in place.  One that a preload
 * cannot reach (way.h) is watched: its binds are trapped (trap.h), and answered by a process that
 * stays around it (stay.h).  So does one where nothing is to be left of it, or it is to die with
 * the parent.
 */
#define _GNU_SOURCE
#include "identity.h"
#include "log.h"
#include "permits.h"
#include "ports.h"
#include "stay.h"
#include "tool.h"
#include "way.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
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
    bool verbose, leave_nothing, die_with_parent;
    pid_t parent; /* of this process; 0 if that is outside its process namespace */
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

/* Has SHIM preloaded before what is preloaded already. */
static void preload(const char *shim) {
    if (strpbrk(shim, " \t\n:"))
        tool_fail("cannot preload '%s': LD_PRELOAD takes no path with a space or a colon; install "
                  "libreuse elsewhere, or use --watch",
                  shim);
    const char *others = getenv("LD_PRELOAD");
    char *list = tool_text("%s%s%s", shim, others && *others ? ":" : "", others ? others : "");
    if (setenv("LD_PRELOAD", list, 1))
        tool_fail("cannot set LD_PRELOAD: %s", strerror(errno));
    free(list);
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
    command->parent = getppid();
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
            command->die_with_parent = true;
            command->parent = optarg ? read_pid(optarg) : command->parent;
            break;
        case LEAVE_NOTHING:
            command->leave_nothing = true;
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
    struct command command = {0};
    struct ports ports;
    struct ports_error error;
    struct way_choice choice;
    pid_t started = getpid();
    read_command(&command, argc, argv);
    if (!ports_read(&ports, getenv("LIBREUSE_PORTS"), &error))
        log_bad_ports(&error);
    way_choose(&choice, command.way, command.arguments);
    if (command.verbose && (choice.way != WAY_NONE || choice.why))
        way_explain(&choice, command.arguments[0]);
    if (choice.way == WAY_PRELOAD)
        preload(choice.shim);
    if (choice.way == WAY_WATCH)
        permits_need(command.arguments[0]);
    if (choice.way == WAY_WATCH || command.leave_nothing || command.die_with_parent)
        stay_around(&(struct stay){
            .program = command.arguments[0],
            .ports = choice.way == WAY_WATCH ? &ports : NULL,
            .leave_nothing = command.leave_nothing,
            .die_with_parent = command.die_with_parent,
            .parent = command.parent,
            .title = argv[0],
            .title_size = (size_t)(argv[argc - 1] - argv[0]) + strlen(argv[argc - 1]),
        });
    exec(command.arguments, command.leave_nothing ? command.parent : 0, started);
}
