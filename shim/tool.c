/*
 * tool.c - see tool.h.
 */
#define _GNU_SOURCE
#include "tool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Without memory of its own, for want of which it may be called. */
void tool_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", tool.name);
    vfprintf(stderr, format, arguments);
    fputs("\n", stderr);
    va_end(arguments);
    exit(tool.failure);
}

void *tool_got(void *piece) {
    if (!piece)
        tool_fail("out of memory");
    return piece;
}

char *tool_text(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *text;
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    va_end(arguments);
    return tool_got(text);
}

void tool_misuse(void) {
    fprintf(stderr, "Try '%s --help' for more information.\n", tool.name);
    exit(tool.failure);
}

void tool_finish(int status) {
    if (fflush(stdout) || ferror(stdout))
        tool_fail("cannot write: %s", strerror(errno));
    exit(status);
}

int tool_option(int argc, char **argv, const char *letters, const struct option *options) {
    int option = getopt_long(argc, argv, letters, options, NULL);
    switch (option) {
    case TOOL_HELP:
        fputs(tool.usage, stdout);
        tool_finish(EXIT_SUCCESS);
    case TOOL_VERSION:
        printf("%s (libreuse) %s\n", tool.name, VERSION);
        tool_finish(EXIT_SUCCESS);
    case '?':
        tool_misuse();
    default:
        return option;
    }
}
