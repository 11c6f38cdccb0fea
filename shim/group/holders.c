/*
 * holders.c - looks for sockets in /proc/PID/fd (proc(5)); see holders.h.
 */
#define _GNU_SOURCE
#include "holders.h"
#include "kernel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Notes that PID holds SOCKET as FD, unless that is known by another descriptor. */
static void add(struct socket *socket, pid_t pid, int fd) {
    if (socket->holder_count && socket->holders[socket->holder_count - 1].pid == pid)
        return;
    struct holder *more =
        reallocarray(socket->holders, socket->holder_count + 1, sizeof *socket->holders);
    if (!more)
        return;
    socket->holders = more;
    socket->holders[socket->holder_count++] = (struct holder){pid, fd};
}

/* Whether ERROR is for want of something that the caller may give, not of a right. */
static bool is_shortage(int error) {
    return error == EMFILE || error == ENFILE || error == ENOMEM;
}

/* Notes every descriptor of PID that is one of the sockets; returns false and errno for want of
   descriptors or memory. */
static bool look_at(pid_t pid, struct socket *sockets, size_t count) {
    char path[64], target[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *folder = opendir(path);
    if (!folder)
        return !is_shortage(errno);
    for (const struct dirent *entry; (entry = readdir(folder));) {
        unsigned inode;
        ssize_t length = readlinkat(dirfd(folder), entry->d_name, target, sizeof target - 1);
        target[length > 0 ? length : 0] = 0;
        if (sscanf(target, "socket:[%u]", &inode) != 1)
            continue;
        for (size_t i = 0; i < count; i++)
            if (sockets[i].inode == inode)
                add(&sockets[i], pid, atoi(entry->d_name));
    }
    closedir(folder);
    return true;
}

/* Whether SOCKET has SO_REUSEPORT; errno, where that is unknown. */
static enum shared ask(const struct socket *socket) {
    int value = 0;
    socklen_t length = sizeof value;
    int fd = holders_take(socket);
    if (fd < 0)
        return SHARED_UNKNOWN;
    bool known = getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &value, &length) == 0;
    close(fd);
    return !known ? SHARED_UNKNOWN : value ? SHARED_YES : SHARED_NO;
}

bool holders_find(struct socket *sockets, size_t count) {
    DIR *processes = opendir("/proc");
    if (!processes)
        return !is_shortage(errno);
    bool seen = true;
    for (const struct dirent *entry; seen && (entry = readdir(processes));) /* in order of pids */
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            seen = look_at(atoi(entry->d_name), sockets, count);
    int error = errno;
    closedir(processes);
    errno = error;
    for (size_t i = 0; seen && i < count; i++) {
        sockets[i].shared = ask(&sockets[i]);
        seen = sockets[i].shared != SHARED_UNKNOWN || !is_shortage(errno);
    }
    return seen;
}

/* Whether FD is SOCKET, and not what its holder has opened in its place meanwhile. */
static bool is(int fd, const struct socket *socket) {
    struct stat file; /* SO_COOKIE of an MPTCP socket is not that of the TCP socket within */
    return fstat(fd, &file) == 0 && S_ISSOCK(file.st_mode) && file.st_ino == socket->inode;
}

int holders_take(const struct socket *socket) {
    errno = EPERM;
    for (size_t i = 0; i < socket->holder_count; i++) {
        int pidfd = (int)syscall(SYS_pidfd_open, socket->holders[i].pid, 0);
        if (pidfd < 0)
            continue;
        int fd = (int)syscall(SYS_pidfd_getfd, pidfd, socket->holders[i].fd, 0);
        int error = errno;
        close(pidfd);
        if (fd >= 0 && is(fd, socket))
            return fd;
        if (fd >= 0)
            close(fd);
        errno = fd >= 0 ? ESRCH : error;
    }
    return -1;
}

/* Reads the file NAME of PID, and returns its length; 0 if that cannot be. */
static size_t read_file(pid_t pid, const char *name, char *text, size_t size) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, text, size - 1);
    if (fd >= 0)
        close(fd);
    text[length > 0 ? length : 0] = 0;
    return length > 0 ? (size_t)length : 0;
}

bool holders_stopped(pid_t pid) {
    char stat[512];
    read_file(pid, "stat", stat, sizeof stat);
    const char *name_end = strrchr(stat, ')');
    return name_end && (name_end[2] == 'T' || name_end[2] == 't');
}

void holders_command(pid_t pid, char *command, size_t size) {
    size_t length = read_file(pid, "cmdline", command, size);
    if (!length)
        length = read_file(pid, "comm", command, size);
    while (length && (!command[length - 1] || command[length - 1] == '\n'))
        command[--length] = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char one = (unsigned char)command[i], next = (unsigned char)command[i + 1];
        if (!one)
            command[i] = ' ';
        else if (one < ' ' || one == 127)
            command[i] = '?';
        else if (one == 0xc2 && next >= 0x80 && next < 0xa0) /* a control character in UTF-8 */
            command[i] = command[i + 1] = '?';
    }
}
