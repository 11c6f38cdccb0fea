/*
 * list.c - see list.h.
 */
#define _GNU_SOURCE
#include "list.h"
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* For people the last is a line of its own. */
enum column { CGROUP, PORTS, PROCESSES, USER, ABOVE, COLUMNS };

static struct listed *append(struct list *list, const struct listed *one) {
    struct listed *added = tool_got(malloc(sizeof *added));
    *added = *one;
    list->all = tool_got(realloc(list->all, (list->count + 1) * sizeof *list->all));
    list->all[list->count++] = added;
    return added;
}

enum attach_trouble list_read(struct list *list, const char *path, const struct listed *above) {
    int cgroup = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (cgroup < 0)
        return ATTACH_DONE;
    struct listed one = {.above = above};
    enum attach_trouble trouble = attach_read(cgroup, &one.attached);
    close(cgroup);
    if (trouble)
        return trouble;
    if (one.attached.on) {
        one.path = tool_text("%s", path);
        one.processes = folders_processes(path);
        above = append(list, &one);
    }
    size_t count;
    char **names = folders_below(path, &count);
    for (size_t i = 0; i < count; i++) {
        char *folder = tool_text("%s/%s", path, names[i]);
        if (!trouble)
            trouble = list_read(list, folder, above);
        free(folder);
        free(names[i]);
    }
    free(names);
    return trouble;
}

/* The name of USER, or its number if it has none; to be freed. */
static char *user_name(uid_t user) {
    const struct passwd *entry = getpwuid(user);
    return entry ? tool_text("%s", entry->pw_name) : tool_text("%u", (unsigned)user);
}

static const char *ports_text(const struct listed *listed) {
    return listed->attached.list ? listed->attached.list : "all";
}

/* The cgroups above LISTED, the nearest first, to be freed: their names, for people with what is
   on there. */
static char *above_text(const struct listed *listed, const struct folders *folders, bool tsv) {
    char *text = tool_text("%s", "");
    for (const struct listed *above = listed->above; above; above = above->above) {
        const char *name = folders_name(folders, above->path), *comma = *text ? "," : "";
        char *user = user_name(above->attached.user);
        char *longer =
            tsv ? tool_text("%s%s%s", text, comma, name)
                : tool_text("%s%s %s by %s at %s", text, comma, ports_text(above), user, name);
        free(user);
        free(text);
        text = longer;
    }
    return text;
}

struct row {
    char *cells[COLUMNS];
};

static struct row row_of(const struct listed *listed, const struct folders *folders, bool tsv) {
    return (struct row){{
        [CGROUP] = tool_text("%s", folders_name(folders, listed->path)),
        [PORTS] = tool_text("%s", ports_text(listed)),
        [PROCESSES] = tool_text("%zu", listed->processes),
        [USER] = user_name(listed->attached.user),
        [ABOVE] = above_text(listed, folders, tsv),
    }};
}

static void print_row(const struct row *row, const int widths[COLUMNS], bool tsv) {
    if (tsv) {
        for (int column = 0; column < ABOVE; column++)
            printf("%s\t", row->cells[column]);
        printf("%s\n", *row->cells[ABOVE] ? row->cells[ABOVE] : "-");
        return;
    }
    printf("%-*s  %-*s  %*s  %s\n", widths[CGROUP], row->cells[CGROUP], widths[PORTS],
           row->cells[PORTS], widths[PROCESSES], row->cells[PROCESSES], row->cells[USER]);
}

void list_print(const struct list *list, const struct folders *folders, bool tsv) {
    static const struct row title = {{"CGROUP", "PORTS", "PROCESSES", "USER", "ABOVE"}};
    struct row *rows = tool_got(calloc(list->count + 1, sizeof *rows));
    int widths[COLUMNS];
    for (int column = 0; column < COLUMNS; column++)
        widths[column] = (int)strlen(title.cells[column]);
    for (size_t i = 0; i < list->count; i++) {
        rows[i] = row_of(list->all[i], folders, tsv);
        for (int column = 0; column < COLUMNS; column++)
            if ((int)strlen(rows[i].cells[column]) > widths[column])
                widths[column] = (int)strlen(rows[i].cells[column]);
    }
    print_row(&title, widths, tsv);
    for (size_t i = 0; i < list->count; i++) {
        print_row(&rows[i], widths, tsv);
        if (!tsv && *rows[i].cells[ABOVE])
            printf("  and above:%s\n", rows[i].cells[ABOVE]);
    }
    for (size_t i = 0; i < list->count; i++)
        for (int column = 0; column < COLUMNS; column++)
            free(rows[i].cells[column]);
    free(rows);
}
