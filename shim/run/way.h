/*
 * way.h - which way reuse-run takes to a program's binds, and why.
 */
#ifndef WAY_H
#define WAY_H

enum way {
    WAY_ANY,     /* asked for: the one that reaches the program */
    WAY_PRELOAD, /* the shim is preloaded */
    WAY_WATCH,   /* its binds are trapped */
    WAY_NONE,    /* it is run as it is */
};

struct way_choice {
    enum way way;    /* never WAY_ANY */
    const char *why; /* NULL: nothing speaks for another */
    char file[4096]; /* the program file that decided */
    char shim[4096]; /* to be preloaded */
};

/*
 * Chooses the way for the program in ARGUMENTS[0], which is to be run with the rest.  One of the
 * rest may be a program too, that the first is to run (nice, env, tini): where a preload does not
 * reach any of them, they are watched.  ASKED is the way that the user wants.  Fails
 * (tool_fail()) if there is none.
 */
void way_choose(struct way_choice *choice, enum way asked, char **arguments);

/* Says on standard error which way NAME goes, and why. */
void way_explain(const struct way_choice *choice, const char *name);

#endif
