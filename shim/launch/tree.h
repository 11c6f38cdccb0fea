/*
 * tree.h - the processes of the machine, as /proc lets them be seen, and who descends from whom.
 */
#ifndef TREE_H
#define TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct tree_process {
    pid_t pid, parent;
    uint64_t birth; /* in clock ticks since boot: tells it from a later one of the same pid */
    bool zombie;
};

/* All of them, by pid. */
struct tree {
    struct tree_process *all;
    size_t count;
};

/* Reads proc_pid_stat(5) of every process; returns false and errno if there is no /proc, or no
   memory. */
bool tree_read(struct tree *tree);

void tree_free(struct tree *tree);

/* The process PID; NULL if there is none. */
const struct tree_process *tree_find(const struct tree *tree, pid_t pid);

/* Reads that of PID alone; returns false if there is no such process. */
bool tree_look(pid_t pid, struct tree_process *process);

#endif
