/*
 * folders.c - see folders.h.
 */
#define _GNU_SOURCE
#include "folders.h"
#include "tool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

/* Puts the characters in that proc(5) writes as three octal digits behind a backslash. */
static void unescape(char *text) {
    char *to = text;
    for (char *from = text; *from; to++) {
        unsigned octal;
        if (*from == '\\' && sscanf(from + 1, "%3o", &octal) == 1) {
            *to = (char)octal;
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = 0;
}

/* Reads a LINE of mountinfo (proc(5)).  A mount from the caller's root on is better than others;
   one on the same folder as another hides that. */
static void read_mount(struct folders *folders, char *line) {
    enum { ROOT = 3, MOUNT = 4 };
    char *words[MOUNT + 1], *rest = line;
    for (int field = 0; field <= MOUNT; field++) {
        words[field] = strtok_r(NULL, " ", &rest);
        if (!words[field])
            return;
        unescape(words[field]);
    }
    bool whole = strcmp(words[ROOT], "/") == 0;
    if (folders->mount && strcmp(words[MOUNT], folders->mount) != 0 &&
        (!whole || strcmp(folders->root, "/") == 0))
        return;
    free(folders->root);
    free(folders->mount);
    folders->root = tool_text("%s", words[ROOT]);
    folders->mount = tool_text("%s", words[MOUNT]);
}

void folders_find(struct folders *folders) {
    char *line = NULL;
    size_t size = 0;
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    if (!mounts)
        tool_fail("cannot read /proc/self/mountinfo: %s; mount /proc", strerror(errno));
    *folders = (struct folders){0};
    while (getline(&line, &size, mounts) > 0)
        if (strstr(line, " - cgroup2 "))
            read_mount(folders, line);
    free(line);
    fclose(mounts);
    if (!folders->mount)
        tool_fail("cgroup v2 is not mounted; mount -t cgroup2 none /sys/fs/cgroup/unified, or boot "
                  "with systemd.unified_cgroup_hierarchy=1");
}

/* What is left of PATH below FOLDER, from the slash on; NULL if it is not below. */
static const char *below(const char *path, const char *folder) {
    size_t length = strlen(folder);
    if (strcmp(folder, "/") == 0)
        length = 0;
    return strncmp(path, folder, length) == 0 && (path[length] == '/' || !path[length])
               ? path + length
               : NULL;
}

/* The path of the cgroup that a process, PID or "self", is in. */
static char *path_of_process(const struct folders *folders, const char *pid) {
    static const char mark[] = "0::"; /* of version 2, as of cgroups(7) */
    char *file = tool_text("/proc/%s/cgroup", pid), *line = NULL, *path = NULL;
    size_t size = 0;
    FILE *cgroups = fopen(file, "re");
    if (!cgroups)
        tool_fail("no process %s", pid);
    while (!path && getline(&line, &size, cgroups) > 0) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, mark, sizeof mark - 1) != 0)
            continue;
        const char *name = line + sizeof mark - 1, *rest = below(name, folders->root);
        if (!rest || strstr(name, "/../"))
            tool_fail("cannot reach the cgroup of process %s, '%s', from here: cgroup v2 is "
                      "mounted only from '%s' on; run reuse-cgroup outside of the container",
                      pid, name, folders->root);
        path = tool_text("%s%s", folders->mount, strcmp(rest, "/") == 0 ? "" : rest);
    }
    if (!path)
        tool_fail("process %s is in no cgroup of version 2", pid);
    free(line);
    free(file);
    fclose(cgroups);
    return path;
}

char *folders_path(const struct folders *folders, const char *name) {
    if (strcmp(name, "self") == 0 || (*name && !name[strspn(name, "0123456789")]))
        return path_of_process(folders, name);
    if (*name == '/')
        return tool_text("%s", name);
    return tool_text("%s/%s", folders->mount, name);
}

const char *folders_name(const struct folders *folders, const char *path) {
    const char *rest = below(path, folders->mount);
    return rest && strspn(rest, "/") < strlen(rest) ? rest + strspn(rest, "/") : path;
}

int folders_open(const char *path, bool make) {
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC, fd = open(path, flags);
    if (fd < 0 && errno == ENOENT && make) {
        if (mkdir(path, 0755) && errno != EEXIST)
            tool_fail("cannot make '%s': %s", path, strerror(errno));
        fd = open(path, flags);
    }
    if (fd < 0 && errno == ENOENT)
        tool_fail("no cgroup '%s'; make it by mkdir, or name a PROGRAM to be run in it", path);
    if (fd < 0)
        tool_fail("cannot open '%s': %s", path, strerror(errno));
    struct statfs status;
    if (fstatfs(fd, &status) || status.f_type != CGROUP2_SUPER_MAGIC)
        tool_fail("'%s' is no cgroup of version 2; see /proc/self/mountinfo for where these are",
                  path);
    return fd;
}

/* The root alone has no type (Documentation/admin-guide/cgroup-v2.rst). */
bool folders_is_root(int cgroup) {
    return faccessat(cgroup, "cgroup.type", F_OK, 0) != 0 && errno == ENOENT;
}

int folders_above(int cgroup, char **path) {
    struct statfs status;
    char link[32], target[PATH_MAX];
    int fd = openat(cgroup, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && (fstatfs(fd, &status) || status.f_type != CGROUP2_SUPER_MAGIC)) {
        close(fd);
        fd = -1;
    }
    if (fd < 0)
        return -1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, target, sizeof target);
    *path = tool_text("%.*s", length > 0 ? (int)length : 0, target);
    return fd;
}

bool folders_enter(int cgroup) {
    int fd = openat(cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool entered = write(fd, "0", 1) == 1;
    int error = errno;
    close(fd);
    errno = error;
    return entered;
}

/* How many lines FILE has; 0 if it cannot be read, as in a cgroup of threads. */
static size_t lines(const char *file) {
    FILE *stream = fopen(file, "re");
    size_t count = 0;
    for (int c; stream && (c = getc(stream)) != EOF;)
        count += c == '\n';
    if (stream)
        fclose(stream);
    return count;
}

size_t folders_processes(const char *path) {
    char *file = tool_text("%s/cgroup.procs", path);
    size_t count, processes = lines(file);
    char **names = folders_below(path, &count);
    for (size_t i = 0; i < count; i++) {
        char *folder = tool_text("%s/%s", path, names[i]);
        processes += folders_processes(folder);
        free(folder);
        free(names[i]);
    }
    free(names);
    free(file);
    return processes;
}

static int is_folder(const struct dirent *entry) {
    return entry->d_type == DT_DIR && strcmp(entry->d_name, ".") != 0 &&
           strcmp(entry->d_name, "..") != 0;
}

char **folders_below(const char *path, size_t *count) {
    struct dirent **entries = NULL;
    int found = scandir(path, &entries, is_folder, alphasort);
    *count = found > 0 ? (size_t)found : 0;
    char **names = tool_got(calloc(*count + 1, sizeof *names));
    for (size_t i = 0; i < *count; i++) {
        names[i] = tool_text("%s", entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return names;
}
