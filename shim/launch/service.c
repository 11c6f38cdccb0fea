/*
 * service.c - see service.h.
 *
 * All sockets are asked for at each look, but the processes are looked at only when there is a
 * socket whose owner is not known: one that none of the copies has, after some looks, is a
 * stranger's.
 */
#define _GNU_SOURCE
#include "service.h"
#include "group/diag.h"
#include "group/holders.h"
#include "group/members.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The kernel's states (include/net/tcp_states.h) of a socket that listens, and of one of UDP that
   is bound and not connected. */
enum { STATE_CLOSE = 7, STATE_LISTEN = 10 };

/* As often a socket is looked for among the copies'. */
enum { SEARCHES = 3 };

struct known {
    uint64_t cookie;
    uint32_t inode;
    unsigned searches;
    struct copy *copy; /* NULL: not found */
    struct service_holder holder;
    enum shared shared; /* of a copy's */
    bool picked;        /* the kernel chose its port */
};

/* Whether KNOWN is in no group that is of interest. */
static bool is_apart(const struct known *known) {
    return known->shared == SHARED_NO || known->picked;
}

static int by_cookie(const void *left, const void *right) {
    const struct known *a = left, *b = right;
    return (a->cookie > b->cookie) - (a->cookie < b->cookie);
}

static struct known *find_known(const struct service *service, uint64_t cookie) {
    const struct known wanted = {.cookie = cookie};
    return service->known_count ? bsearch(&wanted, service->known, service->known_count,
                                          sizeof *service->known, by_cookie)
                                : NULL;
}

/* ------------------------------------------------------------------------------ whose they are */

/* Whether the owner of KNOWN is still to be looked for. */
static bool is_open(const struct known *known) {
    return !known->copy && known->searches < SEARCHES;
}

/* Finds who of the copies, and of their processes in TREE, has each of SOCKETS, which are shared or
   not.  Returns false and errno. */
static bool find_holders(struct sockets *sockets, const struct copies *copies,
                         const struct tree *tree) {
    size_t count;
    pid_t *pids = copies_processes(copies, tree, false, &count);
    bool found = pids && holders_find_among(sockets, pids, count) && holders_ask(sockets);
    int error = errno;
    free(pids);
    errno = error;
    return found;
}

/* Notes what has been found out of SOCKET. */
static void note_owner(struct service *service, const struct copies *copies,
                       const struct tree *tree, const struct socket *socket) {
    struct known *known = find_known(service, socket->cookie);
    if (!socket->holder_count) {
        known->searches++;
        return;
    }
    const struct holder *first = &socket->holders[0];
    known->copy = copies_owner(copies, tree, first->process->pid);
    known->holder = (struct service_holder){first->process->pid, first->process->thread, first->fd};
    known->shared = socket->shared;
}

/* Looks for the owners of the sockets for which that is not known.  Returns 0, or -1 and errno. */
static int find_owners(struct service *service, const struct copies *copies) {
    struct tree tree = {0};
    struct sockets open = {.all = calloc(service->known_count + 1, sizeof *open.all)};
    if (!open.all)
        return -1;
    for (size_t i = 0; i < service->known_count; i++) {
        const struct known *known = &service->known[i];
        if (is_open(known))
            open.all[open.count++] =
                (struct socket){.cookie = known->cookie, .inode = known->inode};
    }
    bool found = !open.count || (tree_read(&tree) && find_holders(&open, copies, &tree));
    for (size_t i = 0; found && i < open.count; i++)
        note_owner(service, copies, &tree, &open.all[i]);
    int error = errno;
    tree_free(&tree);
    sockets_free(&open);
    errno = error;
    return found ? 0 : -1;
}

static bool note_picked(const struct diag_answer *answer, void *data) {
    struct known *known = find_known(data, diag_cookie(answer->message));
    if (known)
        known->picked = true;
    return true;
}

/* Notes which sockets have a port that the kernel picked.  Returns 0, or -1 and errno. */
static int find_picked(struct service *service) {
    const struct diag_query tcp = {
        .protocol = IPPROTO_TCP, .states = 1U << STATE_LISTEN, .picked = true};
    const struct diag_query udp = {
        .protocol = IPPROTO_UDP, .states = 1U << STATE_CLOSE, .picked = true};
    return diag_dump_both(tcp, note_picked, service) || diag_dump_both(udp, note_picked, service)
               ? -1
               : 0;
}

