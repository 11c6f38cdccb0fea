/*
 * elf_file.h - what an ELF file (elf(5)) says of itself, as far as that decides how the binds of
 * the program are reached.
 */
#ifndef ELF_FILE_H
#define ELF_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A file's bytes, all of them or the first; what lies beyond is taken for not there. */
struct image {
    const uint8_t *bytes;
    size_t size;
};

/* The word size and machine that a file is for. */
struct elf_abi {
    uint8_t word;     /* EI_CLASS: ELFCLASS32, ELFCLASS64 */
    uint16_t machine; /* EM_X86_64 and the like */
};

/* Whether it is an ELF file, in the byte order of this machine.  The rest is for such files. */
bool elf_is(struct image image);

struct elf_abi elf_abi(struct image image);

/* What this program itself is. */
struct elf_abi elf_own_abi(void);

bool elf_same_abi(struct elf_abi one, struct elf_abi other);

/* Whether it can be run: no library, object file or core. */
bool elf_is_program(struct image image);

/* Whether a loader comes before it (ld.so(8)). */
bool elf_has_loader(struct image image);

/* The library that it names at place NUMBER, from 0, as one that it needs; NULL if there is none.
 */
const char *elf_needed(struct image image, unsigned number);

/* Whether Go's linker made it. */
bool elf_is_go(struct image image);

#endif
