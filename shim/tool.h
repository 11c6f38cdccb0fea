/*
 * tool.h - what every tool does alike: says what failed, reads its options, and ends.
 *
 * Exit statuses and messages are as coreutils has them: a message begins with the tool's name.
 */
#ifndef TOOL_H
#define TOOL_H

#include <getopt.h>

/* What tells one tool from another; each main file defines it. */
struct tool {
    const char *name;
    int failure;       /* exit status where the tool itself fails, or is used wrongly */
    const char *usage; /* what --help shows */
};
extern const struct tool tool;

/* Says what failed, "NAME: ...", and exits. */
__attribute__((noreturn, format(printf, 1, 2))) void tool_fail(const char *format, ...);

/* PIECE, which there was memory for. */
void *tool_got(void *piece);

/* What asprintf(3) makes of it, to be freed. */
__attribute__((format(printf, 1, 2))) char *tool_text(const char *format, ...);

/* For wrong usage, of which the line has been printed: points at --help, and exits. */
__attribute__((noreturn)) void tool_misuse(void);

/* Exits with STATUS once all that was printed has got to standard output; says so if it cannot, as
   close_stdout() of gnulib does. */
__attribute__((noreturn)) void tool_finish(int status);

/* The last of a tool's options, before the {0} that ends them. */
enum { TOOL_HELP = 1000, TOOL_VERSION };
#define TOOL_OPTIONS                                                                               \
    {"help", no_argument, NULL, TOOL_HELP}, {                                                      \
        "version", no_argument, NULL, TOOL_VERSION                                                 \
    }

/* The next option by getopt_long(3), -1 after the last; --help, --version and wrong ones end
   here. */
int tool_option(int argc, char **argv, const char *letters, const struct option *options);

#endif
