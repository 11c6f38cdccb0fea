/*
 * members.h - who is in which group, and what is wrong there.
 *
 * A group is what the kernel spreads over: the shared sockets of one protocol, family, address,
 * device and user on a port (inet_reuseport_add_sock(), udp_reuseport_add_sock()).  The sockets
 * that are not shared, or another user's, count with it here, as they are in its way; those of each
 * user have numbers of their own.
 */
#ifndef MEMBERS_H
#define MEMBERS_H

#include "sockets.h"

/* What can be wrong with a member. */
enum problem { NOT_SHARED, OTHER_USER, SEVERAL_HOLDERS, FULL, NOT_MOVING, STOPPED, PROBLEM_KINDS };

struct member {
    struct socket *socket;
    int number; /* in order of joining, from 0; -1 if in no group */
    int place;  /* in the kernel's array (steer.h), by members_find_places(); -1 if not known */
    /* Of its queue: it was empty or got shorter, or had no room, while it was looked at. */
    bool moved, full;
    bool problems[PROBLEM_KINDS];
};

/* The members of one group, and what is in its way, in order of joining. */
struct group {
    struct member *members;
    size_t count;
};

/* How long members_watch() looks whether queues move, in milliseconds. */
enum { MEMBERS_WATCH_MS = 500 };

/* Makes members of SOCKETS, group by group; with ONLY_SHARED of those alone that share a port.
   There is room in MEMBERS for all SOCKETS.  Returns how many there are. */
size_t members_make(struct member *members, const struct sockets *sockets, bool only_shared);

/* The group that begins with MEMBERS, of which LEFT are there. */
struct group members_group(struct member *members, size_t left);

/* Whether the port is shared: a member is known to be; maybe, if several are there that may be. */
enum shared members_shared(const struct group *group);

/* How many members of GROUP have a number among USER's. */
unsigned members_numbered(const struct group *group, uid_t user);

/* Looks whether the queues of the COUNT members, sorted as members_make() does, move: for
   MEMBERS_WATCH_MS if there is something in any of them and WAIT is set.  Returns false and errno
   if the kernel cannot be asked. */
bool members_watch(struct member *members, size_t count, bool wait);

/* Leaves those of the *COUNT members of QUERY that are still there: what was closed meanwhile is
   nobody's, and did not move.  Returns false and errno if the kernel cannot be asked. */
bool members_drop_closed(struct member *members, size_t *count, const struct sockets_query *query);

/* Gives the members of GROUP their numbers, and finds what is wrong with them. */
void members_judge(struct group *group);

/* Finds the places of those members of GROUP, judged, that are USER's (places.h); returns false and
   errno, EAGAIN if it changes all the time. */
bool members_find_places(struct group *group, uid_t user);

/* "tcp", "udp" or "udplite"; the address of SOCKET as people write it, to be freed, the device
   after it where the socket is bound to one. */
const char *members_protocol(const struct socket *socket);
char *members_address(const struct socket *socket);

#endif
