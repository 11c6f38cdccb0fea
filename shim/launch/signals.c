/*
 * signals.c - see signals.h.  sigabbrev_np(3) is not in musl, nor in glibc before 2.32.
 */
#define _GNU_SOURCE
#include "signals.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int number;
} names[] = {
    {"HUP", SIGHUP},   {"INT", SIGINT},       {"QUIT", SIGQUIT}, {"ILL", SIGILL},
    {"TRAP", SIGTRAP}, {"ABRT", SIGABRT},     {"BUS", SIGBUS},   {"FPE", SIGFPE},
    {"KILL", SIGKILL}, {"USR1", SIGUSR1},     {"SEGV", SIGSEGV}, {"USR2", SIGUSR2},
    {"PIPE", SIGPIPE}, {"ALRM", SIGALRM},     {"TERM", SIGTERM}, {"STKFLT", SIGSTKFLT},
    {"CHLD", SIGCHLD}, {"CONT", SIGCONT},     {"STOP", SIGSTOP}, {"TSTP", SIGTSTP},
    {"TTIN", SIGTTIN}, {"TTOU", SIGTTOU},     {"URG", SIGURG},   {"XCPU", SIGXCPU},
    {"XFSZ", SIGXFSZ}, {"VTALRM", SIGVTALRM}, {"PROF", SIGPROF}, {"WINCH", SIGWINCH},
    {"IO", SIGIO},     {"POLL", SIGPOLL},     {"PWR", SIGPWR},   {"SYS", SIGSYS},
};

enum { NAME_COUNT = sizeof names / sizeof *names };

/* The number TEXT is, in decimal and nothing else; -1 if it is none, or a long one. */
static int decimal(const char *text) {
    size_t length = strspn(text, "0123456789");
    return length && length <= 4 && !text[length] ? atoi(text) : -1;
}

/* The signal RTMIN, RTMIN+N, RTMAX or RTMAX-N; 0 if TEXT is none. */
static int real_time(const char *text) {
    bool from_least = strncmp(text, "RTMIN", 5) == 0;
    if (!from_least && strncmp(text, "RTMAX", 5) != 0)
        return 0;
    text += 5;
    int offset = 0;
    if (*text) {
        offset = *text == (from_least ? '+' : '-') ? decimal(text + 1) : -1;
        if (offset < 0)
            return 0;
    }
    int number = from_least ? SIGRTMIN + offset : SIGRTMAX - offset;
    return number >= SIGRTMIN && number <= SIGRTMAX ? number : 0;
}

int signals_number(const char *text) {
    int number = decimal(text);
    if (number >= 0)
        return number <= SIGRTMAX ? number : 0;
    if (strncmp(text, "SIG", 3) == 0)
        text += 3;
    for (size_t i = 0; i < NAME_COUNT; i++)
        if (strcmp(text, names[i].name) == 0)
            return names[i].number;
    return real_time(text);
}

const char *signals_name(int signal) {
    static char name[16];
    for (size_t i = 0; i < NAME_COUNT; i++)
        if (names[i].number == signal)
            return names[i].name;
    snprintf(name, sizeof name, "RTMIN+%d", signal - SIGRTMIN);
    return name;
}
