/*
 * elf_file.c - reads ELF files of either word size; see elf_file.h.
 */
#include "elf_file.h"

#include <elf.h>
#include <string.h>

/* EI_DATA of the files that this machine runs. */
enum { BYTE_ORDER_HERE = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB };

/* Returns the LENGTH bytes at OFFSET, NULL if the file ends before. */
static const void *at(struct image image, uint64_t offset, uint64_t length) {
    if (offset > image.size || length > image.size - offset)
        return NULL;
    return image.bytes + offset;
}

/* Copies the LENGTH bytes at OFFSET, wherever that is; returns false if the file ends before. */
static bool copy(struct image image, uint64_t offset, void *to, size_t length) {
    const void *from = at(image, offset, length);
    if (from)
        memcpy(to, from, length);
    return from;
}

static bool is_64_bit(struct image image) {
    return image.bytes[EI_CLASS] == ELFCLASS64;
}

bool elf_is(struct image image) {
    const uint8_t *ident = at(image, 0, sizeof(Elf32_Ehdr));
    return ident && memcmp(ident, ELFMAG, SELFMAG) == 0 && ident[EI_DATA] == BYTE_ORDER_HERE;
}

struct elf_abi elf_abi(struct image image) {
    Elf32_Ehdr elf = {0}; /* the same up to e_machine in both sizes */
    copy(image, 0, &elf, sizeof elf);
    return (struct elf_abi){elf.e_ident[EI_CLASS], elf.e_machine};
}

struct elf_abi elf_own_abi(void) {
    /* This program's first bytes, in memory: a symbol that linkers define. */
    extern const uint8_t own_header[] __asm__("__ehdr_start") __attribute__((visibility("hidden")));
    return elf_abi((struct image){own_header, sizeof(Elf32_Ehdr)});
}

bool elf_same_abi(struct elf_abi one, struct elf_abi other) {
    return one.word == other.word && one.machine == other.machine;
}

/* Fills in program header NUMBER; returns false if there is none. */
static bool get_segment(struct image image, unsigned number, Elf64_Phdr *segment) {
    if (is_64_bit(image)) {
        Elf64_Ehdr elf;
        return copy(image, 0, &elf, sizeof elf) && number < elf.e_phnum &&
               copy(image, elf.e_phoff + number * (uint64_t)elf.e_phentsize, segment,
                    sizeof *segment);
    }
    Elf32_Ehdr elf;
    Elf32_Phdr header;
    if (!copy(image, 0, &elf, sizeof elf) || number >= elf.e_phnum ||
        !copy(image, elf.e_phoff + number * (uint64_t)elf.e_phentsize, &header, sizeof header))
        return false;
    *segment = (Elf64_Phdr){.p_type = header.p_type,
                            .p_flags = header.p_flags,
                            .p_offset = header.p_offset,
                            .p_vaddr = header.p_vaddr,
                            .p_filesz = header.p_filesz,
                            .p_align = header.p_align};
    return true;
}

/* Fills in the first segment of TYPE; returns false if there is none. */
static bool find_segment(struct image image, uint32_t type, Elf64_Phdr *segment) {
    for (unsigned i = 0; get_segment(image, i, segment); i++)
        if (segment->p_type == type)
            return true;
    return false;
}

bool elf_has_loader(struct image image) {
    return find_segment(image, PT_INTERP, &(Elf64_Phdr){0});
}

/* Fills in entry NUMBER of the dynamic section at SEGMENT; returns false after the last. */
static bool get_dynamic(struct image image, const Elf64_Phdr *segment, uint64_t number,
                        Elf64_Dyn *entry) {
    if (is_64_bit(image))
        return number < segment->p_filesz / sizeof *entry &&
               copy(image, segment->p_offset + number * sizeof *entry, entry, sizeof *entry) &&
               entry->d_tag != DT_NULL;
    Elf32_Dyn narrow;
    if (number >= segment->p_filesz / sizeof narrow ||
        !copy(image, segment->p_offset + number * sizeof narrow, &narrow, sizeof narrow))
        return false;
    *entry = (Elf64_Dyn){.d_tag = narrow.d_tag, .d_un.d_val = narrow.d_un.d_val};
    return entry->d_tag != DT_NULL;
}

