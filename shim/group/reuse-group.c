/*
 * reuse-group [OPTION]... [PORTS]... - shows who shares a port, and what is wrong there;
 * steers new connections to some of them.
 *
 * The kernel tells of the sockets (sockets.h), /proc of the processes that hold them (holders.h).
 * Here they are put together to groups, judged, and printed.
 *
 * A group is what the kernel spreads over: the shared sockets of one protocol, family, address,
 * device and user on a port (inet_reuseport_add_sock(), udp_reuseport_add_sock()).  The sockets
 * that are not shared, or another user's, are shown with it, as they are in its way; those of each
 * user have numbers of their own.
 *
 * Exit status: 0, 1 if nothing is on a port, 2 for wrong usage and for errors.
 */
#define _GNU_SOURCE
#include "holders.h"
#include "ports.h"
#include "sockets.h"
#include "tool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <net/if.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_DETACH_REUSEPORT_BPF
#define SO_DETACH_REUSEPORT_BPF 68
#endif

enum { EXIT_NOTHING = 1, EXIT_TROUBLE = 2 };

const struct tool tool = {
    .name = "reuse-group",
    .failure = EXIT_TROUBLE,
    .usage =
        "Usage: reuse-group [--tsv] [--no-wait] [PORTS]...\n"
        "  or:  reuse-group --steer=FIRST[-LAST] PORTS...\n"
        "  or:  reuse-group --unsteer PORTS...\n"
        "Show who listens on PORTS, and what is wrong there; without any, who shares one.\n"
        "PORTS are a list of [ADDRESS:]PORT[-PORT][/tcp|/udp], such as 8000 or [::]:80,53/udp.\n"
        "\n"
        "      --tsv              write tab-separated values, for scripts\n"
        "      --no-wait          do not look for half a second whether queues move\n"
        "      --steer=RANGE      give new connections and flows only to members FIRST to LAST\n"
        "                           of the group, numbered in order of joining from 0\n"
        "      --unsteer          give them to all members again\n"
        "      --help             display this help and exit\n"
        "      --version          output version information and exit\n"
        "\n"
        "Exit status: 0; 1 if nothing is on a port, or none is shared; 2 for wrong usage and\n"
        "errors.\n",
};

/* How often, and how far apart, queues are looked at to see whether they move. */
enum { SAMPLES = 10, PAUSE_MS = 50 };

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
    bool tsv, no_wait;
    struct wanted *wanted;
    size_t wanted_count;
};

/* What can be wrong with a member. */
enum problem { NOT_SHARED, OTHER_USER, SEVERAL_HOLDERS, FULL, NOT_MOVING, STOPPED, PROBLEM_KINDS };

struct member {
    struct socket *socket;
    int number; /* in order of joining, from 0; -1 if in no group */
    /* Of its queue: it was empty or got shorter, or had no room, while it was looked at. */
    bool moved, full;
    bool problems[PROBLEM_KINDS];
};

/* The members of one group, and what is in its way, in order of joining. */
struct group {
    struct member *members;
    size_t count;
};

/* ----------------------------------------------------------------------- from sockets to groups */

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

static void read_sockets(struct sockets *sockets, const struct command *command) {
    if (!sockets_read(sockets, is_wanted, command))
        tool_fail(
            "cannot ask the kernel for its sockets: %s; this takes inet_diag (modprobe tcp_diag "
            "udp_diag)",
            strerror(errno));
}

/* Whether both are of one group, or in each other's way. */
static bool same_group(const struct socket *a, const struct socket *b) {
    return a->port == b->port && a->protocol == b->protocol && a->family == b->family &&
           !memcmp(a->address, b->address, sizeof a->address) && a->ipv6_only == b->ipv6_only &&
           a->device == b->device;
}

/* The group that begins with MEMBERS, of which LEFT are there. */
static struct group group_at(struct member *members, size_t left) {
    struct group group = {members, 1};
    while (group.count < left && same_group(members->socket, members[group.count].socket))
        group.count++;
    return group;
}

