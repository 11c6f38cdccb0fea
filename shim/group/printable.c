/*
 * printable.c - see printable.h.
 */
#include "printable.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Reads the character that TEXT begins with, in UTF-8 (RFC 3629) and no other way to write it;
   returns its length, or 0 if there is none. */
static size_t read_character(const unsigned char *text, uint32_t *character) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = *text < 0x80 ? 1 : *text < 0xc0 ? 0 : *text < 0xe0 ? 2 : *text < 0xf0 ? 3 : 4;
    *character = length < 2 ? *text : *text & (0x7fU >> length);
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        *character = *character << 6 | (text[i] & 0x3fU);
    }
    bool valid = length && *text < 0xf8 && *character >= least[length] && *character <= 0x10ffff &&
                 (*character < 0xd800 || *character > 0xdfff);
    return valid ? length : 0;
}

/* Whether CHARACTER does something to what is around it. */
static bool is_control(uint32_t character) {
    static const struct {
        uint32_t first, last;
    } controls[] = {{0, 0x1f},        {0x7f, 0x9f},     {0x61c, 0x61c},
                    {0x200e, 0x200f}, {0x2028, 0x202e}, {0x2066, 0x206f}};
    for (size_t i = 0; i < sizeof controls / sizeof *controls; i++)
        if (character >= controls[i].first && character <= controls[i].last)
            return true;
    return false;
}

void printable(char *text) {
    uint32_t character;
    for (size_t length; *text; text += length) {
        length = read_character((const unsigned char *)text, &character);
        if (!length) {
            length = 1;
            character = (unsigned char)*text;
        }
        if (is_control(character))
            memset(text, '?', length);
    }
}