/* Where in the file lies what will be at ADDRESS; past its end if nowhere. */
static uint64_t offset_of(struct image image, uint64_t address) {
    Elf64_Phdr segment;
    for (unsigned i = 0; get_segment(image, i, &segment); i++)
        if (segment.p_type == PT_LOAD && address >= segment.p_vaddr &&
            address - segment.p_vaddr < segment.p_filesz)
            return segment.p_offset + (address - segment.p_vaddr);
    return image.size;
}

/* Fills in the entry of the dynamic section that is, from 0, number PLACE of those with TAG;
   returns false if there is none. */
static bool find_dynamic(struct image image, Elf64_Sxword tag, unsigned place, Elf64_Dyn *entry) {
    Elf64_Phdr dynamic;
    if (!find_segment(image, PT_DYNAMIC, &dynamic))
        return false;
    for (uint64_t i = 0; get_dynamic(image, &dynamic, i, entry); i++)
        if (entry->d_tag == tag && place-- == 0)
            return true;
    return false;
}

const char *elf_needed(struct image image, unsigned number) {
    Elf64_Dyn name, names;
    if (!find_dynamic(image, DT_NEEDED, number, &name) ||
        !find_dynamic(image, DT_STRTAB, 0, &names))
        return NULL;
    uint64_t offset = offset_of(image, names.d_un.d_ptr) + name.d_un.d_val;
    const char *text = at(image, offset, 1);
    return text && memchr(text, 0, image.size - (size_t)offset) ? text : NULL;
}

static bool is_library(struct image image) {
    Elf64_Dyn entry;
    return !elf_has_loader(image) &&
           (find_dynamic(image, DT_NEEDED, 0, &entry) || find_dynamic(image, DT_SONAME, 0, &entry));
}

bool elf_is_program(struct image image) {
    Elf32_Ehdr elf = {0}; /* the same up to e_type in both sizes */
    copy(image, 0, &elf, sizeof elf);
    return elf.e_type == ET_EXEC || (elf.e_type == ET_DYN && !is_library(image));
}

static uint64_t round_up(uint64_t number, uint64_t to) {
    return (number + to - 1) / to * to;
}

/* Whether one of the segment's notes is Go's: the build id, of owner "Go". */
static bool has_go_note(struct image image, const Elf64_Phdr *segment) {
    static const char owner[4] = "Go\0";
    uint64_t alignment = segment->p_align == 8 ? 8 : 4;
    uint64_t place = 0;
    Elf64_Nhdr note; /* the same in both sizes */
    while (place + sizeof note <= segment->p_filesz &&
           copy(image, segment->p_offset + place, &note, sizeof note)) {
        const void *name = at(image, segment->p_offset + place + sizeof note, sizeof owner);
        if (note.n_namesz == sizeof owner && name && memcmp(name, owner, sizeof owner) == 0)
            return true;
        place = round_up(place + sizeof note + note.n_namesz, alignment);
        place = round_up(place + note.n_descsz, alignment);
    }
    return false;
}

/* Whether the segment holds Go's build information, which lies at an address that is a multiple of
   16: debug/buildinfo in Go's library. */
static bool has_go_build(struct image image, const Elf64_Phdr *segment) {
    static const char magic[] = "\xff Go buildinf:";
    enum { ALIGNMENT = 16 };
    const uint8_t *data = at(image, segment->p_offset, segment->p_filesz);
    uint64_t place = round_up(segment->p_vaddr, ALIGNMENT) - segment->p_vaddr;
    for (; data && place + ALIGNMENT <= segment->p_filesz; place += ALIGNMENT)
        if (memcmp(data + place, magic, sizeof magic - 1) == 0)
            return true;
    return false;
}

bool elf_is_go(struct image image) {
    Elf64_Phdr segment;
    for (unsigned i = 0; get_segment(image, i, &segment); i++)
        if ((segment.p_type == PT_NOTE && has_go_note(image, &segment)) ||
            (segment.p_type == PT_LOAD && segment.p_flags & PF_W && has_go_build(image, &segment)))
            return true;
    return false;
}