/* Whether the port is shared: a member is known to be; maybe, if several are there that may be. */
static enum shared shared_of(const struct group *group) {
    enum shared result = SHARED_NO;
    for (size_t i = 0; i < group->count; i++) {
        enum shared one = group->members[i].socket->shared;
        if (one == SHARED_YES)
            return SHARED_YES;
        if (one == SHARED_UNKNOWN && group->count > 1)
            result = SHARED_UNKNOWN;
    }
    return result;
}

/* -------------------------------------------------------------------------------------- judging */

/* Whether the queue has no room for one more. */
static bool is_full(const struct socket *socket) {
    enum { LEAST_DATAGRAM = 768 }; /* octets of memory that an empty one takes */
    if (socket->protocol == IPPROTO_UDP)
        return socket->waiting + LEAST_DATAGRAM > socket->limit;
    return socket->waiting > socket->limit; /* sk_acceptq_is_full(): one more than it says fits */
}

/* Takes in how MEMBER's queue is NOW. */
static void look_again(struct member *member, const struct socket *now) {
    struct socket *then = member->socket;
    member->moved |= now->waiting < then->waiting;
    /* A listener counts as dropped what never was a connection, too. */
    member->full |= is_full(now) || (now->protocol == IPPROTO_UDP && now->dropped != then->dropped);
    then->waiting = now->waiting;
    then->dropped = now->dropped;
}

/* Looks whether the queues move: a while, if there is something in any of them, unless COMMAND
   says no. */
static void watch_queues(struct member *members, size_t count, const struct command *command) {
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
    bool waiting = false;
    for (size_t i = 0; i < count; i++) {
        members[i].moved = command->no_wait || !members[i].socket->waiting;
        members[i].full = is_full(members[i].socket);
        waiting |= !members[i].moved;
    }
    for (int sample = 0; waiting && sample < SAMPLES; sample++) {
        struct sockets now;
        nanosleep(&pause, NULL);
        read_sockets(&now, command);
        for (size_t i = 0; i < count; i++) {
            const struct socket *socket = sockets_find(&now, members[i].socket->cookie);
            if (socket)
                look_again(&members[i], socket);
        }
        sockets_free(&now);
    }
}

/* Leaves those of the COUNT members that are still there, and returns how many: what was closed
   meanwhile is nobody's, and did not move. */
static size_t drop_closed(struct member *members, size_t count, const struct command *command) {
    struct sockets now;
    size_t kept = 0;
    read_sockets(&now, command);
    for (size_t i = 0; i < count; i++)
        if (sockets_find(&now, members[i].socket->cookie))
            members[kept++] = members[i];
    sockets_free(&now);
    return kept;
}

/* Whether all that hold SOCKET are stopped. */
static bool is_stopped(const struct socket *socket) {
    size_t stopped = 0;
    while (stopped < socket->holder_count && holders_stopped(socket->holders[stopped].pid))
        stopped++;
    return stopped && stopped == socket->holder_count;
}

/* Finds what is wrong with MEMBER of a group that is USER's; OTHERS_MOVE: another member takes
   what comes. */
static void judge(struct member *member, uid_t user, bool others_move) {
    const struct socket *socket = member->socket;
    member->problems[NOT_SHARED] = socket->shared == SHARED_NO;
    member->problems[OTHER_USER] = socket->user != user;
    member->problems[SEVERAL_HOLDERS] = socket->holder_count > 1;
    member->problems[FULL] = member->full;
    member->problems[NOT_MOVING] = socket->waiting && !member->moved && others_move;
    member->problems[STOPPED] = is_stopped(socket);
}

/* How many of the first COUNT members of GROUP have a number among USER's. */
static unsigned numbered(const struct group *group, size_t count, uid_t user) {
    unsigned result = 0;
    for (size_t i = 0; i < count; i++)
        result += group->members[i].number >= 0 && group->members[i].socket->user == user;
    return result;
}

/* Gives the members of GROUP their numbers, and finds what is wrong with them. */
static void judge_group(struct group *group) {
    bool shared = shared_of(group) != SHARED_NO;
    size_t moving = 0;
    for (size_t i = 0; i < group->count; i++)
        moving += group->members[i].moved;
    for (size_t i = 0; i < group->count; i++) {
        struct member *member = &group->members[i];
        judge(member, group->members->socket->user, moving > member->moved);
        bool in = shared && !member->problems[NOT_SHARED];
        member->number = in ? (int)numbered(group, i, member->socket->user) : -1;
    }
}

