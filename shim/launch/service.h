/*
 * service.h - which groups the copies are in, with whom, and in which places; ready or not.
 *
 * A group is the shared sockets of one protocol, family, address, device and user on a port: what
 * the kernel spreads over.  What is known is as of the last look.
 */
#ifndef SERVICE_H
#define SERVICE_H

#include "copies.h"
#include "group/sockets.h"
#include "places.h"
#include "say.h"

/* A process of a copy that has a socket open, one of its threads that goes on, and its descriptor
   for the socket; pid 0: none is known. */
struct service_holder {
    pid_t pid, thread;
    int fd;
};

struct service_member {
    struct socket socket; /* without its holders */
    struct copy *copy;    /* whose it is; NULL: a stranger's, or a placeholder */
    struct service_holder holder;
    bool placeholder; /* of our own (placeholder.h) */
};

/* A member of our own, that gets nothing (group/placeholder.h). */
struct service_placeholder {
    int fd;
    uint64_t cookie;
};

struct service_group {
    char *name; /* "ADDRESS:PORT/PROTOCOL" */
    struct service_member *members;
    size_t count;
    struct places places;

    struct service_placeholder *placeholders;
    size_t placeholder_count;
    bool takes_placeholder; /* it cannot be steered through its members */
    /* What the kernel has last been told: the places that get what is new; none: all members. */
    unsigned *steered;
    size_t steered_count;
    bool maybe_steered; /* by a reuse-launch that was killed */
    /* What has been said: that it cannot be steered, and how many strangers there are. */
    bool told_failure;
    size_t told_strangers;
};

struct service {
    struct service_group *groups;
    size_t count;
    struct known *known; /* sockets whose owner is known, or looked for in vain; service.c */
    size_t known_count;
    struct socket *before; /* those that were there before the first copy was started */
    size_t before_count;
};

/* Looks at the sockets of the machine, and whose they are.  Returns 0, or -1 and errno. */
int service_look(struct service *service, const struct copies *copies);

/* Notes which sockets are there before the first copy is started.  Returns 0, or -1 and errno. */
int service_look_before(struct service *service);

/* Forgets whose sockets are COPY's, which has ended, or is to be nobody's. */
void service_forget(struct service *service, const struct copy *copy);

/* How many members of GROUP are COPY's. */
size_t service_members(const struct service_group *group, const struct copy *copy);

/* Takes in the places of the members that GROUP has.  Returns false for want of memory. */
bool service_take_places(struct service_group *group);

/* Whether COPY is in a group. */
bool service_listens(const struct service *service, const struct copy *copy);

/* Whether MEMBER is of somebody else. */
bool service_stranger(const struct service_member *member);

/* A duplicate of a member of GROUP through which it can be steered; -1 and errno. */
int service_take(const struct service_group *group);

/* Adds to TEXT the pids that hold the sockets of COPY, its own where that is not known. */
void service_pids(const struct service *service, const struct copy *copy, struct text *text);

/* Adds to TEXT the groups that COPY is in, a space before each; all copies' if it is NULL. */
void service_names(const struct service *service, const struct copy *copy, struct text *text);

/* Notes where COPY listens: as what the copy that follows it, NEXT, is to do. */
void service_note_wanted(const struct service *service, const struct copy *copy, struct copy *next);

/*
 * Whether every copy in ROLE listens where it is to; adds to MISSING what is missing first.
 * DROPPED: ports of the last generation on which none of this one listens are given up; sets it if
 * there are such.  STATE becomes a number that changes with their sockets.
 */
bool service_complete(const struct service *service, const struct copies *copies, enum role role,
                      struct text *missing, bool *dropped, uint64_t *state);

#endif
