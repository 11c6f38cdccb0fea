/*
 * elf - what libFuzzer runs with every program file that it thinks of: shim/run/elf_file.c must
 * read nothing beyond the file, whatever that says of itself, and find an end.
 *
 *     elf [OPTION]... CORPUS...    (https://llvm.org/docs/LibFuzzer.html)
 */
#include "../../shim/run/elf_file.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct image image = {data, size};
    const char *library;
    if (!elf_is(image))
        return 0;
    if (elf_is_program(image) && elf_has_loader(image))
        elf_is_go(image);
    for (unsigned i = 0; (library = elf_needed(image, i)); i++)
        if (strlen(library) >= size)
            abort();
    return 0;
}
