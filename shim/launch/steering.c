/*
 * steering.c - see steering.h.
 */
#define _GNU_SOURCE
#include "steering.h"
#include "group/placeholder.h"
#include "group/steer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Whether MEMBER is to get what is new. */
static bool is_wanted(const struct service_member *member) {
    return service_stranger(member) || (member->copy && member->copy->role == COPY_SERVING);
}

static bool is_wanted_cookie(uint64_t cookie, void *context) {
    const struct service_group *group = context;
    for (size_t i = 0; i < group->count; i++)
        if (group->members[i].socket.cookie == cookie)
            return is_wanted(&group->members[i]);
    return false;
}

static bool is_going(const struct service_member *member) {
    return member->copy && (member->copy->role == COPY_LEAVING || member->copy->role == COPY_TOLD);
}

static bool is_own(const struct service_member *member) {
    return member->placeholder;
}

static size_t count_members(const struct service_group *group,
                            bool (*is)(const struct service_member *member)) {
    size_t count = 0;
    for (size_t i = 0; i < group->count; i++)
        count += is(&group->members[i]);
    return count;
}

static bool is_told(const struct service_member *member) {
    return member->copy && member->copy->role == COPY_TOLD;
}

/* ------------------------------------------------------------------------------- placeholders */

/* Opens one more placeholder in GROUP; returns false and errno. */
static bool open_placeholder(struct service_group *group) {
    struct service_placeholder *more =
        reallocarray(group->placeholders, group->placeholder_count + 1, sizeof *more);
    if (!more)
        return false;
    group->placeholders = more;
    struct service_placeholder *one = &more[group->placeholder_count];
    socklen_t length = sizeof one->cookie;
    one->fd = placeholder_open(&group->members->socket);
    if (one->fd < 0)
        return false;
    if (getsockopt(one->fd, SOL_SOCKET, SO_COOKIE, &one->cookie, &length)) {
        int error = errno;
        close(one->fd);
        errno = error;
        return false;
    }
    group->placeholder_count++;
    return true;
}

void steering_reserve(struct service *service) {
    for (size_t i = 0; i < service->count; i++) {
        struct service_group *group = &service->groups[i];
        size_t wanted = count_members(group, is_going);
        if (group->steered_count)
            while (group->placeholder_count < wanted && open_placeholder(group))
                continue;
    }
}

/* Closes the last COUNT placeholders of GROUP; takes in the places of those that are left. */
static void close_placeholders(struct service_group *group, size_t count) {
    while (count--) {
        const struct service_placeholder *one = &group->placeholders[--group->placeholder_count];
        close(one->fd);
        for (size_t i = 0; i < group->count; i++)
            if (group->members[i].socket.cookie == one->cookie) {
                group->count--;
                memmove(&group->members[i], &group->members[i + 1],
                        (group->count - i) * sizeof *group->members);
                break;
            }
    }
    service_take_places(group);
}

/* ------------------------------------------------------------------------ telling the kernel */

/* Has the kernel follow PLAN in the group of FD, or nothing if it is NULL; closes FD. */
static bool tell_through(int fd, const struct steer_plan *plan) {
    bool done = fd >= 0 && (plan ? steer_attach(fd, plan) : steer_detach(fd));
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return done;
}

/* The same, through any of the group's members, or a placeholder where these do not take it: they
   are MPTCP sockets, or out of reach.  Returns false and errno. */
static bool tell(struct service_group *group, const struct steer_plan *plan) {
    if (!group->placeholder_count) {
        if (tell_through(service_take(group), plan))
            return true;
        int error = errno;
        group->takes_placeholder = open_placeholder(group);
        errno = error;
        if (!group->takes_placeholder)
            return false;
    }
    int fd = group->placeholders[group->placeholder_count - 1].fd;
    if (plan)
        return steer_attach(fd, plan);
    bool done = steer_detach(fd);
    close_placeholders(group, group->placeholder_count); /* they would get their part */
    return done;
}

/* Steers GROUP to its places up to LIMIT that have none but wanted members; to all of these if
   there are no others.  Returns false and errno: ENOENT if no place is known to be such. */