/* ------------------------------------------------------------------------------------- printing */

enum { COLUMNS = 12 };
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
    INODE
};

/* Longer command lines are cut off, for people. */
enum { COMMAND_WIDTH = 60 };

struct row {
    char *cells[COLUMNS];
};

static const char *protocol_name(unsigned protocol) {
    return protocol == IPPROTO_TCP ? "tcp" : "udp";
}

/* The name of USER, or its number if it has none; to be freed. */
static char *user_name(uid_t user) {
    const struct passwd *entry = getpwuid(user);
    return entry ? tool_text("%s", entry->pw_name) : tool_text("%u", (unsigned)user);
}

/* An address as people write it, the device after it where the socket is bound to one. */
static char *address_text(const struct socket *socket) {
    char address[INET6_ADDRSTRLEN] = "?", device[IF_NAMESIZE];
    inet_ntop(socket->family, socket->address, address, sizeof address);
    if (!socket->device)
        return tool_text("%s", address);
    return tool_text("%s%%%s", address, if_indextoname(socket->device, device) ? device : "?");
}

/* The pids of the holders: for people the first, and how many more there are. */
static char *pid_text(const struct socket *socket, bool tsv) {
    if (!socket->holder_count)
        return tool_text("-");
    char *result = tool_text("%d", (int)socket->holders[0].pid);
    for (size_t i = 1; tsv && i < socket->holder_count; i++) {
        char *longer = tool_text("%s,%d", result, (int)socket->holders[i].pid);
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
    char command[4096] = "";
    if (socket->holder_count)
        holders_command(socket->holders[0].pid, command, sizeof command);
    size_t length = COMMAND_WIDTH;
    if (!tsv && strlen(command) > length) {
        enum { TAIL = 3 }; /* at most, of a UTF-8 character: it is not to be cut through */
        while (length > COMMAND_WIDTH - TAIL && ((unsigned char)command[length] & 0xc0) == 0x80)
            length--;
        command[length] = 0;
    }
    return tool_text("%s", *command ? command : "-");
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

static struct row row_of(const struct member *member, bool tsv) {
    static const char *const shared[] = {"-", "no", "yes"};
    const struct socket *socket = member->socket;
    const char *unit = socket->protocol == IPPROTO_UDP && !tsv ? "B" : "";
    return (struct row){{
        [PROTOCOL] = tool_text("%s", protocol_name(socket->protocol)),
        [ADDRESS] = address_text(socket),
        [PORT] = tool_text("%u", socket->port),
        [NUMBER] = member->number < 0 ? tool_text("-") : tool_text("%d", member->number),
        [PID] = pid_text(socket, tsv),
        [USER] = user_name(socket->user),
        [SHARED] = tool_text("%s", shared[socket->shared]),
        [WAITING] = tool_text("%u%s", socket->waiting, unit),
        [LIMIT] = tool_text("%u%s", socket->limit, unit),
        [COMMAND] = command_text(socket, tsv),
        [PROBLEMS] = problems_text(member->problems),
        [INODE] = tool_text("%u", socket->inode),
    }};
}

static void print_tsv(const struct row *row) {
    for (int column = 0; column < COLUMNS; column++)
        printf("%s%c", row->cells[column], column < COLUMNS - 1 ? '\t' : '\n');
}

static bool is_numeric(enum column column) {
    return column == PORT || column == NUMBER || column == PID || column == WAITING ||
           column == LIMIT;
}

/* Prints all but the problems, aligned; a group's line tells of those. */
static void print_row(const struct row *row, const int widths[COLUMNS]) {
    for (int column = 0; column < COMMAND; column++)
        printf(is_numeric((enum column)column) ? "%*s  " : "%-*s  ", widths[column],
               row->cells[column]);
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
            printf("pid %d", (int)member->socket->holders[0].pid);
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
static void print_verdict(const struct group *group) {
    const struct socket *first = group->members->socket;
    bool tcp = first->protocol == IPPROTO_TCP;
    enum shared shared = shared_of(group);
    char *user = user_name(first->user);
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
            SAMPLES * PAUSE_MS / 1000.0);
    printf("\n");
    free(user);
}

/* Whether the caller sees who holds MEMBER, and whether it is shared. */
static bool is_seen(const struct member *member) {
    return member->socket->holder_count && member->socket->shared != SHARED_UNKNOWN;
}

/* Prints the table of COUNT members. */
static void print(struct member *members, size_t count, bool tsv) {
    static const struct row title = {{"PROTO", "ADDRESS", "PORT", "NO", "PID", "USER", "SHARED",
                                      "WAITING", "LIMIT", "COMMAND", "PROBLEMS", "INODE"}};
    struct row *rows = tool_got(calloc(count, sizeof *rows));
    int widths[COLUMNS];
    for (int column = 0; column < COLUMNS; column++)
        widths[column] = (int)strlen(title.cells[column]);
    bool all_seen = true;
    for (size_t i = 0; i < count; i++) {
        rows[i] = row_of(&members[i], tsv);
        all_seen &= is_seen(&members[i]);
        for (int column = 0; column < COLUMNS; column++)
            if ((int)strlen(rows[i].cells[column]) > widths[column])
                widths[column] = (int)strlen(rows[i].cells[column]);
    }
    if (tsv)
        print_tsv(&title);
    else
        print_row(&title, widths);
    for (size_t i = 0; i < count;) {
        struct group group = group_at(&members[i], count - i);
        for (size_t end = i + group.count; i < end; i++) {
            if (tsv)
                print_tsv(&rows[i]);
            else
                print_row(&rows[i], widths);
        }
        if (!tsv)
            print_verdict(&group);
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
}

/* ------------------------------------------------------------------------------------- steering */

/*
 * Has the kernel give what is new to members FIRST to LAST of the group that FD is in
 * (SO_ATTACH_REUSEPORT_CBPF in socket(7)); returns false and errno.
 *
 * The member is chosen by a hash over source address and ports, so that all that is of one flow
 * gets to one, for UDP and for SYN cookies.  A number that no member has makes the kernel choose
 * among all of them.
 */
static bool attach(int fd, unsigned first, unsigned last) {
    /* The data begins after the TCP or UDP header; what is before is found from the IP header on.
     */
    const uint32_t ip = (uint32_t)SKF_NET_OFF;
#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ip + (offset))
#define XOR(offset)                                                                                \
    BPF_STMT(BPF_MISC | BPF_TAX, 0), LOAD(offset), BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0)
#define ALU(operation, value) BPF_STMT(BPF_ALU | (operation) | BPF_K, value)
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, ip),
        ALU(BPF_RSH, 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 6, 5, 0),
        /* IPv4: the source address; the ports, after as many options as there are. */
        LOAD(12),
        BPF_STMT(BPF_ST, 0),
        BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, ip),
        BPF_STMT(BPF_LD | BPF_W | BPF_IND, ip),
        BPF_JUMP(BPF_JMP | BPF_JA, 12, 0, 0),
        /* IPv6: the source address; the ports, or what is in their place. */
        LOAD(8),
        XOR(12),
        XOR(16),
        XOR(20),
        BPF_STMT(BPF_ST, 0),
        LOAD(40),
        /* Mixed, and scaled to the range: the upper bits of a product depend on every bit. */
        BPF_STMT(BPF_LDX | BPF_MEM, 0),
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        ALU(BPF_RSH, 16),
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
        ALU(BPF_MUL, 0x9e3779b1),
        ALU(BPF_RSH, 16),
        ALU(BPF_MUL, last - first + 1),
        ALU(BPF_RSH, 16),
        ALU(BPF_ADD, first),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
#undef LOAD
#undef XOR
#undef ALU
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program) == 0;
}

