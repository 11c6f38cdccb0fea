/*
 * placeholder.h - a member of our own in somebody's group, through which it can be steered where
 * the others cannot be: they are MPTCP sockets, or not to be had.
 */
#ifndef PLACEHOLDER_H
#define PLACEHOLDER_H

#include "sockets.h"

/*
 * Opens a socket that joins LIKE's group as its last member and takes nothing.  Returns its
 * descriptor, or -1 and errno: EACCES, EPERM if the caller may not have the port, or is neither
 * root nor the user whose socket LIKE is.
 *
 * What the kernel gives to it until it is closed, or the group is steered to others, is dropped: a
 * SYN, which the client's kernel sends again a second later, or a datagram.  So steer at once, and
 * close it.  It has the place after the last, and so nobody moves when it leaves, unless somebody
 * joins meanwhile, who gets its place.
 */
int placeholder_open(const struct socket *like);

#endif
