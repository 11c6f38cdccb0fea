/*
 * places.h - which member of a group has which place, as far as that can be known.
 *
 * A place is a member's index in the kernel's array of the group.  The kernel does not tell it, but
 * its rules do: who joins gets the place after the last; when one leaves, the last gets its place
 * (reuseport_add_sock(), __reuseport_detach_sock()).  Of several that have left between two looks
 * it is not known which left first, and so not which of the last has which of their places; but
 * that these have those is.  Such places and members make a cell.
 */
#ifndef PLACES_H
#define PLACES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One member, and one place; those of a cell belong together in some order. */
struct place {
    uint64_t member; /* its cookie */
    unsigned place;
    unsigned cell;
};

struct places {
    struct place *all;
    size_t count;
    unsigned cells; /* so many have been made */
};

/*
 * Takes in that the COUNT MEMBERS, in order of joining, are those of the group now.  Those that are
 * there at the first time have their places by that order if FRESH: nobody can have left before;
 * else they are one cell.  Returns false for want of memory; nothing is known then.
 */
bool places_update(struct places *places, const uint64_t *members, size_t count, bool fresh);

/* Whether a member is wanted, by what CONTEXT says. */
typedef bool places_filter(uint64_t member, void *context);

/* Puts the places whose cells have none but wanted members into RESULT, in ascending order; there
   is room for all.  Returns how many. */
size_t places_of(const struct places *places, places_filter *wanted, void *context,
                 unsigned *result);

/* The place of MEMBER, or -1 if it is not known. */
int places_where(const struct places *places, uint64_t member);

void places_free(struct places *places);

#endif
