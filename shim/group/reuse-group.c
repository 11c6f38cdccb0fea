/*
 * reuse-group [OPTION]... [PORTS]... - shows who shares a port, and what is wrong there;
 * steers new connections to some of them.
 *
 * The kernel tells of the sockets (sockets.h), /proc of the processes that hold them (holders.h).
 * They are put together to groups and judged (members.h), and printed (table.h) or steered
 * (steer.h).
 *
 * Exit status: 0, 1 if nothing is on a port, 2 for wrong usage and for errors.
 */
#define _GNU_SOURCE
#include "holders.h"
#include "members.h"
#include "placeholder.h"
#include "ports.h"
#include "steer.h"
#include "table.h"
#include "tool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EXIT_NOTHING = 1, EXIT_TROUBLE = 2 };

const struct tool tool = {
    .name = "reuse-group",
    .failure = EXIT_TROUBLE,
    .usage =
        "Usage: reuse-group [--tsv] [--no-wait] [--places] [PORTS]...\n"
        "  or:  reuse-group --steer=FIRST[-LAST] PORTS...\n"
        "  or:  reuse-group --unsteer PORTS...\n"
        "Show who listens on PORTS, and what is wrong there; without any, who shares one.\n"
        "PORTS are a list of [ADDRESS:]PORT[-PORT][/tcp|/udp], such as 8000 or [::]:80,53/udp.\n"
        "\n"
        "      --tsv              write tab-separated values, for scripts\n"
        "      --no-wait          do not look for half a second whether queues move\n"
        "      --places           find out the kernel's numbers for the members\n"
        "      --steer=RANGE      give new connections and flows only to members FIRST to LAST\n"
        "                           of the group, by the kernel's numbers, which are those in\n"
        "                           order of joining from 0 until one has left\n"
        "      --unsteer          give them to all members again\n"
        "      --help             display this help and exit\n"
        "      --version          output version information and exit\n"
        "\n"
        "Exit status: 0; 1 if nothing is on a port, or none is shared; 2 for wrong usage and\n"
        "errors.\n",
};

enum action { SHOW, STEER, UNSTEER };

/* PORTS of the command line: a list as in LIBREUSE_PORTS. */
struct wanted {
    const char *list;
    struct ports ports;
};

/* What the command line says. */
struct command {
    enum action action;
    unsigned first, last; /* to steer to */
    bool tsv, no_wait, places;
    struct wanted *wanted;
    size_t wanted_count;
};

/* Whether SOCKET is on one of the ports of LIST. */
static bool is_in(const struct ports *list, const struct socket *socket) {
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(socket->port)};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(socket->port)};
    memcpy(&in6.sin6_addr, socket->address, sizeof in6.sin6_addr);
    memcpy(&in.sin_addr, socket->address, sizeof in.sin_addr);
    bool ipv4 = socket->family == AF_INET;
    const void *address = ipv4 ? (void *)&in : &in6;
    return ports_plan(list, socket->protocol, address, ipv4 ? sizeof in : sizeof in6) ==
           PORTS_SHARE_BEFORE;
}

/* Whether the command line, which is CONTEXT, asks for SOCKET. */
static bool is_wanted(const struct socket *socket, const void *context) {
    const struct command *command = context;
    for (size_t i = 0; i < command->wanted_count; i++)
        if (is_in(&command->wanted[i].ports, socket))
            return true;
    return !command->wanted_count;
}

__attribute__((noreturn)) static void fail_reading(void) {
    tool_fail("cannot ask the kernel for its sockets: %s; this takes inet_diag (modprobe tcp_diag "
              "udp_diag)",
              strerror(errno));
}

/* A group to steer, one of its members, and a duplicate of that. */
struct steered {
    struct group group;
    const struct socket *like;
    int fd;
};

/* The group as messages name it. */
static char *group_text(const struct group *group) {
    const struct socket *socket = group->members->socket;
    char *address = members_address(socket);
    char *result = tool_text("%s %s port %u", members_protocol(socket), address, socket->port);
    free(address);
    return result;
}

/* Whose members of GROUP are steered, if there are several users': the caller's, or those of who
   came first. */
static uid_t steered_user(const struct group *group) {
    for (size_t i = 0; i < group->count; i++)
        if (group->members[i].socket->user == geteuid())
            return geteuid();
    return group->members->socket->user;
}