/* Takes in which SOCKETS there are: forgets those that have gone, and knows nothing of new ones. */
static int update_known(struct service *service, const struct sockets *sockets) {
    struct known *now = calloc(sockets->count + 1, sizeof *now);
    bool more = false;
    if (!now)
        return -1;
    for (size_t i = 0; i < sockets->count; i++) {
        const struct socket *socket = &sockets->all[i];
        const struct known *before = find_known(service, socket->cookie);
        more |= !before;
        now[i] =
            before ? *before : (struct known){.cookie = socket->cookie, .inode = socket->inode};
    }
    qsort(now, sockets->count, sizeof *now, by_cookie);
    free(service->known);
    service->known = now;
    service->known_count = sockets->count;
    return more ? find_picked(service) : 0;
}

void service_forget(struct service *service, const struct copy *copy) {
    for (size_t i = 0; i < service->known_count; i++)
        if (service->known[i].copy == copy)
            service->known[i] = (struct known){.cookie = service->known[i].cookie,
                                               .inode = service->known[i].inode};
    for (size_t i = 0; i < service->count; i++)
        for (size_t j = 0; j < service->groups[i].count; j++)
            if (service->groups[i].members[j].copy == copy)
                service->groups[i].members[j].copy = NULL;
}

/* --------------------------------------------------------------------------------- the groups */

/* Whether A and B are of one group, if both are shared. */
static bool same_group(const struct socket *a, const struct socket *b) {
    return a->port == b->port && a->protocol == b->protocol && a->family == b->family &&
           !memcmp(a->address, b->address, sizeof a->address) && a->ipv6_only == b->ipv6_only &&
           a->device == b->device && a->user == b->user;
}

/* The name of SOCKET's group, to be freed. */
static char *make_name(const struct socket *socket) {
    char *address = members_address(socket), *name = NULL;
    if (asprintf(&name, socket->family == AF_INET6 ? "[%s]:%u/%s" : "%s:%u/%s", address,
                 socket->port, members_protocol(socket)) < 0)
        name = NULL;
    free(address);
    return name;
}

/* Whether SOCKET's group was there before the first copy was started. */
static bool was_there(const struct service *service, const struct socket *socket) {
    for (size_t i = 0; i < service->before_count; i++)
        if (same_group(&service->before[i], socket))
            return true;
    return false;
}

/* Makes room for a group of SOCKET's, which may be the one of before; NULL for want of memory. */
static struct service_group *make_group(struct service *next, struct service *before,
                                        const struct socket *socket) {
    struct service_group *more = reallocarray(next->groups, next->count + 1, sizeof *more);
    if (!more)
        return NULL;
    next->groups = more;
    struct service_group *group = &more[next->count];
    *group = (struct service_group){0};
    for (size_t i = 0; i < before->count; i++)
        if (before->groups[i].count && same_group(&before->groups[i].members->socket, socket)) {
            *group = before->groups[i];
            free(group->members);
            before->groups[i] = before->groups[--before->count];
            break;
        }
    group->members = NULL;
    group->count = 0;
    if (!group->name) {
        group->name = make_name(socket);
        group->maybe_steered = was_there(next, socket);
    }
    if (!group->name)
        return NULL;
    next->count++;
    return group;
}

static bool is_placeholder(const struct service_group *group, uint64_t cookie) {
    for (size_t i = 0; i < group->placeholder_count; i++)
        if (group->placeholders[i].cookie == cookie)
            return true;
    return false;
}

/* Fills GROUP with those of SOCKETS that are of LIKE's group, in order of joining. */
static bool fill_group(const struct service *service, struct service_group *group,
                       const struct sockets *sockets, const struct socket *like) {
    group->members = calloc(sockets->count, sizeof *group->members);
    if (!group->members)
        return false;
    for (size_t i = 0; i < sockets->count; i++) {
        const struct socket *socket = &sockets->all[i];
        const struct known *known = find_known(service, socket->cookie);
        if (!same_group(socket, like) || !known || is_apart(known))
            continue;
        group->members[group->count++] = (struct service_member){
            .socket = *socket,
            .copy = known->copy,
            .holder = known->holder,
            .placeholder = !known->copy && is_placeholder(group, socket->cookie)};
    }
    return true;
}

/* Takes in who was in GROUP before the first copy was started: in which places is not known. */
static bool take_first(const struct service *service, struct service_group *group) {
    uint64_t *members = calloc(service->before_count + 1, sizeof *members);
    size_t count = 0;
    if (!members)
        return false;
    for (size_t i = 0; i < service->before_count; i++)
        if (same_group(&service->before[i], &group->members->socket))
            members[count++] = service->before[i].cookie;
    bool complete = places_update(&group->places, members, count, false);
    free(members);
    return complete;
}

bool service_take_places(struct service_group *group) {
    uint64_t *members = calloc(group->count + 1, sizeof *members);
    if (!members)
        return false;
    for (size_t i = 0; i < group->count; i++)
        members[i] = group->members[i].socket.cookie;
    bool complete = places_update(&group->places, members, group->count, true);
    free(members);
    return complete;
}

