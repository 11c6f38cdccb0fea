/*
 * places.c - see places.h.
 *
 * The kernel tells which member it would choose for a packet by its hash: that of n in the place
 * hash * n / 2^32, rounded down (reuseport_select_sock()).  Nobody knows the hash.  But where there
 * are n members more, the same packet goes to twice that place, or the next.  If the new ones are
 * our own, we know their places: n to 2n - 1.  So of a packet that goes to one of them, we know the
 * place that it went to before, and whose that is; and so on down to place 0.
 */
#define _GNU_SOURCE
#include "places.h"
#include "diag.h"
#include "placeholder.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { UNKNOWN = -1 };

/* A socket in the group. */
struct known {
    uint64_t cookie;
    int index; /* among the members, and the placeholders after them */
};

/* One look at a group. */
struct look {
    const struct socket *const *members;
    size_t count;
    int line;
    int *placeholders; /* as many */
    struct known *by_cookie;
    size_t known_count;
    /* Whom the kernel chooses for each packet, before the placeholders came, and with them. */
    int *before, *after;
    size_t packet_count;
};

static int compare(const void *left, const void *right) {
    const struct known *a = left, *b = right;
    return (a->cookie > b->cookie) - (a->cookie < b->cookie);
}

static void know(struct look *look, uint64_t cookie) {
    look->by_cookie[look->known_count] = (struct known){cookie, (int)look->known_count};
    look->known_count++;
}

/* The packet of this NUMBER to the group that LIKE is in, from an address that is for
   documentation (RFC 5737, RFC 3849), and to such a one where LIKE is bound to none. */
static struct diag_packet packet_to(const struct socket *like, size_t number) {
    static const uint8_t nowhere[16] = {0};
    struct diag_packet packet = {
        .protocol = like->protocol,
        .family = like->family,
        .port = like->port,
        .peer_port = (uint16_t)(1024 + number),
        .device = like->device,
    };
    memcpy(packet.address, like->address, sizeof packet.address);
    bool any = !memcmp(like->address, nowhere, sizeof nowhere);
    bool ipv4 = like->family == AF_INET, mapped = IN6_IS_ADDR_V4MAPPED(like->address);
    if (any)
        inet_pton(like->family, ipv4 ? "192.0.2.1" : "2001:db8::1", packet.address);
    inet_pton(like->family,
              ipv4     ? "198.51.100.1"
              : mapped ? "::ffff:198.51.100.1"
                       : "2001:db8::2",
              packet.peer);
    return packet;
}

/* Puts whom the kernel chooses for each packet into CHOSEN; returns false and errno. */
static bool choose(struct look *look, int *chosen) {
    qsort(look->by_cookie, look->known_count, sizeof *look->by_cookie, compare);
    for (size_t i = 0; i < look->packet_count; i++) {
        struct diag_packet packet = packet_to(look->members[0], i);
        const struct known like = {.cookie = diag_choose(look->line, &packet)};
        if (!like.cookie)
            return false;
        const struct known *found =
            bsearch(&like, look->by_cookie, look->known_count, sizeof *look->by_cookie, compare);
        errno = EAGAIN;
        if (!found)
            return false;
        chosen[i] = found->index;
    }
    return true;
}

/* Has the placeholders join; returns false and errno. */
static bool join(struct look *look) {
    for (size_t i = 0; i < look->count; i++) {
        uint64_t cookie;
        socklen_t length = sizeof cookie;
        int fd = look->placeholders[i] = placeholder_open(look->members[0]);
        if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length))
            return false;
        know(look, cookie);
    }
    return true;
}

/* Has them leave, the last first, so that none moves. */
static void leave(struct look *look) {
    int error = errno;
    for (size_t i = look->count; i-- > 0;)
        if (look->placeholders[i] >= 0)
            close(look->placeholders[i]);
    errno = error;
}

/* Learns places from whom the kernel chose, until there is nothing new; returns whether all that
   was seen goes together. */
static bool learn(const struct look *look, int *places) {
    int count = (int)look->count;
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < look->packet_count; i++) {
            int member = look->before[i], now = look->after[i];
            int place = now < count ? places[now] : now;
            if (place == UNKNOWN)
                continue;
            if (places[member] != UNKNOWN && places[member] != place / 2)
                return false;
            more |= places[member] == UNKNOWN;
            places[member] = place / 2;
        }
    }
    return true;
}

/* Whether PLACES are 0 to COUNT - 1, each once. */
static bool are_all(const int *places, size_t count) {
    bool taken[PLACES_MOST] = {false};
    for (size_t i = 0; i < count; i++) {
        if (places[i] < 0 || (size_t)places[i] >= count || taken[places[i]])
            return false;
        taken[places[i]] = true;
    }
    return true;
}

/* Finds the places for LOOK, which has memory for it; returns false and errno. */
static bool look_at(struct look *look, int *places) {
    for (size_t i = 0; i < look->count; i++) {
        know(look, look->members[i]->cookie);
        look->placeholders[i] = places[i] = UNKNOWN;
    }
    bool seen = choose(look, look->before) && join(look) && choose(look, look->after);
    leave(look);
    if (!seen)
        return false;
    errno = EAGAIN;
    return learn(look, places) && are_all(places, look->count);
}

/* Makes room for LOOK at COUNT members; returns false and errno. */
static bool prepare(struct look *look, size_t count) {
    look->count = count;
    /* So many that chance leaves out a place in one of 100,000 cases. */
    look->packet_count = 24 * count;
    for (size_t i = count; i > 1; i /= 2)
        look->packet_count += count;
    look->line = diag_open();
    look->by_cookie = calloc(2 * count, sizeof *look->by_cookie);
    look->placeholders = calloc(count, sizeof *look->placeholders);
    look->before = calloc(look->packet_count, sizeof *look->before);
    look->after = calloc(look->packet_count, sizeof *look->after);
    return look->line >= 0 && look->by_cookie && look->placeholders && look->before && look->after;
}

static void finish(struct look *look) {
    int error = errno;
    if (look->line >= 0)
        close(look->line);
    free(look->by_cookie);
    free(look->placeholders);
    free(look->before);
    free(look->after);
    errno = error;
}

bool places_find(const struct socket *const *members, size_t count, unsigned *places) {
    int found[PLACES_MOST];
    struct look look = {.members = members};
    if (!count)
        return true;
    if (count > PLACES_MOST) {
        errno = E2BIG;
        return false;
    }
    bool done = prepare(&look, count) && look_at(&look, found);
    for (size_t i = 0; done && i < count; i++)
        places[i] = (unsigned)found[i];
    finish(&look);
    return done;
}