/* Fails unless GROUP can be steered as COMMAND says. */
static void check_steerable(const struct group *group, const struct command *command) {
    unsigned count = members_numbered(group, steered_user(group));
    if (count == 0 && group->members->socket->shared == SHARED_UNKNOWN)
        tool_fail("cannot steer %s: cannot see whether it is shared; be its user, or root",
                  group_text(group));
    if (count == 0)
        tool_fail("cannot steer %s: it is not shared; start its server with reuse-run",
                  group_text(group));
    if (command->action == STEER && command->last >= count)
        tool_fail("cannot steer %s to member %u: its members are 0 to %u", group_text(group),
                  command->last, count - 1);
}

static const char more_files[] = "raise the limit of open files (ulimit -n), or steer less at once";

/* What to do about an ERROR that taking a member ended in. */
static const char *taking_advice(int error) {
    if (error == ENOSYS)
        return "this takes Linux 5.6 or newer";
    return error == EMFILE || error == ENFILE ? more_files : "be its user, or root";
}

/* What to do about an ERROR that steering ended in. */
static const char *steering_advice(int error) {
    switch (error) {
    case EINVAL:
        return "its one member was shared after it was bound, which makes a group only when "
               "another joins";
    case EMFILE:
    case ENFILE:
        return more_files;
    case EACCES: /* of a placeholder */
    case EPERM:
        return "MPTCP is steered by a socket that joins: be its user, or root, and may bind the "
               "port";
    default:
        return "this takes Linux 5.3 or newer, and no SO_LOCK_FILTER";
    }
}

/* Takes a duplicate of any member of STEERED's group; fails if none is to be had. */
static void take_any(struct steered *steered) {
    const struct group *group = &steered->group;
    uid_t user = steered_user(group);
    steered->fd = -1;
    for (size_t i = 0; steered->fd < 0 && i < group->count; i++) {
        steered->like = group->members[i].socket;
        if (group->members[i].number >= 0 && steered->like->user == user)
            steered->fd = holders_take(steered->like);
    }
    if (steered->fd < 0)
        tool_fail("cannot steer %s: no socket of it is to be had: %s; %s", group_text(group),
                  strerror(errno), taking_advice(errno));
}

/* Has the group that FD is in follow PLAN, or spread over all if it is NULL. */
static bool follow(int fd, const struct steer_plan *plan) {
    return plan ? steer_attach(fd, plan) : steer_detach(fd);
}

/* The same for what is to be STEERED: its member, or one of our own where that cannot be asked. */
static bool steer(const struct steered *steered, const struct steer_plan *plan) {
    if (follow(steered->fd, plan))
        return true;
    if (errno != EOPNOTSUPP) /* MPTCP */
        return false;
    int fd = placeholder_open(steered->like);
    bool done = fd >= 0 && follow(fd, plan);
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return done;
}

/* Makes room for as many descriptors as there may be: each group to steer takes one, and each
   member whose place is to be found. */
static void raise_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Steers every group of MEMBERS, or none of them if one cannot be. */
static void steer_all(struct member *members, size_t count, const struct command *command) {
    struct steered *all = tool_got(calloc(count, sizeof *all));
    size_t groups = 0;
    unsigned places[UINT16_MAX + 1];
    const struct steer_plan to = {.to = {places, command->last - command->first + 1}};
    const struct steer_plan *plan = command->action == STEER ? &to : NULL;
    for (unsigned i = 0; i < to.to.count; i++)
        places[i] = command->first + i;
    for (size_t i = 0; i < count; i += all[groups++].group.count) {
        all[groups].group = members_group(&members[i], count - i);
        check_steerable(&all[groups].group, command);
        take_any(&all[groups]);
    }
    for (size_t i = 0; i < groups; i++) {
        if (steer(&all[i], plan))
            continue;
        int error = errno;
        for (size_t done = 0; plan && done < i; done++)
            steer(&all[done], NULL);
        tool_fail("cannot steer %s: %s: %s", group_text(&all[i].group), strerror(error),
                  steering_advice(error));
    }
    free(all); /* the descriptors end with the process */
}

/* Finds the places of the members of GROUP, of each of its users'; says so and returns false if
   that cannot be. */
static bool find_places(struct group *group) {
    for (size_t i = 0; i < group->count; i++) {
        if (group->members[i].number != 0) /* the first of its user's */
            continue;
        if (members_find_places(group, group->members[i].socket->user))
            continue;
        const char *reason = errno == EAGAIN ? "it changes all the time, or has a member that "
                                               "is not shown to be in it"
                                             : strerror(errno);
        char *name = group_text(group);
        fprintf(stderr, "reuse-group: cannot find the places in %s: %s\n", name, reason);
        free(name);
        return false;
    }
    return true;
}

/* ------------------------------------------------------------------------ the command, and main */

/* Reads a number from *TEXT on, and leaves *TEXT after it; returns -1 if there is none, or one
   above 65535. */
