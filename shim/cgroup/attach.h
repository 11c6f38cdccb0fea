/*
 * attach.h - puts the program of instructions.h on the bind hooks of a cgroup, and takes it off
 * (bpf(2)).
 *
 * It stays as long as the cgroup, beside programs of others.  It is found again by its name; a map
 * that is bound to it holds the text of the list, to be shown.
 *
 * Each function takes a descriptor of the cgroup's folder.
 */
#ifndef ATTACH_H
#define ATTACH_H

#include "ports.h"
#include <sys/types.h>

/* What went wrong, with errno. */
enum attach_trouble {
    ATTACH_DONE = 0,
    ATTACH_QUERY, /* asking what is attached: EPERM without CAP_NET_ADMIN, EINVAL where the kernel
                     has no such hooks, ENOSYS where it has no bpf(2) */
    ATTACH_FIND,  /* looking at what is attached: EPERM without CAP_SYS_ADMIN */
    ATTACH_LOAD,  /* having the kernel take the program: EPERM without CAP_BPF, EINVAL where it
                     knows too little */
    ATTACH_HOOK,  /* attaching it: EPERM where another allows none beside it, E2BIG if there are 64
                   */
};

/* What is on at a cgroup itself, whatever is above. */
struct attached {
    bool on;
    char *list; /* as it was given, NULL for every port; to be freed */
    uid_t user; /* who turned it on */
};

/* Finds out what is on. */
enum attach_trouble attach_read(int cgroup, struct attached *attached);

/* Of the hooks of a cgroup and of those above it: which have no program so far. */
typedef unsigned attach_free;
enum { ATTACH_ALL_FREE = 3 };

/*
 * Looks at the hooks that are in *FREE, and takes those out that have a program.  Sets *EXCLUSIVE
 * if one came without BPF_F_ALLOW_MULTI: it forbids others, or would not be run any more below the
 * cgroup if there were others.  The nearest cgroup with a program decides.
 */
enum attach_trouble attach_look(int cgroup, attach_free *free, bool *exclusive);

/* Turns it on for PORTS, of which LIST is the text, NULL for every port; in place of what was on,
   with no bind missed. */
enum attach_trouble attach_turn_on(int cgroup, const struct ports *ports, const char *list);

/* Turns it off; sets *WAS_ON. */
enum attach_trouble attach_turn_off(int cgroup, bool *was_on);

#endif
