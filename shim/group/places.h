/*
 * places.h - finds out in which places of the kernel's array the members of a group are, which
 * nothing tells.
 */
#ifndef PLACES_H
#define PLACES_H

#include "sockets.h"

/* The most members of a group in which to look. */
enum { PLACES_MOST = 1024 };

/*
 * Puts the place of each of the COUNT members of a group into PLACES.  They are all that are in it.
 * Returns false and errno: EAGAIN if the group changed meanwhile, or has a member that is not among
 * these, E2BIG if there are too many, and what placeholder_open() may say.
 *
 * It takes some 0.1 ms a member, and for half of that, the group has as many placeholders more,
 * which get half of what is new unless the group is steered (placeholder.h).
 */
bool places_find(const struct socket *const *members, size_t count, unsigned *places);

#endif