static int read_number(const char **text) {
    int number = -1;
    for (; **text >= '0' && **text <= '9' && number <= 65535; (*text)++)
        number = (number < 0 ? 0 : number) * 10 + (**text - '0');
    return number <= 65535 ? number : -1;
}

static void read_ports(struct wanted *wanted, const char *list) {
    struct ports_error error;
    wanted->list = list;
    if (!ports_read(&wanted->ports, list, &error))
        tool_fail("'%.*s': %s; ports are such as 8000, 53/udp, 8000-8010, [::1]:80/tcp",
                  (int)error.length, error.item, error.reason);
}

static void read_range(struct command *command, const char *range) {
    const char *rest = range;
    int first = read_number(&rest), last = first;
    if (first >= 0 && *rest == '-') {
        rest++;
        last = read_number(&rest);
    }
    if (first < 0 || last < first || *rest)
        tool_fail("--steer: '%s': members are a number or a range, such as 0 or 2-3", range);
    command->first = (unsigned)first;
    command->last = (unsigned)last;
}

static void read_command(struct command *command, int argc, char **argv) {
    enum { TSV = 256, NO_WAIT, PLACES, STEER_OPTION, UNSTEER_OPTION };
    static const struct option options[] = {
        {"tsv", no_argument, NULL, TSV},
        {"no-wait", no_argument, NULL, NO_WAIT},
        {"places", no_argument, NULL, PLACES},
        {"steer", required_argument, NULL, STEER_OPTION},
        {"unsteer", no_argument, NULL, UNSTEER_OPTION},
        TOOL_OPTIONS,
        {0},
    };
    static char name[] = "reuse-group";
    argv[0] = name; /* for getopt_long()'s messages */
    int option;
    while ((option = tool_option(argc, argv, "", options)) != -1) {
        switch (option) {
        case TSV:
            command->tsv = true;
            break;
        case NO_WAIT:
            command->no_wait = true;
            break;
        case PLACES:
            command->places = true;
            break;
        case STEER_OPTION:
            command->action = STEER;
            read_range(command, optarg);
            break;
        case UNSTEER_OPTION:
            command->action = UNSTEER;
            break;
        }
    }
    command->wanted_count = (size_t)(argc - optind);
    if (command->action != SHOW && !command->wanted_count) {
        fputs("reuse-group: which port is to be steered is missing\n", stderr);
        tool_misuse();
    }
    command->wanted = tool_got(calloc(command->wanted_count + 1, sizeof *command->wanted));
    for (size_t i = 0; i < command->wanted_count; i++)
        read_ports(&command->wanted[i], argv[(size_t)optind + i]);
}

/* Says on which ports of COMMAND nothing is; returns the exit status. */
static int report_missing(const struct command *command, const struct member *members,
                          size_t count) {
    int status = EXIT_SUCCESS;
    for (size_t i = 0; i < command->wanted_count; i++) {
        const struct wanted *wanted = &command->wanted[i];
        size_t found = 0;
        while (found < count && !is_in(&wanted->ports, members[found].socket))
            found++;
        if (found < count)
            continue;
        fprintf(stderr, "reuse-group: nothing is on port %s\n", wanted->list);
        status = EXIT_NOTHING;
    }
    return status;
}

int main(int argc, char **argv) {
    struct command command = {0};
    struct sockets sockets;
    read_command(&command, argc, argv);
    if (command.places || command.action != SHOW)
        raise_limit();
    const struct sockets_query query = {.wanted = is_wanted, .context = &command};
    if (!sockets_read(&sockets, &query))
        fail_reading();
    if (!holders_find(&sockets))
        tool_fail("cannot look who holds the sockets: %s", strerror(errno));
    struct member *members = tool_got(calloc(sockets.count + 1, sizeof *members));
    size_t count = members_make(members, &sockets, !command.wanted_count);
    if (command.action == SHOW && !members_watch(members, count, !command.no_wait))
        fail_reading();
    if (!members_drop_closed(members, &count, &query))
        fail_reading();
    int status = report_missing(&command, members, count);
    if (!command.wanted_count && !count) {
        fputs("reuse-group: no port is shared\n", stderr);
        status = EXIT_NOTHING;
    }
    struct group group;
    for (size_t i = 0; i < count; i += group.count) {
        group = members_group(&members[i], count - i);
        members_judge(&group);
        if (command.places && !find_places(&group))
            status = EXIT_TROUBLE;
    }
    if (command.action != SHOW && status == EXIT_SUCCESS)
        steer_all(members, count, &command);
    else if (command.action == SHOW && count)
        table_print(members, count, command.tsv, command.places);
    free(members);
    free(command.wanted);
    sockets_free(&sockets);
    tool_finish(status);
}
