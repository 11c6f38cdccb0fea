/*
 * reuse-group [OPTION]... [PORTS]... - shows who shares a port, and what is wrong there;
 * steers new connections to some of them.
 *
 * The kernel tells of the sockets (sockets.h), /proc of the processes that hold them (holders.h).
 * Here they are put together to groups, judged, and printed.
 *
 * A group is what the kernel spreads over: the shared sockets of one protocol, family, address,
 * device and user on a port (inet_reuseport_add_sock(), udp_reuseport_add_sock()).  The sockets
 * that are not shared, or another user's, are shown with it, as they are in its way.
 *
 * Exit status: 0, 1 if nothing is on a port, 2 for wrong usage and for errors.
 */
#define _GNU_SOURCE
#include "holders.h"
#include "ports.h"
#include "sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/filter.h>
#include <net/if.h>
#include <pwd.h>
#include <stdarg.h>
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
enum problem {
    NOT_SHARED = 1,
    OTHER_USER = 2,
    SEVERAL_HOLDERS = 4,
    FULL = 8,
    NOT_MOVING = 16,
    STOPPED = 32,
};

struct member {
    struct socket *socket;
    int number;        /* in order of joining, from 0; -1 if in no group */
    unsigned problems; /* enum problem */
    /* Of its queue: it was empty or got shorter, or lost something, while it was looked at. */
    bool moved, dropped;
};

/* The members of one group, and what is in its way, in order of joining. */
struct group {
    struct member *members;
    size_t count;
};

/* Says what failed, "reuse-group: ...", and exits. */
__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("reuse-group: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("\n", stderr);
    va_end(arguments);
    exit(EXIT_TROUBLE);
}

