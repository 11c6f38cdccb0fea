/*
 * takeover.h - from one generation of copies to the next, step by step: nothing here waits.
 *
 *     start   the first generation is started          STEP_START, until all listen
 *     reload  a further one is started                 STEP_RELOAD, until all listen
 *             the old copies leave                     STEP_TAKE_OVER, until all have ended
 *     serve   copies that die are started again; one more, one less; STEP_SERVE
 *     end     all are stopped                          STEP_END, until all have ended
 *
 * A copy that is to go, in a reload or alone, is given nothing new (steering.h), is told to stop as
 * soon as it holds nothing (drain.h), however long the others take, and is killed if it does not.
 */
#ifndef TAKEOVER_H
#define TAKEOVER_H

#include "copies.h"
#include "drain.h"
#include "service.h"

enum step { STEP_START, STEP_RELOAD, STEP_TAKE_OVER, STEP_SERVE, STEP_END };

struct takeover {
    struct options options;
    struct copies copies;
    struct service service;
    struct drain drain;
    unsigned count; /* of copies in a generation */
    enum step step;
    bool failed; /* the first generation did not get ready */

    int64_t ready_by;  /* a new generation is to be ready then; in milliseconds, copies_now() */
    int64_t stable;    /* since when its sockets are the same */
    uint64_t state;    /* these */
    int64_t drain_by;  /* what is leaving is told to stop then */
    int64_t told;      /* when one was told to stop last */
    int64_t next_look; /* while something is awaited */
    int64_t next_drain_look, pause;
    bool told_look; /* that the sockets cannot be looked at has been said */
};

/* Starts the first generation. */
void takeover_start(struct takeover *takeover);

/* Whether what the signals ask for can be begun now: a reload, a copy more or less. */
bool takeover_may_reload(const struct takeover *takeover);
bool takeover_may_change(const struct takeover *takeover);

void takeover_reload(struct takeover *takeover);
void takeover_add(struct takeover *takeover);
void takeover_take_away(struct takeover *takeover);

/* Stops all copies; at once, if AT_ONCE. */
void takeover_end(struct takeover *takeover, bool at_once);

/* Says what each copy does. */
void takeover_report(struct takeover *takeover);

/* Does what is due: hears which copies have ended, starts them again, looks, and goes on. */
void takeover_go_on(struct takeover *takeover);

/* When something is due next, INT64_MAX if nothing is before a signal or a death. */
int64_t takeover_next(const struct takeover *takeover);

#endif