/* Has the kernel give what is new to all members again; returns false and errno. */
static bool detach(int fd) {
    return setsockopt(fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &(int){0}, sizeof(int)) == 0 ||
           errno == ENOENT; /* it was so */
}

/* A group to steer, and a duplicate of one of its members. */
struct steered {
    struct group group;
    int fd;
};

/* The group as messages name it. */
static char *group_text(const struct group *group) {
    const struct socket *socket = group->members->socket;
    char *address = address_text(socket);
    char *result =
        tool_text("%s %s port %u", protocol_name(socket->protocol), address, socket->port);
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
    unsigned count = numbered(group, group->count, steered_user(group));
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

/* A duplicate of any member of GROUP; fails if none is to be had. */
static int take_any(const struct group *group) {
    uid_t user = steered_user(group);
    int fd = -1;
    for (size_t i = 0; fd < 0 && i < group->count; i++)
        if (group->members[i].number >= 0 && group->members[i].socket->user == user)
            fd = holders_take(group->members[i].socket);
    if (fd < 0)
        tool_fail("cannot steer %s: no socket of it is to be had: %s; %s", group_text(group),
                  strerror(errno),
                  errno == ENOSYS ? "this takes Linux 5.6 or newer" : "be its user, or root");
    return fd;
}

/* What to say of an ERROR that steering ended in. */
static const char *steering_error(int error) {
    if (error == EINVAL)
        return "its one member was shared after it was bound, which makes a group only when "
               "another joins";
    if (error == EOPNOTSUPP)
        return "an MPTCP socket cannot be steered";
    return "this takes Linux 5.3 or newer, and no SO_LOCK_FILTER";
}

/* Steers every group of MEMBERS, or none of them if one cannot be. */
static void steer_all(struct member *members, size_t count, const struct command *command) {
    struct steered *all = tool_got(calloc(count, sizeof *all));
    size_t groups = 0;
    for (size_t i = 0; i < count; i += all[groups++].group.count) {
        all[groups].group = group_at(&members[i], count - i);
        check_steerable(&all[groups].group, command);
        all[groups].fd = take_any(&all[groups].group);
    }
    for (size_t i = 0; i < groups; i++) {
        if (command->action == STEER ? attach(all[i].fd, command->first, command->last)
                                     : detach(all[i].fd))
            continue;
        int error = errno;
        for (size_t done = 0; command->action == STEER && done < i; done++)
            detach(all[done].fd);
        tool_fail("cannot steer %s: %s: %s", group_text(&all[i].group), strerror(error),
                  steering_error(error));
    }
    free(all); /* the descriptors end with the process */
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
    enum { TSV = 256, NO_WAIT, STEER_OPTION, UNSTEER_OPTION };
    static const struct option options[] = {
        {"tsv", no_argument, NULL, TSV},
        {"no-wait", no_argument, NULL, NO_WAIT},
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

/* Makes members of SOCKETS, group by group; without a PORT of those that are shared alone.  Returns
   how many there are. */
static size_t make_members(struct member *members, const struct sockets *sockets, bool shared) {
    size_t count = 0;
    for (size_t i = 0; i < sockets->count; i++)
        members[i] = (struct member){.socket = &sockets->all[i]};
    struct group group;
    for (size_t i = 0; i < sockets->count; i += group.count) {
        group = group_at(&members[i], sockets->count - i);
        if (shared && shared_of(&group) == SHARED_NO)
            continue;
        memmove(&members[count], group.members, group.count * sizeof *members);
        count += group.count;
    }
    return count;
}

int main(int argc, char **argv) {
    struct command command = {0};
    struct sockets sockets;
    read_command(&command, argc, argv);
    read_sockets(&sockets, &command);
    if (!holders_find(sockets.all, sockets.count))
        tool_fail("cannot look who holds the sockets: %s", strerror(errno));
    struct member *members = tool_got(calloc(sockets.count + 1, sizeof *members));
    size_t count = make_members(members, &sockets, !command.wanted_count);
    if (command.action == SHOW)
        watch_queues(members, count, &command);
    count = drop_closed(members, count, &command);
    int status = report_missing(&command, members, count);
    if (!command.wanted_count && !count) {
        fputs("reuse-group: no port is shared\n", stderr);
        status = EXIT_NOTHING;
    }
    struct group group;
    for (size_t i = 0; i < count; i += group.count) {
        group = group_at(&members[i], count - i);
        judge_group(&group);
    }
    if (command.action != SHOW && status == EXIT_SUCCESS)
        steer_all(members, count, &command);
    else if (command.action == SHOW && count)
        print(members, count, command.tsv);
    free(members);
    free(command.wanted);
    sockets_free(&sockets);
    tool_finish(status);
}
