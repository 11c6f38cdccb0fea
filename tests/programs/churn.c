/*
 * churn SEED KILLS COPIES PORT COMMAND... - starts and kills (SIGKILL) copies of COMMAND, a server
 * on 127.0.0.1:PORT that answers as http-server does, at random until KILLS have been killed, up to
 * COPIES at a time, and sends them requests meanwhile.  Then it says what became of these, and who
 * is left:
 *
 *     started 321, killed 250, requests 54321, failed 40, held 38 to 45
 *     survivors 12 15 99
 *
 * and waits to be killed; the survivors are then killed too.
 *
 * held: how many connections the killed copies had when they were killed, counted by the kernel:
 * the least is what waited in their accept queues, the most that and what they had accepted.  A
 * request to one in a queue must fail, one that was accepted may have been answered already, any
 * other must be answered.  So the counts hold still: the copy is stopped before it is killed, and
 * this program, a single thread, opens no connection meanwhile.
 */
#define _GNU_SOURCE
#include "server-socket.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { IN_FLIGHT = 48, COPIES_MAX = 200, SOCKETS_MAX = 8 };

/* One request at a time; FD is -1 between them. */
struct request {
    int fd;
    bool sent;
    bool answered; /* as far as can be told by now */
    size_t length; /* of what has come of the answer */
    char answer[512];
};

struct counts {
    unsigned started, killed, requests, failed, least, most;
};

struct churn {
    uint64_t random;
    char **command;
    struct sockaddr_in address;
    pid_t copies[COPIES_MAX];
    unsigned copy_count, copy_limit;
    struct request requests[IN_FLIGHT];
    struct counts counts;
};

/* splitmix64: the next random number, below LIMIT. */
static unsigned next_random(struct churn *churn, unsigned limit) {
    uint64_t z = churn->random += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (unsigned)((z ^ (z >> 31)) % limit);
}

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---------------------------------------------------------------------------------- requests */

