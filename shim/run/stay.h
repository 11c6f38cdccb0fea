/*
 * stay.h - the processes that stay around a program, where it does not take the place of reuse-run:
 *
 *     front       the one that was started.  Passes signals on, and ends as the program does.
 *     supervisor  its child, the program's parent, and the ancestor of all that the program starts
 *                 (PR_SET_CHILD_SUBREAPER).  Answers binds, where they are trapped, until the last
 *                 of those processes has gone; or kills them, where nothing is to be left.
 *
 * There are two because a shell with job control stops the front when the program stops, and binds
 * are to be answered and signals heard meanwhile; and because the front ends with the program,
 * while daemons go on.  If the one is killed, the other ends what there is of the program.
 *
 * The program stays in the process group that reuse-run was started in, and those two leave it.  So
 * what the terminal or kill(1) sends to the group reaches the program once, and what is sent to
 * reuse-run is passed on, once.
 */
#ifndef STAY_H
#define STAY_H

#include "ports.h"
#include <stdbool.h>
#include <sys/types.h>

struct stay {
    const char *program;       /* its name, for messages */
    const struct ports *ports; /* by which its binds are trapped and shared; NULL if they are not */
    bool leave_nothing;        /* kill all that it has started, when it ends */
    bool die_with_parent;      /* kill it, when PARENT dies */
    pid_t parent;              /* of this process; 0 if that is outside its process namespace */
    char *title;               /* the words of this process, as ps(1) shows them, in one piece */
    size_t title_size;
};

/* Puts the two around this process, as which it returns: the program is to be exec'd in it.  Fails
   (tool_fail()) if it cannot. */
void stay_around(const struct stay *stay);

#endif