/* PIECE, which there was memory for. */
static void *got(void *piece) {
    if (!piece)
        fail("out of memory");
    return piece;
}

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
        fail("cannot ask the kernel for its sockets: %s; this takes inet_diag (modprobe tcp_diag "
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

/* Whether the port is shared: a member is known to be, or it has several that may be. */
static bool is_shared(const struct group *group) {
    bool shared = false;
    for (size_t i = 0; i < group->count; i++) {
        enum shared one = group->members[i].socket->shared;
        shared |= one == SHARED_YES || (one == SHARED_UNKNOWN && group->count > 1);
    }
    return shared;
}

/* -------------------------------------------------------------------------------------- judging */

/* Looks whether the queues move: a while, if there is something in any of them, unless COMMAND
   says no. */
static void watch_queues(struct member *members, size_t count, const struct command *command) {
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
    bool waiting = false;
    for (size_t i = 0; i < count; i++) {
        members[i].moved = command->no_wait || !members[i].socket->waiting;
        waiting |= !members[i].moved;
    }
    for (int sample = 0; waiting && sample < SAMPLES; sample++) {
        struct sockets now;
        nanosleep(&pause, NULL);
        read_sockets(&now, command);
        for (size_t i = 0; i < count; i++) {
            struct socket *then = members[i].socket;
            const struct socket *socket = sockets_find(&now, then->cookie);
            members[i].moved |= !socket || socket->waiting < then->waiting;
            if (!socket)
                continue;
            members[i].dropped |= socket->dropped != then->dropped;
            then->waiting = socket->waiting;
            then->dropped = socket->dropped;
        }
        sockets_free(&now);
    }
}

/* Whether the queue has no room for one more. */
static bool is_full(const struct socket *socket) {
    enum { LEAST_DATAGRAM = 768 }; /* octets of memory that an empty one takes */
    if (socket->protocol == IPPROTO_UDP)
        return socket->waiting + LEAST_DATAGRAM > socket->limit;
    return socket->waiting > socket->limit; /* sk_acceptq_is_full(): one more than it says fits */
}

/* What is wrong with MEMBER; OTHERS_MOVE: another member of its group takes what comes. */
static unsigned judge(const struct member *member, const struct group *group, bool others_move) {
    const struct socket *socket = member->socket;
    unsigned problems = 0;
    if (socket->shared == SHARED_NO)
        problems |= NOT_SHARED;
    if (socket->user != group->members->socket->user)
        problems |= OTHER_USER;
    if (socket->holder_count > 1)
        problems |= SEVERAL_HOLDERS;
    if (is_full(socket) || member->dropped)
        problems |= FULL;
    if (socket->waiting && !member->moved && others_move)
        problems |= NOT_MOVING;
    size_t stopped = 0;
    while (stopped < socket->holder_count && holders_stopped(socket->holders[stopped].pid))
        stopped++;
    if (stopped && stopped == socket->holder_count)
        problems |= STOPPED;
    return problems;
}

/* Gives the members of GROUP their numbers, and finds what is wrong with them. */
static void judge_group(struct group *group) {
    int number = 0;
    for (size_t i = 0; i < group->count; i++) {
        struct member *member = &group->members[i];
        bool others_move = false;
        for (size_t other = 0; other < group->count; other++)
            others_move |= other != i && group->members[other].moved;
        member->problems = judge(member, group, others_move);
        bool in = is_shared(group) && !(member->problems & (NOT_SHARED | OTHER_USER));
        member->number = in ? number++ : -1;
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

/* What asprintf(3) makes of it. */
__attribute__((format(printf, 1, 2))) static char *text(const char *format, ...) {
    char *result;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&result, format, arguments) < 0)
        result = NULL;
    va_end(arguments);
    return got(result);
}

static const char *protocol_name(unsigned protocol) {
    return protocol == IPPROTO_TCP ? "tcp" : "udp";
}

/* The name of USER, or its number if it has none; to be freed. */
static char *user_name(uid_t user) {
    const struct passwd *entry = getpwuid(user);
    return entry ? text("%s", entry->pw_name) : text("%u", (unsigned)user);
}

/* An address as people write it, the device after it where the socket is bound to one. */
static char *address_text(const struct socket *socket) {
    char address[INET6_ADDRSTRLEN] = "?", device[IF_NAMESIZE];
    inet_ntop(socket->family, socket->address, address, sizeof address);
    if (!socket->device)
        return text("%s", address);
    return text("%s%%%s", address, if_indextoname(socket->device, device) ? device : "?");
}

/* The pids of the holders: for people the first, and how many more there are. */
static char *pid_text(const struct socket *socket, bool tsv) {
    if (!socket->holder_count)
        return text("-");
    char *result = text("%d", (int)socket->holders[0].pid);
    for (size_t i = 1; tsv && i < socket->holder_count; i++) {
        char *longer = text("%s,%d", result, (int)socket->holders[i].pid);
        free(result);
        result = longer;
    }
    if (tsv || socket->holder_count == 1)
        return result;
    char *longer = text("%s+%zu", result, socket->holder_count - 1);
    free(result);
    return longer;
}

static char *command_text(const struct socket *socket, bool tsv) {
    char command[4096] = "";
    if (socket->holder_count)
        holders_command(socket->holders[0].pid, command, sizeof command);
    size_t length = COMMAND_WIDTH;
    if (!tsv && strlen(command) > length) {
        while (((unsigned char)command[length] & 0xc0) == 0x80) /* amidst a UTF-8 character */
            length--;
        command[length] = 0;
    }
    return text("%s", *command ? command : "-");
}

static char *problems_text(unsigned problems) {
    static const char *const names[] = {"not-shared", "other-user", "several-holders",
                                        "full",       "not-moving", "stopped"};
    char *result = text("%s", "");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!(problems & 1U << i))
            continue;
        char *longer = text("%s%s%s", result, *result ? "," : "", names[i]);
        free(result);
        result = longer;
    }
    return *result ? result : text("-");
}