static void open_request(struct churn *churn, struct request *request) {
    /* Reset at the end, or the servers would collect connections in TIME_WAIT. */
    const struct linger reset = {.l_onoff = 1};
    *request =
        (struct request){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (request->fd < 0 || setsockopt(request->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset))
        die("churn: socket");
    churn->counts.requests++;
    if (connect(request->fd, (struct sockaddr *)&churn->address, sizeof churn->address) &&
        errno != EINPROGRESS)
        die("churn: connect");
}

/* Ends REQUEST, that came out well or not. */
static void close_request(struct churn *churn, struct request *request) {
    churn->counts.failed += !request->answered;
    close(request->fd);
    request->fd = -1;
}

/* Does what REQUEST is ready for. */
static void advance(struct churn *churn, struct request *request) {
    static const char text[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    if (!request->sent) {
        request->sent = send(request->fd, text, sizeof text - 1, MSG_NOSIGNAL) == sizeof text - 1;
        if (!request->sent)
            close_request(churn, request);
        return;
    }
    ssize_t got = recv(request->fd, request->answer + request->length,
                       sizeof request->answer - 1 - request->length, 0);
    if (got > 0) {
        request->length += (size_t)got;
        return;
    }
    const char *body = strstr(request->answer, "\r\n\r\n");
    request->answered = got == 0 && body && strstr(body, ", server pid ") &&
                        request->answer[request->length - 1] == '\n';
    close_request(churn, request);
}

/* Advances requests for MS milliseconds; opens new ones if OPENING; returns how many are left. */
static unsigned serve(struct churn *churn, int ms, bool opening) {
    long end = now_ms() + ms;
    unsigned open;
    do {
        struct pollfd events[IN_FLIGHT];
        open = 0;
        for (int i = 0; i < IN_FLIGHT; i++) {
            struct request *request = &churn->requests[i];
            if (request->fd < 0 && opening)
                open_request(churn, request);
            events[i] =
                (struct pollfd){.fd = request->fd, .events = request->sent ? POLLIN : POLLOUT};
            open += request->fd >= 0;
        }
        if (poll(events, IN_FLIGHT, 1) < 0)
            die("churn: poll");
        for (int i = 0; i < IN_FLIGHT; i++)
            if (events[i].revents)
                advance(churn, &churn->requests[i]);
    } while (now_ms() < end);
    return open;
}

/* ------------------------------------------------------------------------------------ copies */

static void start_copy(struct churn *churn) {
    pid_t pid = fork();
    if (pid < 0)
        die("churn: fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp(churn->command[0], churn->command);
        die(churn->command[0]);
    }
    churn->counts.started++;
    churn->copies[churn->copy_count++] = pid;
}

/* Finds the inodes of the sockets that PID has open; returns how many there are. */
static unsigned sockets_of(pid_t pid, unsigned long inodes[SOCKETS_MAX]) {
    char path[64], target[64];
    unsigned count = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *folder = opendir(path);
    if (!folder)
        die(path);
    for (const struct dirent *entry; (entry = readdir(folder)) && count < SOCKETS_MAX;) {
        ssize_t length = readlinkat(dirfd(folder), entry->d_name, target, sizeof target - 1);
        target[length > 0 ? length : 0] = 0;
        count += sscanf(target, "socket:[%lu]", &inodes[count]) == 1;
    }
    closedir(folder);
    return count;
}

/*
 * Counts what PID, which is stopped, holds: WAITING connections in its queue, and ACCEPTED ones
 * (/proc/net/tcp in proc(5); the receive queue of one that listens is its accept queue).  Returns
 * false if there are connections that are yet to get to a queue.
 */
static bool count_held(const struct churn *churn, pid_t pid, unsigned *waiting,
                       unsigned *accepted) {
    enum { SYN_RECV = 3, LISTEN = 10 };
    unsigned long inodes[SOCKETS_MAX];
    unsigned count = sockets_of(pid, inodes);
    bool settled = true;
    char line[512];
    FILE *table = fopen("/proc/net/tcp", "re");
    if (!table)
        die("/proc/net/tcp");
    *waiting = *accepted = 0;
    while (fgets(line, sizeof line, table)) {
        unsigned port, state, queue;
        unsigned long inode;
        if (sscanf(line, "%*d: %*x:%x %*x:%*x %x %*x:%x %*x:%*x %*x %*u %*u %lu", &port, &state,
                   &queue, &inode) != 4 ||
            port != ntohs(churn->address.sin_port))
            continue;
        settled &= state != SYN_RECV;
        for (unsigned i = 0; i < count; i++) {
            if (inodes[i] == inode && state == LISTEN)
                *waiting += queue;
            else if (inodes[i] == inode)
                ++*accepted;
        }
    }
    fclose(table);
    return settled;
}

static void stop(pid_t pid) {
    int status;
    if (kill(pid, SIGSTOP) || waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status))
        die("churn: a copy ended by itself");
}

/* Whether every request has been connected, and sent. */
static bool all_sent(const struct churn *churn) {
    bool sent = true;
    for (int i = 0; i < IN_FLIGHT; i++)
        sent &= churn->requests[i].fd < 0 || churn->requests[i].sent;
    return sent;
}

/* Kills a copy, some of them while connections to them have been piling up. */
static void kill_copy(struct churn *churn) {
    unsigned which = next_random(churn, churn->copy_count), waiting, accepted;
    pid_t pid = churn->copies[which];
    stop(pid);
    if (next_random(churn, 2))
        serve(churn, 20, true);
    while (!all_sent(churn) || !count_held(churn, pid, &waiting, &accepted))
        serve(churn, 1, false);
    if (kill(pid, SIGKILL) || waitpid(pid, NULL, 0) != pid)
        die("churn: kill");
    churn->copies[which] = churn->copies[--churn->copy_count];
    churn->counts.killed++;
    churn->counts.least += waiting;
    churn->counts.most += waiting + accepted;
}

/* How many copies listen. */
static unsigned listening(const struct churn *churn) {
    enum { LISTEN = 10 };
    unsigned port, state, count = 0;
    char line[512];
    FILE *table = fopen("/proc/net/tcp", "re");
    if (!table)
        die("/proc/net/tcp");
    while (fgets(line, sizeof line, table))
        count += sscanf(line, "%*d: %*x:%x %*x:%*x %x", &port, &state) == 2 && state == LISTEN &&
                 port == ntohs(churn->address.sin_port);
    fclose(table);
    return count;
}

/* Starts some copies or kills some; one that listens is always left, so no request is refused. */
static void change_copies(struct churn *churn) {
    unsigned few = 1 + next_random(churn, 4);
    bool more = next_random(churn, 100) < 55;
    for (unsigned i = 0; i < few; i++) {
        if (more && churn->copy_count < churn->copy_limit)
            start_copy(churn);
        else if (listening(churn) > 1)
            kill_copy(churn);
    }
}

/* Waits until COUNT copies listen. */
static void wait_for(const struct churn *churn, unsigned count) {
    for (int tries = 0; listening(churn) != count; tries++) {
        if (tries == 3000) {
            fprintf(stderr, "churn: not %u copies listen after 30 seconds\n", count);
            exit(1);
        }
        usleep(10000);
    }
}

int main(int argc, char **argv) {
    static struct churn churn;
    if (argc < 6) {
        fprintf(stderr, "churn: usage: churn SEED KILLS COPIES PORT COMMAND...\n");
        return 2;
    }
    int limit = atoi(argv[3]);
    churn.random = strtoull(argv[1], NULL, 10);
    churn.copy_limit = (unsigned)(limit < COPIES_MAX ? limit : COPIES_MAX);
    churn.command = argv + 5;
    churn.address = (struct sockaddr_in){.sin_family = AF_INET,
                                         .sin_port = htons((uint16_t)atoi(argv[4])),
                                         .sin_addr = {htonl(INADDR_LOOPBACK)}};
    for (int i = 0; i < IN_FLIGHT; i++)
        churn.requests[i].fd = -1;
    while (churn.copy_count < churn.copy_limit / 2 + 1)
        start_copy(&churn);
    wait_for(&churn, churn.copy_count);

    for (unsigned kills = (unsigned)atoi(argv[2]); churn.counts.killed < kills;) {
        serve(&churn, (int)next_random(&churn, 20), true);
        change_copies(&churn);
    }
    wait_for(&churn, churn.copy_count);
    for (int tries = 0; serve(&churn, 10, false); tries++) {
        if (tries == 3000) {
            fprintf(stderr, "churn: a request is neither answered nor refused after 30 seconds\n");
            return 1;
        }
    }
    printf("started %u, killed %u, requests %u, failed %u, held %u to %u\nsurvivors",
           churn.counts.started, churn.counts.killed, churn.counts.requests, churn.counts.failed,
           churn.counts.least, churn.counts.most);
    for (unsigned i = 0; i < churn.copy_count; i++)
        printf(" %d", (int)churn.copies[i]);
    printf("\n");
    fflush(stdout);
    pause();
    return 0;
}
