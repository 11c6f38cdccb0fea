/*
 * program.c - looks into program files; see program.h.
 */
#define _GNU_SOURCE
#include "program.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* How many scripts may be interpreted by scripts: exec_binprm() in fs/exec.c gives up after 5. */
enum { SCRIPTS_MAX = 5 };

bool program_names_asan(const char *libraries) {
    return strstr(libraries, "libasan.so") || strstr(libraries, "libclang_rt.asan");
}

static bool needs_asan(struct image image) {
    const char *library;
    for (unsigned i = 0; (library = elf_needed(image, i)); i++)
        if (program_names_asan(library))
            return true;
    return false;
}

static enum program_kind elf_kind(struct image image) {
    if (!elf_is_program(image))
        return PROGRAM_MISSING;
    if (!elf_has_loader(image))
        return PROGRAM_STATIC;
    if (elf_is_go(image))
        return PROGRAM_GO;
    return needs_asan(image) ? PROGRAM_ASAN : PROGRAM_DYNAMIC;
}

/* Finds NAME as execvp(3) does; returns false if there is no such program. */
static bool find(char *path, size_t size, const char *name) {
    if (strchr(name, '/')) {
        snprintf(path, size, "%s", name);
        return access(path, X_OK) == 0;
    }
    const char *folders = getenv("PATH");
    if (!folders)
        folders = "/bin:/usr/bin";
    for (;; folders++) {
        int length = (int)strcspn(folders, ":");
        struct stat status;
        snprintf(path, size, "%.*s%s%s", length, folders, length ? "/" : "./", name);
        if (*name && access(path, X_OK) == 0 && stat(path, &status) == 0 && S_ISREG(status.st_mode))
            return true;
        folders += length;
        if (!*folders)
            return false;
    }
}

/* Whether running the file raises privileges, for the caller's ids (credentials(7)): the loader
   then drops LD_PRELOAD (ld.so(8), secure-execution mode), and no filter may be inherited. */
static bool raises_privileges(const char *path) {
    struct stat status;
    if (stat(path, &status))
        return false;
    return (status.st_mode & S_ISUID && status.st_uid != geteuid()) ||
           (status.st_mode & S_ISGID && status.st_mode & S_IXGRP && status.st_gid != getegid()) ||
           (getuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0);
}

/*
 * Reads a script's first line (execve(2), "Interpreter scripts") into LINE and returns its
 * interpreter; for env(1), the program that env will run.  NULL if there is none.
 */
static const char *interpreter(struct image image, char *line, size_t size) {
    if (image.size < 2 || memcmp(image.bytes, "#!", 2) != 0)
        return NULL;
    size_t length = 0;
    while (length < size - 1 && length + 2 < image.size && image.bytes[length + 2] != '\n') {
        line[length] = (char)image.bytes[length + 2];
        length++;
    }
    line[length] = 0;
    char *rest, *word = strtok_r(line, " \t", &rest);
    const char *slash = word ? strrchr(word, '/') : NULL;
    if (!slash || strcmp(slash, "/env") != 0)
        return word;
    const char *env = word;
    while ((word = strtok_r(NULL, " \t", &rest)))
        if (*word != '-' && !strchr(word, '='))
            return word;
    return env;
}

/* Judges the file at PROGRAM->path; a script leaves the name of its interpreter in NEXT. */
static enum program_kind judge_file(struct program *program, char *next, size_t size) {
    *next = 0;
    struct stat status;
    if (stat(program->path, &status) || !S_ISREG(status.st_mode))
        return PROGRAM_MISSING; /* to open a FIFO or a device may have effects */
    int fd = open(program->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return raises_privileges(program->path) ? PROGRAM_PRIVILEGED : PROGRAM_UNREADABLE;
    enum program_kind kind = PROGRAM_MISSING;
    struct image image = {0};
    void *whole = MAP_FAILED;
    uint8_t start[4096];
    if (status.st_size > 0)
        whole = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (whole != MAP_FAILED) {
        image = (struct image){whole, (size_t)status.st_size};
    } else {
        /* Where there is no room for the whole (RLIMIT_AS), its start will do: an ELF file has its
           headers there, and Go's note. */
        ssize_t length = read(fd, start, sizeof start);
        image = (struct image){start, length > 0 ? (size_t)length : 0};
    }
    if (image.size > 0) {
        if (elf_is(image)) {
            kind = elf_kind(image);
            program->abi = elf_abi(image);
            if (raises_privileges(program->path))
                kind = PROGRAM_PRIVILEGED;
        } else {
            char line[256]; /* BINPRM_BUF_SIZE in the kernel */
            const char *name = interpreter(image, line, sizeof line);
            /* execvp(3) gives what the kernel does not know to the shell. */
            snprintf(next, size, "%s", name ? name : "/bin/sh");
        }
    }
    if (whole != MAP_FAILED)
        munmap(whole, image.size);
    close(fd);
    return kind;
}

void program_judge(struct program *program, const char *name) {
    char next[256];
    snprintf(next, sizeof next, "%s", "");
    program->kind = PROGRAM_MISSING;
    for (int scripts = 0; scripts <= SCRIPTS_MAX; scripts++) {
        if (!find(program->path, sizeof program->path, scripts ? next : name)) {
            if (scripts) /* exec may know better what runs it, as with options of env */
                program->kind = PROGRAM_UNREADABLE;
            return;
        }
        program->kind = judge_file(program, next, sizeof next);
        if (!*next)
            return;
    }
}

bool program_loads(const char *path, struct elf_abi abi) {
    uint8_t start[64]; /* an ELF header of either word size */
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t length = read(fd, start, sizeof start);
    close(fd);
    struct image image = {start, length > 0 ? (size_t)length : 0};
    return elf_is(image) && elf_same_abi(elf_abi(image), abi);
}
