/*
 * say.h - what reuse-launch says: a line at a time to standard error, where there is one.
 */
#ifndef SAY_H
#define SAY_H

/* Writes "reuse-launch: ..." and a newline, at once; to nobody if nobody can be reached. */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);

/* A text that grows; "" where there was no memory for it. */
struct text {
    char *letters; /* NULL: nothing yet */
    unsigned long length;
};

__attribute__((format(printf, 2, 3))) void text_add(struct text *text, const char *format, ...);

/* What TEXT holds so far, "" at first. */
const char *text_of(const struct text *text);

void text_free(struct text *text);

#endif
