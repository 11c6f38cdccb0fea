/*
 * list.h - the cgroups that it is on at, as a table.
 */
#ifndef LIST_H
#define LIST_H

#include "attach.h"
#include "folders.h"

/* A cgroup that it is on at. */
struct listed {
    char *path;
    struct attached attached;
    size_t processes;           /* in it and below */
    const struct listed *above; /* the next above that it is on at as well, or NULL */
};

struct list {
    struct listed **all;
    size_t count;
};

/* Appends to LIST, which is {0} at first, those from the cgroup at PATH down, each after what is
   above it.  ABOVE is NULL.  What goes away meanwhile is left out. */
enum attach_trouble list_read(struct list *list, const char *path, const struct listed *above);

/* Prints the table to standard output; as tab-separated values if TSV. */
void list_print(const struct list *list, const struct folders *folders, bool tsv);

#endif
