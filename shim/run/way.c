/*
 * way.c - see way.h.
 */
#define _GNU_SOURCE
#include "way.h"
#include "program.h"
#include "tool.h"
#include "trap.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

/* Leaves in FOLDER where this program's file lies, or "" where nothing tells.  Without /proc it is
   found by the path by which it was started (getauxval(3)). */
static void own_folder(char folder[PATH_MAX]) {
    ssize_t length = readlink("/proc/self/exe", folder, PATH_MAX - 1);
    folder[length > 0 ? length : 0] = 0;
    const char *path = (const char *)getauxval(AT_EXECFN);
    if (length < 0 && (!path || !realpath(path, folder)))
        *folder = 0;
    char *slash = strrchr(folder, '/');
    if (slash)
        *slash = 0;
}

/* Finds a shim that programs of ABI load, beside this program or where it is installed; leaves ""
   if there is none. */
static void find_shim(char *shim, size_t size, struct elf_abi abi) {
    char beside[PATH_MAX];
    own_folder(beside);
    const char *const places[][2] = {
        {beside, ""}, {beside, "/lib32"}, {LIBDIR, ""}, {LIB32DIR, ""}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(shim, size, "%s%s/libreuse.so", places[i][0], places[i][1]);
        if (program_loads(shim, abi))
            return;
    }
    *shim = 0;
}

static bool is_looked_into(const struct program *program) {
    return program->kind != PROGRAM_MISSING && program->kind != PROGRAM_UNREADABLE &&
           program->kind != PROGRAM_PRIVILEGED;
}

/* Why no preloaded library reaches the program's binds; NULL if one may. */
static const char *past_preload(const struct program *program) {
    const char *name = strrchr(program->path, '/');
    if (program->kind == PROGRAM_STATIC)
        return "static";
    if (program->kind == PROGRAM_GO)
        return "written in Go, which calls the kernel itself";
    if (program->kind == PROGRAM_ASAN)
        return "needs AddressSanitizer's library, which has to come first";
    if (name && strcmp(name, "/chroot") == 0)
        return "runs a program below another root, where there may be no libreuse.so";
    return NULL;
}

/*
 * Watches if a preload does not reach one of the programs among the arguments.  Those behind one
 * that gains privileges (sudo) are reached by neither way; watched, that one would not gain them.
 */
static void judge_arguments(struct way_choice *choice, char **arguments) {
    struct program program = {.kind = PROGRAM_MISSING};
    for (; !choice->why && *arguments && program.kind != PROGRAM_PRIVILEGED; arguments++) {
        if (**arguments == '-')
            continue;
        program_judge(&program, *arguments);
        if (!is_looked_into(&program) || program.abi.word > elf_own_abi().word)
            continue;
        choice->why = past_preload(&program);
        if (!choice->why && !program_loads(choice->shim, program.abi))
            choice->why = "of another kind of machine than the libreuse.so before it";
    }
    if (choice->why)
        memcpy(choice->file, program.path, sizeof choice->file);
}

/* Why the program is to be watched; NULL if a preload reaches it. */
static const char *why_watch(const struct way_choice *choice, enum way asked,
                             const struct program *program) {
    if (asked == WAY_WATCH)
        return "asked for";
    if (asked == WAY_PRELOAD)
        return NULL;
    const char *why = past_preload(program), *others = getenv("LD_PRELOAD");
    if (!why && others && program_names_asan(others))
        return "AddressSanitizer's library, which LD_PRELOAD names, has to come first";
    return why || *choice->shim ? why : "there is no libreuse.so for its kind of machine";
}

void way_choose(struct way_choice *choice, enum way asked, char **arguments) {
    struct program program;
    *choice = (struct way_choice){.way = WAY_NONE};
    program_judge(&program, *arguments);
    memcpy(choice->file, program.path, sizeof choice->file);
    if (program.kind == PROGRAM_MISSING)
        return; /* exec says why it cannot be run */
    if (program.kind == PROGRAM_PRIVILEGED)
        tool_fail(
            "cannot share the ports of '%s': it gains privileges (set-user-id or capabilities); "
            "run reuse-run as the user that it becomes, or have root use reuse-cgroup",
            program.path);
    if (trap_installed()) {
        choice->why = "a reuse-run watches already";
        return;
    }
    if (program.kind == PROGRAM_UNREADABLE) /* likely as this one */
        program.abi = elf_own_abi();
    find_shim(choice->shim, sizeof choice->shim, program.abi);
    choice->why = why_watch(choice, asked, &program);
    if (choice->why && program.abi.word > elf_own_abi().word)
        tool_fail("cannot watch '%s': it is a 64-bit program, and this a 32-bit reuse-run; build a "
                  "64-bit one",
                  program.path);
    if (asked == WAY_ANY && !choice->why)
        judge_arguments(choice, arguments + 1);
    if (!choice->why && !*choice->shim)
        tool_fail("cannot find a libreuse.so that '%s' loads; build and install libreuse",
                  program.path);
    choice->way = choice->why ? WAY_WATCH : WAY_PRELOAD;
}

void way_explain(const struct way_choice *choice, const char *name) {
    fprintf(stderr, "reuse-run: %s: ", name);
    if (choice->way == WAY_WATCH)
        fprintf(stderr, "watched, %s: %s\n", choice->why, choice->file);
    else if (choice->way == WAY_PRELOAD)
        fprintf(stderr, "preloaded with %s: %s\n", choice->shim, choice->file);
    else
        fprintf(stderr, "simply run: %s\n", choice->why);
}
