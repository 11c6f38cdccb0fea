/*
 * places.c - see places.h.
 */
#define _GNU_SOURCE
#include "places.h"

#include <stdlib.h>

static bool is_in(uint64_t member, const uint64_t *members, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (members[i] == member)
            return true;
    return false;
}

/* What becomes of the places from one look to the next. */
struct change {
    const uint64_t *members;
    size_t count;
    size_t stayed, joined;
    bool *left;  /* by index in the places of before: the member has gone */
    bool *fixed; /* by index: the member and its place are as they were */
};

/* Whether the cell of PLACE has a member that has left, or a place which may have been the last one
   when somebody left: LEAST members or more were there at every moment. */
static bool is_moved(const struct places *places, const struct change *change, size_t place,
                     size_t least) {
    for (size_t i = 0; i < places->count; i++)
        if (places->all[i].cell == places->all[place].cell &&
            (change->left[i] || places->all[i].place >= least))
            return true;
    return false;
}

/* Finds who has left and who has kept its place. */
static void compare(const struct places *places, struct change *change) {
    for (size_t i = 0; i < places->count; i++) {
        change->left[i] = !is_in(places->all[i].member, change->members, change->count);
        change->stayed += !change->left[i];
    }
    change->joined = change->count - change->stayed;
    for (size_t i = 0; i < places->count; i++)
        change->fixed[i] =
            change->stayed == places->count || !is_moved(places, change, i, change->stayed);
}

/* Makes the places of now in NEXT: what is fixed as it was, those who joined one after the other if
   nobody left, and the rest in one cell. */
static void carry(struct places *places, const struct change *change, struct place *next,
                  bool fresh) {
    bool taken[change->count + 1];
    size_t kept = 0;
    for (size_t i = 0; i < change->count; i++)
        taken[i] = false;
    for (size_t i = 0; i < places->count; i++)
        if (change->fixed[i]) {
            next[kept++] = places->all[i];
            taken[places->all[i].place] = true;
        }
    bool in_order = change->stayed == places->count && (places->count || fresh);
    unsigned place = 0, cell = places->cells++;
    size_t fixed = kept;
    for (size_t i = 0; i < change->count; i++) {
        bool known = false;
        for (size_t j = 0; j < fixed && !known; j++)
            known = next[j].member == change->members[i];
        if (known)
            continue;
        while (taken[place])
            place++;
        next[kept++] =
            (struct place){change->members[i], place++, in_order ? places->cells++ : cell};
    }
}

bool places_update(struct places *places, const uint64_t *members, size_t count, bool fresh) {
    struct change change = {.members = members, .count = count};
    struct place *next = calloc(count + 1, sizeof *next);
    change.left = calloc(places->count + 1, sizeof *change.left);
    change.fixed = calloc(places->count + 1, sizeof *change.fixed);
    bool complete = next && change.left && change.fixed;
    if (complete) {
        compare(places, &change);
        carry(places, &change, next, fresh);
        free(places->all);
        places->all = next;
        places->count = count;
    } else {
        free(next);
        places_free(places);
    }
    free(change.left);
    free(change.fixed);
    return complete;
}

/* Whether all members of the cell of PLACE are wanted. */
static bool is_wanted(const struct places *places, size_t place, places_filter *wanted,
                      void *context) {
    for (size_t i = 0; i < places->count; i++)
        if (places->all[i].cell == places->all[place].cell &&
            !wanted(places->all[i].member, context))
            return false;
    return true;
}

static int ascending(const void *left, const void *right) {
    unsigned a = *(const unsigned *)left, b = *(const unsigned *)right;
    return (a > b) - (a < b);
}

size_t places_of(const struct places *places, places_filter *wanted, void *context,
                 unsigned *result) {
    size_t count = 0;
    for (size_t i = 0; i < places->count; i++)
        if (is_wanted(places, i, wanted, context))
            result[count++] = places->all[i].place;
    if (count)
        qsort(result, count, sizeof *result, ascending);
    return count;
}

int places_where(const struct places *places, uint64_t member) {
    int found = -1;
    for (size_t i = 0; i < places->count; i++) {
        if (places->all[i].member != member)
            continue;
        found = (int)places->all[i].place;
        for (size_t j = 0; j < places->count; j++)
            if (j != i && places->all[j].cell == places->all[i].cell)
                return -1;
    }
    return found;
}

void places_free(struct places *places) {
    free(places->all);
    *places = (struct places){.cells = places->cells};
}
