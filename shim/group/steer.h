/*
 * steer.h - has the kernel choose among the members of a group as it is told to
 * (SO_ATTACH_REUSEPORT_CBPF in socket(7)).
 *
 * A place is a member's index in the kernel's array of the group.  Who joins gets the place after
 * the last; when one leaves, the last gets its place (__reuseport_detach_sock()).
 */
#ifndef STEER_H
#define STEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Places, in ascending order. */
struct steer_set {
    const unsigned *places;
    size_t count;
};

/* The source address from which a connection reaches the member at a place. */
struct steer_lane {
    uint32_t address; /* IPv4, in the host's order */
    unsigned place;
};

/* Who gets what is new. */
struct steer_plan {
    struct steer_set to; /* none: the kernel spreads over all members */
    /* With a SHARE of less than STEER_WHOLE, REST gets what TO does not. */
    struct steer_set rest;
    unsigned share; /* of TO, in parts of STEER_WHOLE */
    const struct steer_lane *lanes;
    size_t lane_count;
};

enum { STEER_WHOLE = 65536 };

/*
 * Has the kernel follow PLAN in the group that the socket FD is in.  A member is chosen by a hash
 * over source address and ports, so that all of one flow gets to one, for UDP and for SYN cookies
 * too.  Returns false and errno: E2BIG if the plan takes too long a program, EINVAL if FD is in no
 * group, EOPNOTSUPP for an MPTCP socket.
 */
bool steer_attach(int fd, const struct steer_plan *plan);

/* Has the kernel spread over all members again; returns false and errno. */
bool steer_detach(int fd);

#endif
