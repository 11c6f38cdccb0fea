/*
 * identity.h - the environment variables in which protocols name the process that they are for: a
 * program that does not take the place of reuse-run is another process than that which was started.
 */
#ifndef IDENTITY_H
#define IDENTITY_H

#include <sys/types.h>

/* Has the variables that name process FORMER name this one.  Fails (tool_fail()) for want of
   memory. */
void identity_take_over(pid_t former);

#endif
