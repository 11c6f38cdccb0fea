/*
 * table.c - see table.h.
 */
#define _GNU_SOURCE
#include "table.h"
#include "holders.h"
#include "tool.h"

#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COLUMNS = 13 };
enum column {
    PROTOCOL,
    ADDRESS,
    PORT,
    NUMBER,
    PID,
    USER,
    SHARED,
    WAITING,
    LIMIT,
    COMMAND,
    PROBLEMS, /* this and what follows for scripts alone */
    INODE,
    PLACE /* for people too, if they ask for it */
};

/* Longer command lines are cut off, for people. */
enum { COMMAND_WIDTH = 60 };

struct row {
    char *cells[COLUMNS];
};

/* The names of users that were asked for, as each takes reading a file, or more. */
struct names {
    struct name {
        uid_t user;
        char *text;
    } * all;
    size_t count;
};

/* The name of USER, or its number if it has none; it is NAMES'. */
static const char *user_name(struct names *names, uid_t user) {
    for (size_t i = 0; i < names->count; i++)
        if (names->all[i].user == user)
            return names->all[i].text;
    names->all = tool_got(reallocarray(names->all, names->count + 1, sizeof *names->all));
    const struct passwd *entry = getpwuid(user);
    char *text = entry ? tool_text("%s", entry->pw_name) : tool_text("%u", (unsigned)user);
    names->all[names->count++] = (struct name){user, text};
    return text;
}

static void free_names(struct names *names) {
    for (size_t i = 0; i < names->count; i++)
        free(names->all[i].text);
    free(names->all);
}

/* The pids of the holders: for people the first, and how many more there are. */
static char *pid_text(const struct socket *socket, bool tsv) {
    if (!socket->holder_count)
        return tool_text("-");
    char *result = tool_text("%d", (int)socket->holders[0].process->pid);
    for (size_t i = 1; tsv && i < socket->holder_count; i++) {
        char *longer = tool_text("%s,%d", result, (int)socket->holders[i].process->pid);
        free(result);
        result = longer;
    }
    if (tsv || socket->holder_count == 1)
        return result;
    char *longer = tool_text("%s+%zu", result, socket->holder_count - 1);
    free(result);
    return longer;
}

static char *command_text(const struct socket *socket, bool tsv) {
    const char *command = "";
    if (socket->holder_count)
        command = holders_command(socket->holders[0].process);
    size_t length = strlen(command);
    if (!length)
        return tool_text("-");
    if (!tsv && length > COMMAND_WIDTH) {
        enum { TAIL = 3 }; /* at most, of a UTF-8 character: it is not to be cut through */
        length = COMMAND_WIDTH;
        while (length > COMMAND_WIDTH - TAIL && ((unsigned char)command[length] & 0xc0) == 0x80)
            length--;
    }
    return tool_text("%.*s", (int)length, command);
}

static char *problems_text(const bool problems[PROBLEM_KINDS]) {
    static const char *const names[] = {
        [NOT_SHARED] = "not-shared",           [OTHER_USER] = "other-user",
        [SEVERAL_HOLDERS] = "several-holders", [FULL] = "full",
        [NOT_MOVING] = "not-moving",           [STOPPED] = "stopped",
    };
    char *result = NULL;
    for (int i = 0; i < PROBLEM_KINDS; i++) {
        if (!problems[i])
            continue;
        char *longer = result ? tool_text("%s,%s", result, names[i]) : tool_text("%s", names[i]);
        free(result);
        result = longer;
    }
    return result ? result : tool_text("-");
}

static struct row row_of(const struct member *member, struct names *names, bool tsv) {
    static const char *const shared[] = {"-", "no", "yes"};
    const struct socket *socket = member->socket;
    const char *unit = socket->protocol != IPPROTO_TCP && !tsv ? "B" : "";
    return (struct row){{
        [PROTOCOL] = tool_text("%s", members_protocol(socket)),
        [ADDRESS] = members_address(socket),
        [PORT] = tool_text("%u", socket->port),
        [NUMBER] = member->number < 0 ? tool_text("-") : tool_text("%d", member->number),
        [PID] = pid_text(socket, tsv),
        [USER] = tool_text("%s", user_name(names, socket->user)),
        [SHARED] = tool_text("%s", shared[socket->shared]),
        [WAITING] = tool_text("%u%s", socket->waiting, unit),
        [LIMIT] = tool_text("%u%s", socket->limit, unit),
        [COMMAND] = command_text(socket, tsv),
        [PROBLEMS] = problems_text(member->problems),
        [INODE] = tool_text("%u", socket->inode),
        [PLACE] = member->place < 0 ? tool_text("-") : tool_text("%d", member->place),
    }};
}

static void print_tsv(const struct row *row) {
    for (int column = 0; column < COLUMNS; column++)
        printf("%s%c", row->cells[column], column < COLUMNS - 1 ? '\t' : '\n');
}

static bool is_numeric(enum column column) {
    return column == PORT || column == NUMBER || column == PLACE || column == PID ||
           column == WAITING || column == LIMIT;
}

/* Prints all but the problems, aligned, with PLACES the place too; a group's line tells of what is
   wrong. */
