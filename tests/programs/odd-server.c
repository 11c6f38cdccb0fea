/*
 * odd-server [OPTION...] WHERE... - a server with the habits that make real ones hard to replace
 * while they serve.  WHERE is [udp:|mptcp:][ADDRESS:]PORT, and opened in this order; port 0 is one
 * that the kernel picks.  It answers with its process id, over HTTP or as a datagram:
 *
 *     pid 4242
 *
 * One process, one thread.  A connection is for one request, and only one is served at a time;
 * datagrams are answered side by side.
 *
 *     -w MS        an answer takes so long, or what the request asks for: GET /MS
 *     -d MS        so long it waits before each WHERE but the first
 *     -f FILE      more WHEREs are in FILE, a word each
 *     -l FILE      it locks FILE (flock), and ends with 1 if another has
 *     -s MS        SIGTERM lets it finish its request, and after MS it ends; its sockets are open
 *                  until then, but nothing more is taken from them
 *     -c           it closes them when it gets the signal
 *     -m REQUESTS  it ends after so many
 *     -e STATUS    with this status
 *     -v LENGTH    it writes a line of so many octets for each request, 4096 at a time as stdio
 *                  does it: the number of the request, from 1, the process id, and x's
 *
 * Without -s, SIGTERM ends it at once, as it ends most programs.
 */
#define _GNU_SOURCE
#include "http.h"
#include "server-socket.h"
#include "socket-kind.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SOCKETS = 64, MAX_LATE = 4096, NEVER = -1 };

/* The connection that is served. */
struct request {
    int fd; /* -1: there is none */
    size_t length;
    char text[4096];
    int64_t due; /* when it is to be answered; NEVER while it has not come yet */
};

/* A datagram that has been read, and when it is to be answered. */
struct datagram {
    int fd;
    struct sockaddr_storage client;
    socklen_t client_length;
    int64_t due;
};

struct server {
    int64_t work, pause, stop; /* -w, -d, -s; the last NEVER without */
    long most, length;         /* -m, 0 for no end; -v */
    bool closes;
    int status;
    char answer[32];
    struct pollfd sockets[MAX_SOCKETS + 1]; /* with a place for the connection */
    bool is_udp[MAX_SOCKETS];
    nfds_t count;
    struct request request;
    struct datagram late[MAX_LATE]; /* a ring: from first on, in_ring of them */
    size_t first, in_ring;
    int64_t end; /* when it ends, once it has got the signal */
    long served;
};

static volatile sig_atomic_t told_to_stop;

static void hear_stop(int number) {
    (void)number;
    told_to_stop = true;
}

/* In milliseconds. */
static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000) + time.tv_nsec / 1000000;
}

/* Whether there is a time, and it has come. */
static bool has_come(int64_t time) {
    return time != NEVER && time <= now();
}

/* ---- Beginning. */

static void lock(const char *name) {
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB))
        die(name);
}

