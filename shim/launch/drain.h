/*
 * drain.h - what the copies that are leaving still hold: connections that clients have begun to
 * open, what waits in their queues, and connections that their processes have.
 */
#ifndef DRAIN_H
#define DRAIN_H

#include "service.h"

struct drain {
    uint64_t *half_open; /* connections that were half open when a copy began to leave; cookies */
    size_t count;
};

/* Notes what is half open on the ports of the service.  Returns 0, or -1 and errno. */
int drain_begin(struct drain *drain, const struct service *service);

/*
 * Looks at what is half open, then at the queues, as service_look() does, then at the connections:
 * in this order, as this is the way that a connection goes.  A connection counts as idle if all
 * that was received has been read, all that was sent has got there, the last was an answer, and
 * nothing has moved for as long as the options say.  Returns 0, or -1 and errno.
 */
int drain_look(struct drain *drain, struct service *service, const struct copies *copies);

#endif
