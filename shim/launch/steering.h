/*
 * steering.h - has the kernel give what is new to those members of each group that are to get it:
 * the serving copies and strangers, not the copies that are new, leaving or told to stop.
 *
 * When a member leaves, the last one gets its place, and the kernel is wrong about both until it is
 * told.  So that none of the copies that serve is the last, a placeholder stands behind them for
 * each member that leaves; where there can be none, copies leave a few at a time, and those that
 * would move get nothing new meanwhile.
 */
#ifndef STEERING_H
#define STEERING_H

#include "service.h"

/* Steers every group to whom it is to be; back to all its members where these are all wanted,
   unless HOLD: who joins is not to get anything yet.  Says what cannot be done. */
void steering_apply(struct service *service, bool hold);

/* Opens a placeholder for each member of a copy that is leaving, as far as that can be; the groups
   are to be steered away from those copies, and looked at again. */
void steering_reserve(struct service *service);

/* Whether COPY may leave now: at least three quarters of those that are to get what is new, and
   one, then still do. */
bool steering_may_leave(const struct service *service, const struct copy *copy);

#endif