static void open_socket(struct server *server, const char *where) {
    bool udp = strncmp(where, "udp:", 4) == 0, mptcp = strncmp(where, "mptcp:", 6) == 0;
    if (server->count == MAX_SOCKETS) {
        fprintf(stderr, "%s: one too many\n", where);
        exit(1);
    }
    if (server->count)
        usleep((useconds_t)server->pause * 1000);
    int fd = server_socket(where + (udp     ? 4
                                    : mptcp ? 6
                                            : 0),
                           udp ? SOCK_DGRAM : SOCK_STREAM, mptcp ? IPPROTO_MPTCP : 0);
    /* What wakes several processes is there for one of them alone. */
    if (fcntl(fd, F_SETFL, O_NONBLOCK) || (!udp && listen(fd, 4096)))
        die("listen");
    server->is_udp[server->count] = udp;
    server->sockets[server->count++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

static void open_those_in(struct server *server, const char *name) {
    FILE *file = fopen(name, "re");
    char where[64];
    if (!file)
        die(name);
    while (fscanf(file, "%63s", where) == 1)
        open_socket(server, where);
    fclose(file);
}

/* ---- Serving. */

static void write_line(const struct server *server) {
    static char line[1 << 20]; /* not on the stack */
    int head = snprintf(line, sizeof line, "%ld %d ", server->served, (int)getpid());
    size_t length = (size_t)server->length, done = 0;
    if (length > sizeof line)
        length = sizeof line;
    if (length < (size_t)head + 1)
        length = (size_t)head + 1;
    memset(line + head, 'x', length - (size_t)head - 1);
    line[length - 1] = '\n';
    while (done < length) {
        ssize_t written =
            write(STDOUT_FILENO, line + done, length - done < 4096 ? length - done : 4096);
        if (written < 0 && errno != EINTR)
            return;
        done += written > 0 ? (size_t)written : 0;
    }
}

static void count_request(struct server *server) {
    server->served++;
    if (server->length)
        write_line(server);
    if (server->served == server->most)
        exit(server->status);
}

static void take_connection(struct server *server, int listener) {
    server->request.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    server->request.length = 0;
    server->request.due = NEVER;
}

static void end_request(struct request *request) {
    close(request->fd);
    request->fd = -1;
}

/* Reads on; what a GET asks for is how long the answer takes, if it is a number. */
static void read_request(struct server *server) {
    struct request *request = &server->request;
    ssize_t got = read(request->fd, request->text + request->length,
                       sizeof request->text - 1 - request->length);
    if (got <= 0) {
        end_request(request);
        return;
    }
    request->length += (size_t)got;
    request->text[request->length] = 0;
    if (strstr(request->text, "\r\n\r\n")) {
        long asked;
        bool asks = sscanf(request->text, "GET /%ld", &asked) == 1;
        request->due = now() + (asks ? asked : server->work);
    }
}

static void answer_request(struct server *server) {
    char text[256];
    struct request *request = &server->request;
    size_t length = http_answer(text, sizeof text, server->answer);
    if (write(request->fd, text, length) == (ssize_t)length)
        shutdown(request->fd, SHUT_WR);
    end_request(request);
    count_request(server);
}

static void take_datagram(struct server *server, int fd) {
    struct datagram *datagram = &server->late[(server->first + server->in_ring) % MAX_LATE];
    datagram->client_length = sizeof datagram->client;
    if (recvfrom(fd, NULL, 0, 0, (struct sockaddr *)&datagram->client, &datagram->client_length) <
        0)
        return;
    datagram->fd = fd;
    datagram->due = now() + server->work;
    server->in_ring++;
}

static void answer_datagram(struct server *server) {
    const struct datagram *datagram = &server->late[server->first];
    sendto(datagram->fd, server->answer, strlen(server->answer), 0,
           (const struct sockaddr *)&datagram->client, datagram->client_length);
    server->first = (server->first + 1) % MAX_LATE;
    server->in_ring--;
    count_request(server);
}

/* ---- The loop. */

/* Returns how long nothing is due, as ppoll() takes it: NULL where that is for ever. */
static const struct timespec *time_left(const struct server *server, struct timespec *time) {
    int64_t dues[] = {server->request.fd < 0 ? NEVER : server->request.due,
                      server->in_ring ? server->late[server->first].due : NEVER, server->end};
    int64_t next = NEVER;
    for (size_t i = 0; i < sizeof dues / sizeof *dues; i++)
        if (dues[i] != NEVER && (next == NEVER || dues[i] < next))
            next = dues[i];
    if (next == NEVER)
        return NULL;
    int64_t left = next - now();
    if (left < 0)
        left = 0;
    *time = (struct timespec){.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000};
    return time;
}

/* Notes the signal: takes nothing more. */
static void begin_to_stop(struct server *server) {
    server->end = now() + server->stop;
    for (nfds_t i = 0; server->closes && i < server->count; i++)
        if (!server->is_udp[i])
            close(server->sockets[i].fd);
    for (nfds_t i = 0; i < server->count; i++)
        server->sockets[i].fd = -1; /* poll() passes over it */
}

/* Waits for what is to be done next, and does it. */
static void serve_on(struct server *server, const sigset_t *mask) {
    struct request *request = &server->request;
    struct pollfd *connection = &server->sockets[server->count];
    struct timespec time;
    *connection = (struct pollfd){.fd = request->due == NEVER ? request->fd : -1, .events = POLLIN};
    for (nfds_t i = 0; i < server->count; i++) {
        bool takes = server->is_udp[i] ? server->in_ring < MAX_LATE : request->fd < 0;
        server->sockets[i].events = takes ? POLLIN : 0;
    }
    if (ppoll(server->sockets, server->count + 1, time_left(server, &time), mask) < 0)
        return;
    if (request->fd >= 0 && has_come(request->due))
        answer_request(server);
    else if (connection->revents)
        read_request(server);
    while (server->in_ring && has_come(server->late[server->first].due))
        answer_datagram(server);
    for (nfds_t i = 0; i < server->count; i++) {
        if (!(server->sockets[i].revents & POLLIN))
            continue;
        if (server->is_udp[i])
            take_datagram(server, server->sockets[i].fd);
        else if (request->fd < 0)
            take_connection(server, server->sockets[i].fd);
    }
}

/* Until -s and what it serves allow it to end. */
static void serve(struct server *server) {
    sigset_t stop, before;
    sigemptyset(&stop);
    sigprocmask(SIG_BLOCK, NULL, &before);
    if (server->stop != NEVER) {
        sigaddset(&stop, SIGTERM);
        signal(SIGTERM, hear_stop);
        sigprocmask(SIG_BLOCK, &stop, NULL);
    }
    while (!has_come(server->end) || server->request.fd >= 0 || server->in_ring) {
        serve_on(server, &before);
        if (told_to_stop && server->end == NEVER)
            begin_to_stop(server);
    }
}

int main(int argc, char **argv) {
    static struct server server = {
        .stop = NEVER, .end = NEVER, .request = {.fd = -1, .due = NEVER}};
    const char *more = NULL;
    for (int option; (option = getopt(argc, argv, "w:d:f:l:s:cm:e:v:")) != -1;) {
        if (option == 'w')
            server.work = atoi(optarg);
        else if (option == 'd')
            server.pause = atoi(optarg);
        else if (option == 'f')
            more = optarg;
        else if (option == 'l')
            lock(optarg);
        else if (option == 's')
            server.stop = atoi(optarg);
        else if (option == 'c')
            server.closes = true;
        else if (option == 'm')
            server.most = atol(optarg);
        else if (option == 'e')
            server.status = atoi(optarg);
        else if (option == 'v')
            server.length = atol(optarg);
        else
            return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    snprintf(server.answer, sizeof server.answer, "pid %d\n", (int)getpid());
    for (int i = optind; i < argc; i++)
        open_socket(&server, argv[i]);
    if (more)
        open_those_in(&server, more);
    serve(&server);
    return server.status;
}
