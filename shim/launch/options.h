/*
 * options.h - the command line of reuse-launch.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* What is asked for; times in milliseconds. */
struct options {
    unsigned copies;
    int64_t ready, drain, idle, stop, udp_linger;
    int signal;
    bool replace, prefix, pin, keep, may_drop_ports;
    const char *pid_file; /* NULL: none */
    const char *way;      /* an option of reuse-run's; NULL: as that finds best */
    sigset_t relayed;
    char **program; /* and its arguments */
};

/* What --help shows. */
extern const char options_usage[];

/* Reads the command line; --help, --version and wrong usage end here. */
void options_read(struct options *options, int argc, char **argv);

#endif