static struct row row_of(const struct member *member, bool tsv) {
    static const char *const shared[] = {"-", "no", "yes"};
    const struct socket *socket = member->socket;
    const char *unit = socket->protocol == IPPROTO_UDP && !tsv ? "B" : "";
    return (struct row){{
        [PROTOCOL] = text("%s", protocol_name(socket->protocol)),
        [ADDRESS] = address_text(socket),
        [PORT] = text("%u", socket->port),
        [NUMBER] = member->number < 0 ? text("-") : text("%d", member->number),
        [PID] = pid_text(socket, tsv),
        [USER] = user_name(socket->user),
        [SHARED] = text("%s", shared[socket->shared]),
        [WAITING] = text("%u%s", socket->waiting, unit),
        [LIMIT] = text("%u%s", socket->limit, unit),
        [COMMAND] = command_text(socket, tsv),
        [PROBLEMS] = problems_text(member->problems),
        [INODE] = text("%u", socket->inode),
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
        if (!(member->problems & problem))
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

/* Whether GROUP, of IPv6, gets IPv4 connections too: those that no IPv4 socket takes. */
static bool takes_ipv4(const struct group *group) {
    static const uint8_t any[16];
    const struct socket *socket = group->members->socket;
    return socket->family == AF_INET6 && !socket->ipv6_only &&
           !memcmp(socket->address, any, sizeof any);
}

/* Prints the line that says what matters of GROUP. */
static void print_verdict(const struct group *group) {
    const struct socket *first = group->members->socket;
    bool tcp = first->protocol == IPPROTO_TCP;
    char *user = user_name(first->user);
    printf("  %zu member%s", group->count, group->count == 1 ? "" : "s");
    if (takes_ipv4(group))
        fputs(", of IPv4 as well, where no IPv4 socket takes it", stdout);
    bool not_shared = print_problem(group, NOT_SHARED, "not shared");
    if (not_shared)
        printf(" (nobody can join: stop it and start it with reuse-run)");
    if (print_problem(group, OTHER_USER, "of another user"))
        printf(" (in no group with those of '%s')", user);
    if (is_shared(group) && !not_shared)
        printf("; copies of user '%s' can join", user);
    if (print_problem(group, SEVERAL_HOLDERS, "one socket in several processes"))
        printf(" (they take turns, and it stays till all have closed it)");
    if (print_problem(group, FULL, "queue full"))
        printf(" (%s)", tcp ? "new connections to it wait or fail" : "it loses datagrams");
    if (print_problem(group, STOPPED, "stopped"))
        printf(" (it still gets its share: kill -CONT, or kill it)");
    if (print_problem(group, NOT_MOVING, "not moving"))
        printf(" (nothing taken in %g s, unlike others, and it still gets its share)",
               SAMPLES * PAUSE_MS / 1000.0);
    puts("");
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
    struct row *rows = got(calloc(count, sizeof *rows));
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

/* How many members GROUP has that the kernel knows by number. */
static unsigned numbered(const struct group *group) {
    unsigned count = 0;
    for (size_t i = 0; i < group->count; i++)
        count += group->members[i].number >= 0;
    return count;
}

/* Fails unless GROUP can be steered as COMMAND says. */
static void check_steerable(const struct group *group, const struct command *command) {
    const struct socket *socket = group->members->socket;
    char *address = address_text(socket);
    unsigned count = numbered(group);
    if (count == 0)
        fail("cannot steer %s %s port %u: it is not shared; start its server with reuse-run",
             protocol_name(socket->protocol), address, socket->port);
    if (command->action == STEER && command->last >= count)
        fail("cannot steer %s %s port %u to member %u: its members are 0 to %u",
             protocol_name(socket->protocol), address, socket->port, command->last, count - 1);
    free(address);
}

/* Steers GROUP as COMMAND says, through a duplicate of any member. */
static void steer(const struct group *group, const struct command *command) {
    int fd = -1;
    const struct socket *socket = NULL;
    for (size_t i = 0; fd < 0 && i < group->count; i++) {
        socket = group->members[i].socket;
        if (group->members[i].number >= 0)
            fd = holders_take(socket);
    }
    if (fd < 0)
        fail("cannot steer %s port %u: no socket of it is to be had: %s; be its user, or root",
             protocol_name(socket->protocol), socket->port, strerror(errno));
    bool done = command->action == STEER ? attach(fd, command->first, command->last) : detach(fd);
    if (!done && errno == EINVAL)
        fail("cannot steer %s port %u: its one member was shared after it was bound, which makes a "
             "group only when another joins",
             protocol_name(socket->protocol), socket->port);
    if (!done)
        fail("cannot steer %s port %u: %s; this takes Linux 5.3 or newer, and no SO_LOCK_FILTER",
             protocol_name(socket->protocol), socket->port, strerror(errno));
    close(fd);
}

/* Steers every group of MEMBERS, or none of them if one cannot be. */
static void steer_all(struct member *members, size_t count, const struct command *command) {
    struct group group;
    for (size_t i = 0; i < count; i += group.count) {
        group = group_at(&members[i], count - i);
        check_steerable(&group, command);
    }
    for (size_t i = 0; i < count; i += group.count) {
        group = group_at(&members[i], count - i);
        steer(&group, command);
    }
}

/* ------------------------------------------------------------------------ the command, and main */

static void usage(void) {
    fputs("Usage: reuse-group [--tsv] [--no-wait] [PORTS]...\n"
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
          stdout);
}

/* Prints to stdout have got there, or the exit status says no (as coreutils' close_stdout). */
__attribute__((noreturn)) static void finish(int status) {
    if (fflush(stdout) || ferror(stdout))
        fail("cannot write: %s", strerror(errno));
    exit(status);
}

__attribute__((noreturn)) static void misuse(void) {
    fputs("Try 'reuse-group --help' for more information.\n", stderr);
    exit(EXIT_TROUBLE);
}

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
        fail("'%.*s': %s; ports are such as 8000, 53/udp, 8000-8010, [::1]:80/tcp",
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
        fail("--steer: '%s': members are a number or a range, such as 0 or 2-3", range);
    command->first = (unsigned)first;
    command->last = (unsigned)last;
}

static void read_command(struct command *command, int argc, char **argv) {
    enum { TSV = 256, NO_WAIT, STEER_OPTION, UNSTEER_OPTION, HELP, VERSION_OPTION };
    static const struct option options[] = {
        {"tsv", no_argument, NULL, TSV},
        {"no-wait", no_argument, NULL, NO_WAIT},
        {"steer", required_argument, NULL, STEER_OPTION},
        {"unsteer", no_argument, NULL, UNSTEER_OPTION},
        {"help", no_argument, NULL, HELP},
        {"version", no_argument, NULL, VERSION_OPTION},
        {0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
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
        case HELP:
            usage();
            finish(EXIT_SUCCESS);
        case VERSION_OPTION:
            puts("reuse-group (libreuse) " VERSION);
            finish(EXIT_SUCCESS);
        default:
            misuse();
        }
    }
    command->wanted_count = (size_t)(argc - optind);
    if (command->action != SHOW && !command->wanted_count) {
        fputs("reuse-group: which port is to be steered is missing\n", stderr);
        misuse();
    }
    command->wanted = got(calloc(command->wanted_count + 1, sizeof *command->wanted));
    for (size_t i = 0; i < command->wanted_count; i++)
        read_ports(&command->wanted[i], argv[(size_t)optind + i]);
}

/* Says on which ports of COMMAND nothing is; returns the exit status. */
static int report_missing(const struct command *command, const struct sockets *sockets) {
    int status = EXIT_SUCCESS;
    for (size_t i = 0; i < command->wanted_count; i++) {
        const struct wanted *wanted = &command->wanted[i];
        size_t found = 0;
        while (found < sockets->count && !is_in(&wanted->ports, &sockets->all[found]))
            found++;
        if (found < sockets->count)
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
        if (shared && !is_shared(&group))
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
    holders_find(sockets.all, sockets.count);
    int status = report_missing(&command, &sockets);
    struct member *members = got(calloc(sockets.count + 1, sizeof *members));
    size_t count = make_members(members, &sockets, !command.wanted_count);
    if (!command.wanted_count && !count) {
        fputs("reuse-group: no port is shared\n", stderr);
        status = EXIT_NOTHING;
    }
    if (command.action == SHOW)
        watch_queues(members, count, &command);
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
    finish(status);
}
