/*
 * program.c - looks into program files; see program.h.
 */
#define _GNU_SOURCE
#include "program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* EI_DATA of the files that this machine runs. */
enum { BYTE_ORDER_HERE = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB };

/* How many scripts may be interpreted by scripts: exec_binprm() in fs/exec.c gives up after 5. */
enum { SCRIPTS_MAX = 5 };

/* A file's bytes. */
struct image {
    const uint8_t *bytes;
    size_t size;
};

/* One header of either word size. */
struct segment {
    uint32_t type, flags;
    uint64_t offset, size;
};

/* Returns the LENGTH bytes at OFFSET, NULL if the file ends before. */
static const void *at(struct image image, uint64_t offset, uint64_t length) {
    if (offset > image.size || length > image.size - offset)
        return NULL;
    return image.bytes + offset;
}

static bool is_elf(struct image image) {
    const uint8_t *ident = at(image, 0, sizeof(Elf32_Ehdr));
    return ident && memcmp(ident, ELFMAG, SELFMAG) == 0 && ident[EI_DATA] == BYTE_ORDER_HERE;
}

/* Fills in program header NUMBER; returns false if there is none. */
static bool get_segment(struct image image, unsigned number, struct segment *segment) {
    if (image.bytes[EI_CLASS] == ELFCLASS64) {
        const Elf64_Ehdr *elf = at(image, 0, sizeof *elf);
        const Elf64_Phdr *header =
            elf && number < elf->e_phnum
                ? at(image, elf->e_phoff + number * (uint64_t)elf->e_phentsize, sizeof *header)
                : NULL;
        if (header)
            *segment = (struct segment){header->p_type, header->p_flags, header->p_offset,
                                        header->p_filesz};
        return header;
    }
    const Elf32_Ehdr *elf = at(image, 0, sizeof *elf);
    const Elf32_Phdr *header =
        elf && number < elf->e_phnum
            ? at(image, elf->e_phoff + number * (uint64_t)elf->e_phentsize, sizeof *header)
            : NULL;
    if (header)
        *segment =
            (struct segment){header->p_type, header->p_flags, header->p_offset, header->p_filesz};
    return header;
}

static struct program_abi abi_of(struct image image) {
    const Elf32_Ehdr *elf = at(image, 0, sizeof *elf); /* the same up to e_machine in both sizes */
    return (struct program_abi){elf->e_ident[EI_CLASS], elf->e_machine};
}

/*
 * Whether Go's linker made the file: it leaves a note that is named "Go" (the build id), or, where
 * that was left out, the magic of its build information (debug/buildinfo in Go's library), among
 * the data that can be written, at a multiple of 16 bytes.
 */
static bool is_go(struct image image) {
    static const char magic[] = "\xff Go buildinf:";
    struct segment segment;
    for (unsigned i = 0; get_segment(image, i, &segment); i++) {
        const Elf32_Nhdr *note = at(image, segment.offset, sizeof *note + 4);
        if (segment.type == PT_NOTE && note && note->n_namesz == 4 &&
            memcmp(note + 1, "Go\0", 4) == 0)
            return true;
        if (segment.type != PT_LOAD || !(segment.flags & PF_W))
            continue;
        const uint8_t *data = at(image, segment.offset, segment.size);
        for (uint64_t place = 0; data && place + 16 <= segment.size; place += 16)
            if (memcmp(data + place, magic, sizeof magic - 1) == 0)
                return true;
    }
    return false;
}

static enum program_kind elf_kind(struct image image) {
    struct segment segment;
    bool loaded = false;
    for (unsigned i = 0; get_segment(image, i, &segment); i++)
        loaded = loaded || segment.type == PT_INTERP;
    if (!loaded)
        return PROGRAM_STATIC;
    return is_go(image) ? PROGRAM_GO : PROGRAM_DYNAMIC;
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
    if (!at(image, 0, 2) || memcmp(image.bytes, "#!", 2) != 0)
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
    int fd = open(program->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* it may be a FIFO */
    if (fd < 0)
        return raises_privileges(program->path) ? PROGRAM_PRIVILEGED : PROGRAM_UNREADABLE;
    enum program_kind kind = PROGRAM_MISSING;
    struct stat status = {0};
    struct image image = {0};
    void *whole = MAP_FAILED;
    uint8_t start[4096];
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0)
        whole = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (whole != MAP_FAILED) {
        image = (struct image){whole, (size_t)status.st_size};
    } else if (S_ISREG(status.st_mode)) {
        /* Where there is no room for the whole (RLIMIT_AS), its start will do: an ELF file has its
           headers there, and Go's note. */
        ssize_t length = read(fd, start, sizeof start);
        image = (struct image){start, length > 0 ? (size_t)length : 0};
    }
    if (image.size > 0) {
        if (is_elf(image)) {
            kind = elf_kind(image);
            program->abi = abi_of(image);
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

/* Reads the ABI of the ELF file at PATH; returns false if there is none. */
static bool read_abi(struct program_abi *abi, const char *path) {
    uint8_t header[sizeof(Elf32_Ehdr)];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool whole = read(fd, header, sizeof header) == sizeof header;
    close(fd);
    struct image image = {header, sizeof header};
    if (!whole || !is_elf(image))
        return false;
    *abi = abi_of(image);
    return true;
}

struct program_abi program_own_abi(void) {
    struct program_abi own = {0};
    read_abi(&own, "/proc/self/exe");
    return own;
}

bool program_loads(const char *path, struct program_abi abi) {
    struct program_abi own;
    return read_abi(&own, path) && own.word == abi.word && own.machine == abi.machine;
}
