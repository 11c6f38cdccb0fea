/*
 * printable.h - makes text from elsewhere harmless to a terminal.
 */
#ifndef PRINTABLE_H
#define PRINTABLE_H

/*
 * Puts a '?' for each octet of TEXT that is, in UTF-8, of a control character (0 to 0x1f, 0x7f to
 * 0x9f), of one that changes the direction of what follows (U+061C, U+200E, U+200F, U+202A to
 * U+202E, U+2066 to U+206F), or of a separator of lines (U+2028, U+2029); and for those that are in
 * no character of UTF-8 and are control characters by themselves (0x80 to 0x9f).
 */
void printable(char *text);

#endif
