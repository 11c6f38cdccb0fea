/*
 * holders.c - looks for sockets among the descriptors in /proc (proc(5)); see holders.h.
 *
 * A process whose first thread has ended goes on in the others, and has its descriptors there.
 */
#define _GNU_SOURCE
#include "holders.h"
#include "kernel.h"
#include "printable.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL /* since Linux 6.9 */
#endif

/* The sockets that are looked for, by inode. */
struct search {
    struct sockets *sockets;
    struct socket **by_inode;
};

/* Whether ERROR is for want of something that the caller may give, not of a right. */
static bool is_shortage(int error) {
    return error == EMFILE || error == ENFILE || error == ENOMEM;
}

/* ---------------------------------------------------------------------------- duplicates */

/* The process that a socket was taken from last: most of a process's stand together. */
struct source {
    const struct process *process;
    int pidfd; /* -1: none */
};

static void close_source(struct source *source) {
    int error = errno;
    if (source->pidfd >= 0)
        close(source->pidfd);
    *source = (struct source){.pidfd = -1};
    errno = error;
}

/* Makes SOURCE that of PROCESS; returns false and errno if that cannot be. */
static bool open_source(struct source *source, const struct process *process) {
    if (source->process == process)
        return true;
    close_source(source);
    unsigned flags = process->thread == process->pid ? 0 : PIDFD_THREAD;
    source->pidfd = (int)syscall(SYS_pidfd_open, process->thread, flags);
    if (source->pidfd >= 0)
        source->process = process;
    return source->pidfd >= 0;
}

/* Whether FD is SOCKET, and not what its holder has opened in its place meanwhile. */
static bool is(int fd, const struct socket *socket) {
    struct stat file; /* SO_COOKIE of an MPTCP socket is not that of the TCP socket within */
    return fstat(fd, &file) == 0 && S_ISSOCK(file.st_mode) && file.st_ino == socket->inode;
}

/* A duplicate of SOCKET, which the process of PIDFD has as FD; -1 and errno. */
static int take(const struct socket *socket, int pidfd, int fd) {
    int own = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
    if (own < 0 || is(own, socket))
        return own;
    close(own);
    errno = ESRCH;
    return -1;
}

/* What holders_take() returns, by way of SOURCE. */
static int take_by(struct source *source, const struct socket *socket) {
    errno = EPERM;
    for (size_t i = 0; i < socket->holder_count; i++) {
        if (!open_source(source, socket->holders[i].process))
            continue;
        int fd = take(socket, source->pidfd, socket->holders[i].fd);
        if (fd >= 0)
            return fd;
    }
    return -1;
}

int holders_take(const struct socket *socket) {
    struct source source = {.pidfd = -1};
    int fd = take_by(&source, socket);
    close_source(&source);
    return fd;
}

/* Asks whether SOCKET has SO_REUSEPORT; returns false and errno for a shortage. */
static bool ask(struct source *source, struct socket *socket) {
    int value = 0;
    socklen_t length = sizeof value;
    int fd = take_by(source, socket);
    if (fd < 0)
        return !is_shortage(errno);
    if (getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &value, &length) == 0)
        socket->shared = value ? SHARED_YES : SHARED_NO;
    close(fd);
    return true;
}

/* ---------------------------------------------------------------------------- the search */

static int compare_inodes(const void *left, const void *right) {
    const struct socket *const *a = left, *const *b = right;
    return ((*a)->inode > (*b)->inode) - ((*a)->inode < (*b)->inode);
}

/* The first in SEARCH's order that has INODE; NULL if none has. */
static struct socket **find(const struct search *search, uint32_t inode) {
    const struct socket like = {.inode = inode}, *key = &like;
    struct socket **found =
        bsearch(&key, search->by_inode, search->sockets->count, sizeof *found, compare_inodes);
    while (found && found > search->by_inode && found[-1]->inode == inode)
        found--;
    return found;
}

/* Notes that PROCESS holds SOCKET as FD, unless it does by another descriptor; returns false and
   errno if there is no memory. */
static bool add(struct socket *socket, struct process *process, int fd) {
    size_t count = socket->holder_count;
    if (count && socket->holders[count - 1].process == process)
        return true;
    if ((count & (count - 1)) == 0) { /* no room is left: it is for a power of two */
        size_t room = count ? 2 * count : 1;
        struct holder *more = reallocarray(socket->holders, room, sizeof *more);
        if (!more)
            return false;
        socket->holders = more;
    }
    socket->holders[socket->holder_count++] = (struct holder){process, fd};
    return true;
}

/* The inode of the socket that the entry NAME of FOLDER is; 0 if it is something else. */
static uint32_t inode_of(DIR *folder, const char *name) {
    static const char kind[] = "socket:[";
    char target[64];
    ssize_t length = readlinkat(dirfd(folder), name, target, sizeof target - 1);
    if (length < (ssize_t)sizeof kind || memcmp(target, kind, sizeof kind - 1))
        return 0;
    target[length] = 0;
    return (uint32_t)strtoul(target + sizeof kind - 1, NULL, 10);
}

/* Notes a process in which sockets are, and returns it; NULL and errno if there is no memory. */
static struct process *begin(struct search *search, pid_t pid, pid_t thread) {
    struct process *process = calloc(1, sizeof *process);
    if (!process)
        return NULL;
    *process = (struct process){.pid = pid, .thread = thread, .next = search->sockets->processes};
    search->sockets->processes = process;
    return process;
}

