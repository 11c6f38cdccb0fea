/*
 * members.c - see members.h.
 */
#define _GNU_SOURCE
#include "members.h"
#include "holders.h"
#include "places.h"
#include "tool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

/* Whether both are of one group, or in each other's way. */
static bool same_group(const struct socket *a, const struct socket *b) {
    return a->port == b->port && a->protocol == b->protocol && a->family == b->family &&
           !memcmp(a->address, b->address, sizeof a->address) && a->ipv6_only == b->ipv6_only &&
           a->device == b->device;
}

struct group members_group(struct member *members, size_t left) {
    struct group group = {members, 1};
    while (group.count < left && same_group(members->socket, members[group.count].socket))
        group.count++;
    return group;
}

enum shared members_shared(const struct group *group) {
    enum shared result = SHARED_NO;
    for (size_t i = 0; i < group->count; i++) {
        enum shared one = group->members[i].socket->shared;
        if (one == SHARED_YES)
            return SHARED_YES;
        if (one == SHARED_UNKNOWN && group->count > 1)
            result = SHARED_UNKNOWN;
    }
    return result;
}

size_t members_make(struct member *members, const struct sockets *sockets, bool only_shared) {
    size_t count = 0;
    for (size_t i = 0; i < sockets->count; i++)
        members[i] = (struct member){.socket = &sockets->all[i]};
    struct group group;
    for (size_t i = 0; i < sockets->count; i += group.count) {
        group = members_group(&members[i], sockets->count - i);
        if (only_shared && members_shared(&group) == SHARED_NO)
            continue;
        memmove(&members[count], group.members, group.count * sizeof *members);
        count += group.count;
    }
    return count;
}

/* Whether the queue has no room for one more. */
static bool is_full(const struct socket *socket) {
    enum { LEAST_DATAGRAM = 768 }; /* octets of memory that an empty one takes */
    if (socket->protocol != IPPROTO_TCP)
        return socket->waiting + LEAST_DATAGRAM > socket->limit;
    return socket->waiting > socket->limit; /* sk_acceptq_is_full(): one more than it says fits */
}

/* Takes in how MEMBER's queue is NOW. */
static void look_again(struct member *member, const struct socket *now) {
    struct socket *then = member->socket;
    member->moved |= now->waiting < then->waiting;
    /* A listener counts as dropped what never was a connection, too. */
    member->full |= is_full(now) || (now->protocol != IPPROTO_TCP && now->dropped != then->dropped);
    then->waiting = now->waiting;
    then->dropped = now->dropped;
}

/* Makes PORTS those of the COUNT members where something waits, each once; returns how many. */
static size_t find_waiting(uint16_t *ports, const struct member *members, size_t count) {
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        const struct socket *socket = members[i].socket;
        if (socket->waiting && (!found || ports[found - 1] != socket->port))
            ports[found++] = socket->port;
    }
    return found;
}

/* Looks again at the COUNT members that are on the ports of QUERY; returns false and errno. */
static bool sample(struct member *members, size_t count, const struct sockets_query *query) {
    struct sockets now;
    if (!sockets_sample(&now, query))
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct socket *socket = sockets_find(&now, members[i].socket->cookie);
        if (socket)
            look_again(&members[i], socket);
    }
    sockets_free(&now);
    return true;
}

bool members_watch(struct member *members, size_t count, bool wait) {
    enum { PAUSE_MS = 50, SAMPLES = MEMBERS_WATCH_MS / PAUSE_MS };
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
    uint16_t ports[UINT16_MAX + 1];
    const struct sockets_query query = {
        .ports = ports, .port_count = wait ? find_waiting(ports, members, count) : 0};
    for (size_t i = 0; i < count; i++) {
        members[i].moved = !wait || !members[i].socket->waiting;
        members[i].full = is_full(members[i].socket);
    }
    for (int i = 0; query.port_count && i < SAMPLES; i++) {
        nanosleep(&pause, NULL);
        if (!sample(members, count, &query))
            return false;
    }
    return true;
}

