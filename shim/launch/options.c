/*
 * options.c - see options.h.
 */
#define _GNU_SOURCE
#include "options.h"
#include "say.h"
#include "signals.h"
#include "tool.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char options_usage[] =
    "Usage: reuse-launch [OPTION]... [--] PROGRAM [ARG]...\n"
    "Run several copies of PROGRAM, a server that stays in the foreground, as one service:\n"
    "they share its ports, and are started again if they die.\n"
    "\n"
    "  -n, --copies=N         so many copies (one for each processor)\n"
    "      --ready=SECONDS    how long they may take until they listen (30)\n"
    "      --drain=SECONDS    how long old copies may take to finish what they hold (30)\n"
    "      --idle=SECONDS     in the second half of that, a connection that has been quiet\n"
    "                           for so long counts as idle and is no longer waited for\n"
    "                           (0.5; 0: never)\n"
    "      --udp-linger=SECONDS\n"
    "                         how long an old copy may take to answer the last datagrams\n"
    "                           that it has read (2)\n"
    "      --stop=SECONDS     how long after the stop signal a copy is killed (10)\n"
    "      --signal=SIGNAL    the stop signal (TERM)\n"
    "      --relay=SIGNAL     pass SIGNAL on to every copy, whatever it means otherwise;\n"
    "                           may be given several times\n"
    "      --replace          put the copy's number, from 0, for every {} in ARGs, and the\n"
    "                           number of its slot, which no other living copy has, for {slot}\n"
    "      --may-drop-ports   let a reload give up ports that no new copy listens on\n"
    "      --prefix           put the copy's number before each line of its output\n"
    "      --pin              give each copy a processor of its own\n"
    "      --preload          share the ports by libreuse.so alone; see reuse-run(1)\n"
    "      --watch            share the ports of all that PROGRAM starts; see reuse-run(1)\n"
    "      --pid-file=FILE    write the process id of reuse-launch there\n"
    "      --keep             let the copies go on if reuse-launch is killed; the next one\n"
    "                           on their ports takes over from them\n"
    "      --help             display this help and exit\n"
    "      --version          output version information and exit\n"
    "\n"
    "Each copy finds its number in LIBREUSE_COPY, its slot in LIBREUSE_SLOT.  Signals to\n"
    "reuse-launch:\n"
    "\n"
    "  HUP          reload: new copies take over from the old ones, no request is lost\n"
    "  TTIN, TTOU   one copy more, one copy less\n"
    "  USR1         print a line on each copy\n"
    "  INT, TERM    stop all; a second one kills what is left\n"
    "\n"
    "Exit status: 0 if stopped by a signal, 1 if the copies did not get ready, 2 for wrong\n"
    "usage.\n";

/* What getopt_long(3) returns for the long options without a letter. */
enum {
    READY = 256,
    DRAIN,
    IDLE,
    UDP_LINGER,
    STOP,
    SIGNAL,
    RELAY,
    REPLACE,
    MAY_DROP_PORTS,
    PREFIX,
    PIN,
    PRELOAD,
    WATCH,
    PID_FILE,
    KEEP,
};

/* The last are those that every tool has. */
static const struct option table[] = {{"copies", required_argument, NULL, 'n'},
                                      {"ready", required_argument, NULL, READY},
                                      {"drain", required_argument, NULL, DRAIN},
                                      {"idle", required_argument, NULL, IDLE},
                                      {"udp-linger", required_argument, NULL, UDP_LINGER},
                                      {"stop", required_argument, NULL, STOP},
                                      {"signal", required_argument, NULL, SIGNAL},
                                      {"relay", required_argument, NULL, RELAY},
                                      {"replace", no_argument, NULL, REPLACE},
                                      {"may-drop-ports", no_argument, NULL, MAY_DROP_PORTS},
                                      {"prefix", no_argument, NULL, PREFIX},
                                      {"pin", no_argument, NULL, PIN},
                                      {"preload", no_argument, NULL, PRELOAD},
                                      {"watch", no_argument, NULL, WATCH},
                                      {"pid-file", required_argument, NULL, PID_FILE},
                                      {"keep", no_argument, NULL, KEEP},
                                      TOOL_OPTIONS,
                                      {0}};