/* Notes the descriptors in FOLDER, of THREAD of PID, that are among the sockets; returns how many
   descriptors there are, or -1 and errno if there is no memory. */
static int look_in(DIR *folder, struct search *search, pid_t pid, pid_t thread) {
    struct process *process = NULL;
    int count = 0;
    for (const struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.')
            continue;
        count++;
        uint32_t inode = inode_of(folder, entry->d_name);
        struct socket **one = inode ? find(search, inode) : NULL;
        if (one && !process && !(process = begin(search, pid, thread)))
            return -1;
        struct socket **end = search->by_inode + search->sockets->count;
        for (; one && one < end && (*one)->inode == inode; one++)
            if (!add(*one, process, atoi(entry->d_name)))
                return -1;
    }
    return count;
}

/* The same for the descriptors of THREAD of PID, also -1 and errno for want of a descriptor. */
static int look_at_thread(struct search *search, pid_t pid, pid_t thread) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/fd", (int)pid, (int)thread);
    DIR *folder = opendir(path);
    if (!folder)
        return is_shortage(errno) ? -1 : 0;
    int count = look_in(folder, search, pid, thread);
    int error = errno;
    closedir(folder);
    errno = error;
    return count;
}

/* The same for PID; returns false and errno for a shortage. */
static bool look_at(struct search *search, pid_t pid) {
    int count = look_at_thread(search, pid, pid);
    if (count)
        return count > 0;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *threads = opendir(path);
    if (!threads)
        return !is_shortage(errno);
    for (const struct dirent *entry; count == 0 && (entry = readdir(threads));)
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != pid)
            count = look_at_thread(search, pid, atoi(entry->d_name));
    int error = errno;
    closedir(threads);
    errno = error;
    return count >= 0;
}

/* Looks at all processes, in order of pids; returns false and errno for a shortage. */
static bool look_at_all(struct search *search) {
    DIR *processes = opendir("/proc");
    if (!processes)
        return !is_shortage(errno);
    bool seen = true;
    for (const struct dirent *entry; seen && (entry = readdir(processes));)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            seen = look_at(search, atoi(entry->d_name));
    int error = errno;
    closedir(processes);
    errno = error;
    return seen;
}

/* Makes SEARCH one for SOCKETS; what it has is to be freed.  Returns false and errno. */
static bool prepare(struct search *search, struct sockets *sockets) {
    *search = (struct search){sockets, calloc(sockets->count + 1, sizeof *search->by_inode)};
    if (!search->by_inode)
        return false;
    for (size_t i = 0; i < sockets->count; i++)
        search->by_inode[i] = &sockets->all[i];
    qsort(search->by_inode, sockets->count, sizeof *search->by_inode, compare_inodes);
    return true;
}

/* Ends SEARCH, which has SEEN all or errno; returns that. */
static bool finish(struct search *search, bool seen) {
    int error = errno;
    free(search->by_inode);
    errno = error;
    return seen;
}

bool holders_ask(struct sockets *sockets) {
    struct source source = {.pidfd = -1};
    bool told = true;
    for (size_t i = 0; told && i < sockets->count; i++)
        told = ask(&source, &sockets->all[i]);
    close_source(&source);
    return told;
}

bool holders_find(struct sockets *sockets) {
    struct search search;
    return prepare(&search, sockets) && finish(&search, look_at_all(&search)) &&
           holders_ask(sockets);
}

bool holders_find_among(struct sockets *sockets, const pid_t *pids, size_t count) {
    struct search search;
    bool seen = prepare(&search, sockets);
    for (size_t i = 0; seen && i < count; i++)
        seen = look_at(&search, pids[i]);
    return finish(&search, seen);
}

/* ---------------------------------------------------------------------------- processes */

/* Reads the file NAME of the thread of PROCESS, and returns its length; 0 if that cannot be. */
static size_t read_file(const struct process *process, const char *name, char *text, size_t size) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/%s", (int)process->pid, (int)process->thread,
             name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, text, size - 1);
    if (fd >= 0)
        close(fd);
    text[length > 0 ? length : 0] = 0;
    return length > 0 ? (size_t)length : 0;
}

bool holders_stopped(struct process *process) {
    if (process->state)
        return process->state == PROCESS_STOPPED;
    char stat[512];
    read_file(process, "stat", stat, sizeof stat);
    const char *name_end = strrchr(stat, ')');
    bool stopped = name_end && (name_end[2] == 'T' || name_end[2] == 't');
    process->state = stopped ? PROCESS_STOPPED : PROCESS_GOES;
    return stopped;
}

const char *holders_command(struct process *process) {
    if (process->command)
        return process->command;
    char command[4096];
    size_t length = read_file(process, "cmdline", command, sizeof command);
    if (!length)
        length = read_file(process, "comm", command, sizeof command);
    while (length && (!command[length - 1] || command[length - 1] == '\n'))
        command[--length] = 0;
    for (size_t i = 0; i < length; i++)
        if (!command[i])
            command[i] = ' ';
    printable(command);
    process->command = strdup(command);
    return process->command ? process->command : "";
}
