/*
 * table.h - the members of groups as a table, for people with a verdict below each group, or for
 * scripts.
 */
#ifndef TABLE_H
#define TABLE_H

#include "members.h"

/* Prints the table of COUNT members, judged, to standard output; as tab-separated values if TSV.
   With PLACES, people are shown the members' places. */
void table_print(struct member *members, size_t count, bool tsv, bool places);

#endif