enum { DAY = 86400 };

/* As people write the option that getopt_long(3) returns as CODE. */
static const char *name_of(int code) {
    const struct option *option = table;
    while (option->val != code)
        option++;
    return option->name;
}

/* Ends with a message about the value of an option. */
__attribute__((noreturn)) static void refuse(int code, const char *what) {
    say("--%s: '%s' is %s; try 'reuse-launch --help'", name_of(code), optarg, what);
    exit(tool.failure);
}

/* The option's value, which is to be a whole number from LEAST to MOST. */
static unsigned whole_number(int code, unsigned least, unsigned most) {
    size_t length = strspn(optarg, "0123456789");
    unsigned long value = strtoul(optarg, NULL, 10);
    if (!length || optarg[length] || length > 6 || value < least || value > most) {
        struct text what = {0};
        text_add(&what, "not a whole number from %u to %u", least, most);
        refuse(code, text_of(&what));
    }
    return (unsigned)value;
}

/* The option's value in milliseconds, which is to be a decimal number of seconds up to a day. */
static int64_t seconds(int code) {
    size_t whole = strspn(optarg, "0123456789");
    size_t length = whole;
    if (optarg[whole] == '.')
        length += 1 + strspn(optarg + whole + 1, "0123456789");
    double value = strtod(optarg, NULL);
    if (!whole || optarg[length] || value > DAY)
        refuse(code, "not a number of seconds from 0 to 86400");
    return (int64_t)(value * 1000);
}

/* The signal that the option's value names. */
static int signal_of(int code) {
    int number = signals_number(optarg);
    if (!number)
        refuse(code, "no signal");
    return number;
}

/* The processors that this process may run on: as many as there are copies without -n. */
static unsigned processors(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return (unsigned)CPU_COUNT(&set);
    long count = sysconf(_SC_NPROCESSORS_ONLN); /* more than a cpu_set_t holds */
    return count > 0 ? (unsigned)count : 1;
}

/* Adds a signal to those that are passed on. */
static void relay(struct options *options, int number) {
    if (number == SIGKILL || number == SIGSTOP || number == SIGCHLD)
        refuse(RELAY, "a signal that cannot be passed on");
    sigaddset(&options->relayed, number);
}

void options_read(struct options *options, int argc, char **argv) {
    *options = (struct options){.copies = processors(),
                                .ready = 30000,
                                .drain = 30000,
                                .idle = 500,
                                .stop = 10000,
                                .udp_linger = 2000,
                                .signal = SIGTERM};
    sigemptyset(&options->relayed);
    for (int code; (code = tool_option(argc, argv, "+n:", table)) >= 0;) {
        switch (code) {
        case 'n':
            options->copies = whole_number(code, 1, 1000);
            break;
        case READY:
            options->ready = whole_number(code, 1, DAY) * 1000LL;
            break;
        case DRAIN:
            options->drain = whole_number(code, 0, DAY) * 1000LL;
            break;
        case IDLE:
            options->idle = seconds(code);
            break;
        case UDP_LINGER:
            options->udp_linger = seconds(code);
            break;
        case STOP:
            options->stop = whole_number(code, 0, DAY) * 1000LL;
            break;
        case SIGNAL:
            options->signal = signal_of(code);
            break;
        case RELAY:
            relay(options, signal_of(code));
            break;
        case REPLACE:
            options->replace = true;
            break;
        case MAY_DROP_PORTS:
            options->may_drop_ports = true;
            break;
        case PREFIX:
            options->prefix = true;
            break;
        case PIN:
            options->pin = true;
            break;
        case PRELOAD:
            options->way = "--preload";
            break;
        case WATCH:
            options->way = "--watch";
            break;
        case PID_FILE:
            options->pid_file = optarg;
            break;
        case KEEP:
            options->keep = true;
            break;
        }
    }
    options->program = argv + optind;
    if (!*options->program) {
        say("no program given; try 'reuse-launch --help'");
        exit(tool.failure);
    }
}
