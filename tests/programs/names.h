/*
 * names.h - errors and signals by name, as strerrorname_np() and sigabbrev_np() have them, which
 * came with glibc 2.32 and which musl has not.
 */
#ifndef NAMES_H
#define NAMES_H

#include <errno.h>
#include <signal.h>
#include <string.h>

struct name {
    int number;
    const char *name;
};

/* Returns the name of NUMBER among the COUNT of NAMES, OTHER if it has none there. */
static inline const char *find_name(const struct name *names, size_t count, int number,
                                    const char *other) {
    for (size_t i = 0; i < count; i++)
        if (names[i].number == number)
            return names[i].name;
    return other;
}

/* What a bind, and the calls around it, can end with; another in words. */
static inline const char *error_name(int number) {
    static const struct name names[] = {
        {0, "0"},
        {EACCES, "EACCES"},
        {EADDRINUSE, "EADDRINUSE"},
        {EADDRNOTAVAIL, "EADDRNOTAVAIL"},
        {EAFNOSUPPORT, "EAFNOSUPPORT"},
        {EALREADY, "EALREADY"},
        {EBADF, "EBADF"},
        {ECONNREFUSED, "ECONNREFUSED"},
        {EEXIST, "EEXIST"},
        {EFAULT, "EFAULT"},
        {EINTR, "EINTR"},
        {EINVAL, "EINVAL"},
        {EIO, "EIO"},
        {ENAMETOOLONG, "ENAMETOOLONG"},
        {ENODEV, "ENODEV"},
        {ENOENT, "ENOENT"},
        {ENOMEM, "ENOMEM"},
        {ENOPROTOOPT, "ENOPROTOOPT"},
        {ENOSYS, "ENOSYS"},
        {ENOTDIR, "ENOTDIR"},
        {ENOTSOCK, "ENOTSOCK"},
        {EOPNOTSUPP, "EOPNOTSUPP"},
        {EPERM, "EPERM"},
        {EPROTONOSUPPORT, "EPROTONOSUPPORT"},
        {ESOCKTNOSUPPORT, "ESOCKTNOSUPPORT"},
    };
    return find_name(names, sizeof names / sizeof *names, number, strerror(number));
}

/* What the tests send; another in words. */
static inline const char *signal_name(int number) {
    static const struct name names[] = {
        {SIGALRM, "ALRM"}, {SIGCHLD, "CHLD"},   {SIGCONT, "CONT"}, {SIGHUP, "HUP"},
        {SIGINT, "INT"},   {SIGPIPE, "PIPE"},   {SIGTERM, "TERM"}, {SIGTSTP, "TSTP"},
        {SIGTTIN, "TTIN"}, {SIGTTOU, "TTOU"},   {SIGUSR1, "USR1"}, {SIGUSR2, "USR2"},
        {SIGURG, "URG"},   {SIGWINCH, "WINCH"}, {SIGPWR, "PWR"},
    };
    return find_name(names, sizeof names / sizeof *names, number, strsignal(number));
}

#endif
