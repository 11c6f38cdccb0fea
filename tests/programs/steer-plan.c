/*
 * steer-plan [OPTION]... KIND MEMBERS FLOWS - opens a group of MEMBERS sockets of KIND
 * (socket-kind.h) on the local host, has the kernel follow a plan (group/steer.h), sends from FLOWS
 * sockets of its own, and prints how many of those got to each member, "PLACE COUNT" a line, of
 * those that got any.
 *
 *     -t PLACES          the members that get what is new, such as 0-2,5
 *     -r PLACES -s N     the rest, and in how many of 65536 cases the first get it
 *     -l ADDRESS=PLACE   a lane; up to 16 of them
 *     -f ADDRESS         where the flows come from
 *     -d                 the plan is taken back before anything is sent
 *     -n                 the first socket is in no group
 *     -2                 everything is sent twice; prints only how many flows got to one member
 *
 * Exits 1, with the system's words, where the plan or the end of it is refused.
 */
#define _GNU_SOURCE
#include "group/steer.c"
#include "server-socket.h"
#include "socket-kind.h"

#include <stdbool.h>
#include <unistd.h>

enum { MOST = 8192, LANES = 16 };

struct command {
    struct steer_plan plan;
    struct steer_lane lanes[LANES];
    struct sockaddr_storage from;
    bool take_back, alone, twice;
};

/* Reads PLACES into a set; ends the program if they are malformed. */
static struct steer_set read_set(char *text) {
    unsigned *places = calloc(MOST, sizeof *places);
    struct steer_set set = {places, 0};
    if (!places)
        die("memory");
    for (char *range = strtok(text, ","); range; range = strtok(NULL, ",")) {
        unsigned first, last;
        int read = sscanf(range, "%u-%u", &first, &last);
        if (read < 1)
            die("PLACES");
        for (last = read == 2 ? last : first; first <= last && set.count < MOST; first++)
            places[set.count++] = first;
    }
    return set;
}

static struct steer_lane read_lane(char *text) {
    char *place = strchr(text, '=');
    struct in_addr address;
    if (!place)
        die("lane");
    *place++ = 0;
    if (inet_pton(AF_INET, text, &address) != 1)
        die("lane");
    return (struct steer_lane){ntohl(address.s_addr), (unsigned)atoi(place)};
}

static void read_options(struct command *command, int argc, char **argv) {
    for (int option; (option = getopt(argc, argv, "2df:l:nr:s:t:")) != -1;) {
        if (option == 't')
            command->plan.to = read_set(optarg);
        else if (option == 'r')
            command->plan.rest = read_set(optarg);
        else if (option == 's')
            command->plan.share = (unsigned)atoi(optarg);
        else if (option == 'f')
            *(struct sockaddr_in *)&command->from =
                (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(optarg)};
        else if (option == 'l' && command->plan.lane_count < LANES)
            command->lanes[command->plan.lane_count++] = read_lane(optarg);
        else if (option == 'd')
            command->take_back = true;
        else if (option == 'n')
            command->alone = true;
        else if (option == '2')
            command->twice = true;
    }
    command->plan.lanes = command->lanes;
}

/* A member of the group at ADDRESS, whose port is picked for the first. */
static int open_member(const struct socket_kind *kind, struct sockaddr_storage *address,
                       bool shared) {
    int fd = socket(kind->domain, kind->type | SOCK_NONBLOCK, kind->protocol), on = shared;
    socklen_t length = sizeof *address;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) ||
        bind(fd, (struct sockaddr *)address, sizeof *address) ||
        (kind->type == SOCK_STREAM && listen(fd, 4096)) ||
        getsockname(fd, (struct sockaddr *)address, &length))
        die("member");
    return fd;
}

/* Opens a socket that has sent to ADDRESS, once or twice. */
static void open_flow(const struct command *command, const struct socket_kind *kind,
                      const struct sockaddr_storage *address) {
    int fd = socket(kind->domain, kind->type, kind->protocol);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&command->from, sizeof command->from) ||
        connect(fd, (const struct sockaddr *)address, sizeof *address))
        die("flow");
    for (int i = 0; kind->type == SOCK_DGRAM && i <= command->twice; i++)
        if (send(fd, "", 1, 0) != 1)
            die("send");
}

/* Takes what waits at FD, for FROM to name the sender; returns whether there was something. */
static bool take(int fd, const struct socket_kind *kind, struct sockaddr_storage *from) {
    socklen_t length = sizeof *from;
    if (kind->type == SOCK_DGRAM)
        return recvfrom(fd, &(char){0}, 1, 0, (struct sockaddr *)from, &length) >= 0;
    int taken = accept(fd, (struct sockaddr *)from, &length);
    if (taken >= 0)
        close(taken);
    return taken >= 0;
}

/* The address of the local host, for sockets of KIND, and port 0. */
static struct sockaddr_storage local(const struct socket_kind *kind) {
    struct sockaddr_storage address = {.ss_family = (sa_family_t)kind->domain};
    if (kind->domain == AF_INET)
        ((struct sockaddr_in *)&address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        ((struct sockaddr_in6 *)&address)->sin6_addr = in6addr_loopback;
    return address;
}

/* What got to the members. */
struct tally {
    int *members, count;
    int got[MOST];
    short member_of[65536]; /* the last that got something, from 1, by the port of the flow */
    int together;           /* how often that was the one before */
};

/* Takes all that waits at the members. */
static void take_all(struct tally *tally, const struct socket_kind *kind) {
    for (int i = 0; i < tally->count; i++) {
        struct sockaddr_storage from;
        while (take(tally->members[i], kind, &from)) {
            short *member = &tally->member_of[ntohs(((struct sockaddr_in *)&from)->sin_port)];
            tally->together += *member == i + 1;
            *member = (short)(i + 1);
            tally->got[i]++;
        }
    }
}

int main(int argc, char **argv) {
    enum { AT_ONCE = 64 }; /* few enough for a receive buffer */
    struct command command = {0};
    static int members[MOST];
    static struct tally tally = {.members = members};
    read_options(&command, argc, argv);
    const struct socket_kind *kind = optind + 3 == argc ? find_socket_kind(argv[optind]) : NULL;
    if (!kind || atoi(argv[optind + 1]) > MOST)
        return 2;
    struct sockaddr_storage address = local(kind);
    if (!command.from.ss_family)
        command.from = address;
    tally.count = atoi(argv[optind + 1]);
    for (int i = 0; i < tally.count; i++)
        members[i] = open_member(kind, &address, !command.alone);
    if (!steer_attach(members[tally.count - 1], &command.plan))
        die("steer");
    if (command.take_back && !steer_detach(members[0]))
        die("take back");
    for (int i = 0, flows = atoi(argv[optind + 2]); i < flows; i++) {
        open_flow(&command, kind, &address);
        if (i % AT_ONCE == 0 || i == flows - 1)
            take_all(&tally, kind);
    }
    for (int i = 0; i < tally.count && !command.twice; i++)
        if (tally.got[i])
            printf("%d %d\n", i, tally.got[i]);
    if (command.twice)
        printf("%d\n", tally.together);
    return 0;
}
