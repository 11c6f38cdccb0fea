/*
 * program.h - what kind of program a command is, as far as that decides how its binds are reached.
 */
#ifndef PROGRAM_H
#define PROGRAM_H

#include "elf_file.h"

#include <stdbool.h>

enum program_kind {
    PROGRAM_MISSING,    /* not to be found, or not to be run: exec will say why */
    PROGRAM_UNREADABLE, /* it can be run, but not looked into */
    PROGRAM_PRIVILEGED, /* it would gain privileges, so that nothing may be done to it */
    PROGRAM_DYNAMIC,    /* has a loader, that loads what LD_PRELOAD names */
    PROGRAM_STATIC,     /* has none */
    PROGRAM_GO,         /* makes its system calls itself, dynamic or not */
    PROGRAM_ASAN,       /* needs AddressSanitizer's library, which ends it if another comes first */
};

struct program {
    enum program_kind kind;
    struct elf_abi abi; /* of an ELF file */
    char path[4096];    /* the file that was judged: a script's interpreter */
};

/* Judges the program that execvp(3) would run for NAME; a script by its interpreter. */
void program_judge(struct program *program, const char *name);

/* Whether LIBRARIES, names as LD_PRELOAD has them, holds AddressSanitizer's. */
bool program_names_asan(const char *libraries);

/* Whether the file at PATH can be loaded into programs of ABI. */
bool program_loads(const char *path, struct elf_abi abi);

#endif