static void print_row(const struct row *row, const int widths[COLUMNS], bool places) {
    static const enum column shown[] = {PROTOCOL, ADDRESS, PORT,   NUMBER,  PLACE,
                                        PID,      USER,    SHARED, WAITING, LIMIT};
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        if (shown[i] != PLACE || places)
            printf(is_numeric(shown[i]) ? "%*s  " : "%-*s  ", widths[shown[i]],
                   row->cells[shown[i]]);
    printf("%s\n", row->cells[COMMAND]);
}

/* Prints ", TITLE: " and the members of GROUP that have PROBLEM, if there are any; returns whether.
 */
static bool print_problem(const struct group *group, enum problem problem, const char *title) {
    bool any = false;
    for (size_t i = 0; i < group->count; i++) {
        const struct member *member = &group->members[i];
        if (!member->problems[problem])
            continue;
        if (any)
            fputs(", ", stdout);
        else
            printf("; %s: ", title);
        any = true;
        if (member->socket->holder_count)
            printf("pid %d", (int)member->socket->holders[0].process->pid);
        else if (member->number >= 0)
            printf("number %d", member->number);
        else
            fputs("one", stdout);
    }
    return any;
}

/* Whether GROUP, of IPv6, gets IPv4 connections too: those that no IPv4 socket takes.  A socket
   that is bound to one address is for IPv6 only, to the kernel. */
static bool takes_ipv4(const struct group *group) {
    const struct socket *socket = group->members->socket;
    return socket->family == AF_INET6 && !socket->ipv6_only;
}

/* Prints the line that says what matters of GROUP. */
static void print_verdict(const struct group *group, struct names *names) {
    const struct socket *first = group->members->socket;
    bool tcp = first->protocol == IPPROTO_TCP;
    enum shared shared = members_shared(group);
    const char *user = user_name(names, first->user);
    printf("  %zu member%s", group->count, group->count == 1 ? "" : "s");
    if (takes_ipv4(group))
        printf(", of IPv4 as well, where no IPv4 socket takes it");
    bool not_shared = print_problem(group, NOT_SHARED, "not shared");
    if (not_shared) /* others may well bind a UDP port that they set SO_REUSEADDR for */
        printf(" (%s: stop it and start it with reuse-run)",
               tcp ? "nobody can join" : "not spread over");
    if (print_problem(group, OTHER_USER, "of another user"))
        printf(" (in no group with those of '%s')", user);
    if (!not_shared && shared == SHARED_YES)
        printf("; copies of user '%s' can join", user);
    if (!not_shared && shared == SHARED_UNKNOWN)
        printf("; may be shared, by copies of user '%s'", user);
    if (print_problem(group, SEVERAL_HOLDERS, "one socket in several processes"))
        printf(" (they take turns, and it stays till all have closed it)");
    if (print_problem(group, FULL, "queue full"))
        printf(" (%s)", tcp ? "new connections wait or fail" : "datagrams are lost");
    if (print_problem(group, STOPPED, "stopped"))
        printf(" (still given a share: kill -CONT, or kill)");
    if (print_problem(group, NOT_MOVING, "not moving"))
        printf(
            " (no shorter queue in %g s, unlike others: hung or overloaded, still given a share)",
            (double)MEMBERS_WATCH_MS / 1000);
    printf("\n");
}

/* Whether the caller sees who holds MEMBER, and whether it is shared. */
static bool is_seen(const struct member *member) {
    return member->socket->holder_count && member->socket->shared != SHARED_UNKNOWN;
}

void table_print(struct member *members, size_t count, bool tsv, bool places) {
    static const struct row title = {{"PROTO", "ADDRESS", "PORT", "NO", "PID", "USER", "SHARED",
                                      "WAITING", "LIMIT", "COMMAND", "PROBLEMS", "INODE", "PLACE"}};
    struct row *rows = tool_got(calloc(count, sizeof *rows));
    int widths[COLUMNS];
    for (int column = 0; column < COLUMNS; column++)
        widths[column] = (int)strlen(title.cells[column]);
    struct names names = {0};
    bool all_seen = true;
    for (size_t i = 0; i < count; i++) {
        rows[i] = row_of(&members[i], &names, tsv);
        all_seen &= is_seen(&members[i]);
        for (int column = 0; column < COLUMNS; column++)
            if ((int)strlen(rows[i].cells[column]) > widths[column])
                widths[column] = (int)strlen(rows[i].cells[column]);
    }
    if (tsv)
        print_tsv(&title);
    else
        print_row(&title, widths, places);
    for (size_t i = 0; i < count;) {
        struct group group = members_group(&members[i], count - i);
        for (size_t end = i + group.count; i < end; i++) {
            if (tsv)
                print_tsv(&rows[i]);
            else
                print_row(&rows[i], widths, places);
        }
        if (!tsv)
            print_verdict(&group, &names);
    }
    if (!tsv && !all_seen)
        printf("-: not for this caller to see; %s\n",
               geteuid() ? "root, and mostly the user whose socket it is, can"
                         : "held by the kernel, in another pid namespace, or out of reach "
                           "(CAP_SYS_PTRACE)");
    for (size_t i = 0; i < count; i++)
        for (int column = 0; column < COLUMNS; column++)
            free(rows[i].cells[column]);
    free(rows);
    free_names(&names);
}