/* Whether SOCKET is a copy's, and in a group. */
static bool is_copys(const struct service *service, const struct socket *socket) {
    const struct known *known = find_known(service, socket->cookie);
    return known && known->copy && known->copy->role != COPY_FOUND && !is_apart(known);
}

/* Whether SERVICE has the group of SOCKET. */
static bool has_group(const struct service *service, const struct socket *socket) {
    for (size_t i = 0; i < service->count; i++)
        if (same_group(&service->groups[i].members->socket, socket))
            return true;
    return false;
}

static void drop_group(struct service_group *group) {
    for (size_t i = 0; i < group->placeholder_count; i++)
        close(group->placeholders[i].fd);
    free(group->placeholders);
    free(group->steered);
    free(group->members);
    free(group->name);
    places_free(&group->places);
}

/* Finds the groups that copies are in, among SOCKETS, which are sorted by order of joining within
   each. */
static bool make_groups(struct service *service, const struct sockets *sockets) {
    struct service next = {.before = service->before, .before_count = service->before_count};
    bool complete = true;
    for (size_t i = 0; i < sockets->count && complete; i++) {
        const struct socket *socket = &sockets->all[i];
        if (!is_copys(service, socket) || has_group(&next, socket))
            continue;
        struct service_group *group = make_group(&next, service, socket);
        complete = group && fill_group(service, group, sockets, socket) &&
                   (group->places.count || take_first(service, group)) &&
                   service_take_places(group);
    }
    for (size_t i = 0; i < service->count; i++)
        drop_group(&service->groups[i]);
    free(service->groups);
    service->groups = next.groups;
    service->count = next.count;
    return complete;
}

/* Notes in the copies what of theirs waits, and since when nothing of UDP does. */
static void update_copies(const struct service *service, const struct copies *copies,
                          const struct sockets *sockets) {
    int64_t now = copies_now();
    for (size_t i = 0; i < copies->count; i++) {
        copies->all[i]->waiting = 0;
        copies->all[i]->picked_port = 0;
    }
    for (size_t i = 0; i < sockets->count; i++) {
        const struct known *known = find_known(service, sockets->all[i].cookie);
        if (known && known->copy && known->picked)
            known->copy->picked_port = sockets->all[i].port;
    }
    for (size_t i = 0; i < service->count; i++)
        for (size_t j = 0; j < service->groups[i].count; j++) {
            const struct service_member *member = &service->groups[i].members[j];
            if (!member->copy)
                continue;
            member->copy->listened = true;
            member->copy->waiting += member->socket.waiting;
            if (member->socket.protocol != IPPROTO_TCP && member->socket.waiting)
                member->copy->quiet_since = now;
        }
}

int service_look(struct service *service, const struct copies *copies) {
    const struct sockets_query all = {0};
    struct sockets sockets;
    if (!sockets_read(&sockets, &all))
        return -1;
    int result = update_known(service, &sockets);
    if (result == 0)
        result = find_owners(service, copies);
    if (result == 0 && !make_groups(service, &sockets)) {
        errno = ENOMEM;
        result = -1;
    }
    if (result == 0)
        update_copies(service, copies, &sockets);
    int error = errno;
    sockets_free(&sockets);
    errno = error;
    return result;
}

int service_look_before(struct service *service) {
    const struct sockets_query all = {0};
    struct sockets sockets;
    if (!sockets_read(&sockets, &all))
        return -1;
    service->before = calloc(sockets.count + 1, sizeof *service->before);
    if (service->before) {
        service->before_count = sockets.count;
        for (size_t i = 0; i < sockets.count; i++)
            service->before[i] = sockets.all[i];
    }
    sockets_free(&sockets);
    return service->before ? 0 : -1;
}

/* ----------------------------------------------------------------------------- what is known */

size_t service_members(const struct service_group *group, const struct copy *copy) {
    size_t count = 0;
    for (size_t i = 0; i < group->count; i++)
        count += group->members[i].copy == copy;
    return count;
}

bool service_listens(const struct service *service, const struct copy *copy) {
    for (size_t i = 0; i < service->count; i++)
        if (service_members(&service->groups[i], copy))
            return true;
    return false;
}

bool service_stranger(const struct service_member *member) {
    return !member->placeholder && (!member->copy || member->copy->role == COPY_FOUND);
}

