/*
 * tree.c - see tree.h.
 */
#define _GNU_SOURCE
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool tree_look(pid_t pid, struct tree_process *process) {
    char path[64], stat[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, stat, sizeof stat - 1);
    if (fd >= 0)
        close(fd);
    if (length <= 0)
        return false;
    stat[length] = 0;
    /* The name, in parentheses, may hold anything. */
    const char *rest = strrchr(stat, ')');
    char state;
    int parent;
    unsigned long long birth;
    if (!rest || sscanf(rest + 1,
                        " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
                        "%*d %llu",
                        &state, &parent, &birth) != 3)
        return false;
    *process = (struct tree_process){pid, parent, birth, state == 'Z' || state == 'X'};
    return true;
}

static int by_pid(const void *left, const void *right) {
    const struct tree_process *a = left, *b = right;
    return (a->pid > b->pid) - (a->pid < b->pid);
}

/* Appends PROCESS; returns false and errno for want of memory. */
static bool append(struct tree *tree, const struct tree_process *process) {
    if (tree->count % 256 == 0) {
        struct tree_process *more = reallocarray(tree->all, tree->count + 256, sizeof *more);
        if (!more)
            return false;
        tree->all = more;
    }
    tree->all[tree->count++] = *process;
    return true;
}

bool tree_read(struct tree *tree) {
    *tree = (struct tree){0};
    DIR *folder = opendir("/proc");
    if (!folder)
        return false;
    bool complete = true;
    for (const struct dirent *entry; complete && (entry = readdir(folder));) {
        struct tree_process process;
        int pid = entry->d_name[0] >= '1' && entry->d_name[0] <= '9' ? atoi(entry->d_name) : 0;
        if (pid && tree_look(pid, &process))
            complete = append(tree, &process);
    }
    closedir(folder);
    if (!complete) {
        tree_free(tree);
        errno = ENOMEM;
    } else if (tree->count) {
        qsort(tree->all, tree->count, sizeof *tree->all, by_pid);
    }
    return complete;
}

void tree_free(struct tree *tree) {
    free(tree->all);
    *tree = (struct tree){0};
}

const struct tree_process *tree_find(const struct tree *tree, pid_t pid) {
    const struct tree_process wanted = {.pid = pid};
    return tree->count ? bsearch(&wanted, tree->all, tree->count, sizeof *tree->all, by_pid) : NULL;
}
