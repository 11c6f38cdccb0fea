/*
 * folders.h - cgroups as folders (cgroups(7), version 2).
 *
 * What cannot be is said, and ends the tool.
 */
#ifndef FOLDERS_H
#define FOLDERS_H

#include <stdbool.h>
#include <stddef.h>

/* Where they are. */
struct folders {
    char *mount; /* the folder that version 2 is mounted on */
    char *root;  /* which cgroup that is, as /proc/PID/cgroup names it */
};

void folders_find(struct folders *folders);

/*
 * The path of the cgroup that the command line calls NAME, to be freed: a folder, absolute or
 * relative to the mount; "self", the caller's own; or a process id, that process's.
 */
char *folders_path(const struct folders *folders, const char *name);

/* What messages and tables call the cgroup at PATH, a part of PATH: its path below the mount, or
   the whole for what is elsewhere, and for the mount itself. */
const char *folders_name(const struct folders *folders, const char *path);

/* Opens the folder of the cgroup at PATH, which is made before if it is not there and MAKE says so.
 */
int folders_open(const char *path, bool make);

/* Whether it is the root of all cgroups. */
bool folders_is_root(int cgroup);

/* Opens the folder of the cgroup above, -1 if that is not to be seen; puts its path into PATH, to
   be freed. */
int folders_above(int cgroup, char **path);

/* Moves the caller into it; returns false and errno. */
bool folders_enter(int cgroup);

/* How many processes are in the cgroup at PATH and below it. */
size_t folders_processes(const char *path);

/* The names of the COUNT folders below PATH, sorted; they and the array are to be freed. */
char **folders_below(const char *path, size_t *count);

#endif