static bool steer_below(struct service_group *group, size_t limit) {
    unsigned *places = calloc(group->count + 1, sizeof *places);
    if (!places)
        return false;
    size_t all = places_of(&group->places, is_wanted_cookie, group, places), count = all;
    while (count && places[count - 1] >= limit)
        count--;
    if (!count)
        count = all;
    if (group->steered_count == count && count &&
        memcmp(places, group->steered, count * sizeof *places) == 0) {
        free(places);
        return true;
    }
    const struct steer_plan plan = {.to = {places, count}};
    errno = ENOENT;
    if (!count || !tell(group, &plan)) {
        int error = errno;
        free(places);
        errno = error;
        return false;
    }
    free(group->steered);
    group->steered = places;
    group->steered_count = count;
    return true;
}

/* Has the kernel spread over all members of GROUP.  Returns false and errno. */
static bool unsteer(struct service_group *group) {
    if (!group->steered_count && !group->maybe_steered)
        return true;
    if (!tell(group, NULL))
        return false;
    free(group->steered);
    group->steered = NULL;
    group->steered_count = 0;
    group->maybe_steered = false;
    return true;
}

/* ------------------------------------------------------------------ closing the placeholders */

/* The placeholder that is known to have the highest place, of the first COUNT; any if none is. */
static size_t highest_placeholder(const struct service_group *group, size_t count) {
    size_t highest = 0;
    int place = -1;
    for (size_t i = 0; i < count; i++) {
        int one = places_where(&group->places, group->placeholders[i].cookie);
        if (one > place) {
            place = one;
            highest = i;
        }
    }
    return highest;
}

/*
 * Closes the placeholders of GROUP, of which nobody is leaving any more, but for one that it takes
 * to be unsteered: some at a time, so that three quarters of the others get what is new meanwhile.
 * Those whose places are not known are closed together, as then it is known at least that the
 * others have those places.
 */
static void close_all(struct service_group *group) {
    size_t last = group->takes_placeholder ? 1 : 0;
    while (group->placeholder_count > last) {
        size_t wanted = count_members(group, is_wanted), most = wanted / 4 ? wanted / 4 : 1;
        size_t count = 0;
        while (count < most && group->placeholder_count - count > last) {
            size_t left = group->placeholder_count - count;
            size_t highest = highest_placeholder(group, left);
            struct service_placeholder one = group->placeholders[highest];
            if (places_where(&group->places, one.cookie) < 0)
                break;
            group->placeholders[highest] = group->placeholders[left - 1];
            group->placeholders[left - 1] = one;
            count++;
        }
        if (!count)
            count = group->placeholder_count - last;
        if (wanted)
            steer_below(group, group->count - count);
        close_placeholders(group, count);
        if (wanted)
            steer_below(group, group->count);
    }
}

/* ------------------------------------------------------------------------- as it is to be */

static bool apply(struct service_group *group, bool hold) {
    size_t wanted = count_members(group, is_wanted);
    if (wanted + count_members(group, is_own) < group->count || hold)
        return !wanted || steer_below(group, group->count - count_members(group, is_told));
    close_all(group);
    return unsteer(group);
}

void steering_apply(struct service *service, bool hold) {
    for (size_t i = 0; i < service->count; i++) {
        struct service_group *group = &service->groups[i];
        if (apply(group, hold)) {
            group->told_failure = false;
            continue;
        }
        if (group->told_failure)
            continue;
        group->told_failure = true;
        say("cannot steer: %s: %s; requests to the copies that are stopped may fail", group->name,
            errno == ENOENT ? "the places of its members are not known" : strerror(errno));
    }
}

bool steering_may_leave(const struct service *service, const struct copy *copy) {
    for (size_t i = 0; i < service->count; i++) {
        const struct service_group *group = &service->groups[i];
        size_t told = count_members(group, is_told), leaving = service_members(group, copy);
        if (!told || !leaving)
            continue;
        size_t wanted = 0, kept = 0;
        for (size_t j = 0; j < group->count; j++) {
            if (!is_wanted(&group->members[j]))
                continue;
            int place = places_where(&group->places, group->members[j].socket.cookie);
            wanted++;
            kept += place < 0 || (size_t)place + told + leaving < group->count;
        }
        if (kept * 4 < wanted * 3)
            return false;
    }
    return true;
}
