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

/* For each descriptor of PID that is a socket: its inode. */
typedef void tree_socket(pid_t pid, int fd, unsigned inode, void *context);

/* Calls EACH with CONTEXT for the sockets that PID has open (proc_pid_fd(5)); returns false and
   errno for want of descriptors or memory.  What may not be looked at has none. */
bool tree_sockets(pid_t pid, tree_socket *each, void *context);

#endif
