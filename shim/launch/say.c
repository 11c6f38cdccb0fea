/*
 * say.c - see say.h.
 */
#define _GNU_SOURCE
#include "say.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void say(const char *format, ...) {
    char *message, *line;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&message, format, arguments);
    va_end(arguments);
    if (length < 0) {
        static const char want[] = "reuse-launch: out of memory\n";
        (void)!write(STDERR_FILENO, want, sizeof want - 1);
        return;
    }
    length = asprintf(&line, "reuse-launch: %s\n", message);
    if (length >= 0) {
        (void)!write(STDERR_FILENO, line,
                     (size_t)length); /* in one piece: others write there too */
        free(line);
    }
    free(message);
}

void text_add(struct text *text, const char *format, ...) {
    char *piece;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&piece, format, arguments);
    va_end(arguments);
    if (length < 0)
        return;
    char *letters = realloc(text->letters, text->length + (size_t)length + 1);
    if (letters) {
        memcpy(letters + text->length, piece, (size_t)length + 1);
        text->letters = letters;
        text->length += (size_t)length;
    }
    free(piece);
}

const char *text_of(const struct text *text) {
    return text->letters ? text->letters : "";
}

void text_free(struct text *text) {
    free(text->letters);
    *text = (struct text){0};
}