int service_take(const struct service_group *group) {
    errno = EPERM;
    for (size_t i = 0; i < group->count; i++) {
        const struct service_member *member = &group->members[i];
        struct process process = {.pid = member->holder.pid, .thread = member->holder.thread};
        struct holder holder = {&process, member->holder.fd};
        const struct socket socket = {
            .inode = member->socket.inode, .holders = &holder, .holder_count = 1};
        int fd = process.pid ? holders_take(&socket) : -1;
        if (fd >= 0)
            return fd;
    }
    return -1;
}

void service_pids(const struct service *service, const struct copy *copy, struct text *text) {
    pid_t shown[64];
    size_t count = 0;
    for (size_t i = 0; i < service->count; i++)
        for (size_t j = 0; j < service->groups[i].count; j++) {
            const struct service_member *member = &service->groups[i].members[j];
            bool again = member->copy != copy || !member->holder.pid || count == 64;
            for (size_t k = 0; k < count && !again; k++)
                again = shown[k] == member->holder.pid;
            if (again)
                continue;
            text_add(text, "%s%d", count ? " " : "", (int)member->holder.pid);
            shown[count++] = member->holder.pid;
        }
    if (!count)
        text_add(text, "%d", (int)copy->pid);
}

void service_names(const struct service *service, const struct copy *copy, struct text *text) {
    for (size_t i = 0; i < service->count; i++)
        if (!copy || service_members(&service->groups[i], copy))
            text_add(text, " %s", service->groups[i].name);
}

void service_note_wanted(const struct service *service, const struct copy *copy,
                         struct copy *next) {
    for (size_t i = 0; i < service->count; i++) {
        const struct service_group *group = &service->groups[i];
        if (!service_members(group, copy))
            continue;
        char **more = reallocarray(next->wanted.all, next->wanted.count + 1, sizeof *more);
        char *name = more ? strdup(group->name) : NULL;
        if (more)
            next->wanted.all = more;
        if (name)
            next->wanted.all[next->wanted.count++] = name;
    }
}

/* Whether a copy in ROLE is in the group NAME. */
static bool is_listened(const struct service *service, const char *name, enum role role,
                        const struct copy *only) {
    for (size_t i = 0; i < service->count; i++) {
        const struct service_group *group = &service->groups[i];
        if (strcmp(group->name, name) != 0)
            continue;
        for (size_t j = 0; j < group->count; j++) {
            const struct copy *copy = group->members[j].copy;
            if (copy && copy->role == role && (!only || copy == only))
                return true;
        }
    }
    return false;
}

/* Whether COPY listens on all that it is to; adds to MISSING where it does not. */
static bool is_complete(const struct service *service, const struct copy *copy,
                        struct text *missing, bool *dropped) {
    struct text lost = {0};
    if (!service_listens(service, copy)) {
        text_add(missing, "copy %u shares no port", copy->number);
        if (copy->picked_port)
            text_add(missing, " but %u, which the kernel picked,", copy->picked_port);
        return false;
    }
    for (size_t i = 0; i < copy->wanted.count; i++) {
        const char *name = copy->wanted.all[i];
        if (is_listened(service, name, copy->role, copy))
            continue;
        if (*dropped && !is_listened(service, name, copy->role, NULL))
            continue;
        text_add(&lost, " %s", name);
    }
    if (lost.letters)
        text_add(missing,
                 "copy %u does not listen on%s, where the old one does (--may-drop-ports gives up "
                 "what no new copy listens on)",
                 copy->number, text_of(&lost));
    bool complete = !lost.letters;
    text_free(&lost);
    return complete;
}

bool service_complete(const struct service *service, const struct copies *copies, enum role role,
                      struct text *missing, bool *dropped, uint64_t *state) {
    size_t all = 0;
    bool may_drop = *dropped;
    *dropped = false;
    *state = 0;
    for (size_t i = 0; i < copies->count; i++) {
        const struct copy *copy = copies->all[i];
        if (copy->role != role)
            continue;
        all++;
        bool allowed = may_drop;
        if (!is_complete(service, copy, missing, &allowed))
            return false;
        for (size_t j = 0; may_drop && j < copy->wanted.count; j++)
            *dropped |= !is_listened(service, copy->wanted.all[j], role, copy);
    }
    for (size_t i = 0; i < service->count; i++) {
        const struct service_group *group = &service->groups[i];
        size_t users = 0;
        for (size_t j = 0; j < copies->count; j++) {
            const struct copy *copy = copies->all[j];
            if (copy->role != role || !service_members(group, copy))
                continue;
            users++;
            for (size_t k = 0; k < group->count; k++)
                if (group->members[k].copy == copy)
                    *state = (*state ^ group->members[k].socket.cookie) * 0x9e3779b97f4a7c15u;
        }
        if (users > 1 && users < all) {
            text_add(missing, "not all copies listen on %s", group->name);
            return false;
        }
    }
    return true;
}