bool members_drop_closed(struct member *members, size_t *count, const struct sockets_query *query) {
    struct sockets now;
    size_t kept = 0;
    if (!sockets_sample(&now, query))
        return false;
    while (kept < *count && sockets_find(&now, members[kept].socket->cookie))
        kept++;
    sockets_free(&now);
    if (kept == *count)
        return true;
    if (!sockets_read(&now, query)) /* a sample may lack one that is there */
        return false;
    kept = 0;
    for (size_t i = 0; i < *count; i++)
        if (sockets_find(&now, members[i].socket->cookie))
            members[kept++] = members[i];
    sockets_free(&now);
    *count = kept;
    return true;
}

/* Whether all that hold SOCKET are stopped. */
static bool is_stopped(const struct socket *socket) {
    size_t stopped = 0;
    while (stopped < socket->holder_count && holders_stopped(socket->holders[stopped].process))
        stopped++;
    return stopped && stopped == socket->holder_count;
}

/* Finds what is wrong with MEMBER of a group that is USER's; OTHERS_MOVE: another member takes
   what comes. */
static void judge(struct member *member, uid_t user, bool others_move) {
    const struct socket *socket = member->socket;
    member->problems[NOT_SHARED] = socket->shared == SHARED_NO;
    member->problems[OTHER_USER] = socket->user != user;
    member->problems[SEVERAL_HOLDERS] = socket->holder_count > 1;
    member->problems[FULL] = member->full;
    member->problems[NOT_MOVING] = socket->waiting && !member->moved && others_move;
    member->problems[STOPPED] = is_stopped(socket);
}

/* Whether MEMBER is steered with those of USER. */
static bool is_steered(const struct member *member, uid_t user) {
    return member->number >= 0 && member->socket->user == user;
}

unsigned members_numbered(const struct group *group, uid_t user) {
    unsigned result = 0;
    for (size_t i = 0; i < group->count; i++)
        result += is_steered(&group->members[i], user);
    return result;
}

/* The number of the member at INDEX of GROUP: one more than the last of its user's before it. */
static int next_number(const struct group *group, size_t index) {
    uid_t user = group->members[index].socket->user;
    while (index-- > 0)
        if (group->members[index].number >= 0 && group->members[index].socket->user == user)
            return group->members[index].number + 1;
    return 0;
}

void members_judge(struct group *group) {
    bool shared = members_shared(group) != SHARED_NO;
    size_t moving = 0;
    for (size_t i = 0; i < group->count; i++)
        moving += group->members[i].moved;
    for (size_t i = 0; i < group->count; i++) {
        struct member *member = &group->members[i];
        judge(member, group->members->socket->user, moving > member->moved);
        bool in = shared && !member->problems[NOT_SHARED];
        member->place = -1;
        member->number = in ? next_number(group, i) : -1;
    }
}

bool members_find_places(struct group *group, uid_t user) {
    enum { TRIES = 5 };
    const struct socket *sockets[PLACES_MOST];
    unsigned places[PLACES_MOST];
    size_t count = members_numbered(group, user), used = 0;
    for (size_t i = 0; count <= PLACES_MOST && i < group->count; i++)
        if (is_steered(&group->members[i], user))
            sockets[used++] = group->members[i].socket;
    bool found = places_find(sockets, count, places);
    for (int i = 0; !found && errno == EAGAIN && i < TRIES; i++)
        found = places_find(sockets, count, places);
    used = 0;
    for (size_t i = 0; found && i < group->count; i++)
        if (is_steered(&group->members[i], user))
            group->members[i].place = (int)places[used++];
    return found;
}

const char *members_protocol(const struct socket *socket) {
    return socket->protocol == IPPROTO_TCP   ? "tcp"
           : socket->protocol == IPPROTO_UDP ? "udp"
                                             : "udplite";
}

char *members_address(const struct socket *socket) {
    char address[INET6_ADDRSTRLEN] = "?", device[IF_NAMESIZE];
    inet_ntop(socket->family, socket->address, address, sizeof address);
    if (!socket->device)
        return tool_text("%s", address);
    return tool_text("%s%%%s", address, if_indextoname(socket->device, device) ? device : "?");
}
