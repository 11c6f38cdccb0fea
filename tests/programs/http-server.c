/*
 * http-server [[ADDRESS:]PORT [DELAY]] - a small HTTP server, as plain as one can be: one process,
 * one connection at a time, SO_REUSEADDR and nothing else set before bind().  It answers every
 * request, after DELAY milliseconds, with the client's address and its own process id:
 *
 *     client 127.0.0.1:51234, server pid 4242
 *
 * ADDRESS is numeric, an IPv6 one in brackets; by default 127.0.0.1, and PORT 8000.  Exits 1 with
 * the system's words when it cannot listen.  SIGTERM ends it at once, as it ends most programs.
 */
#include "http.h"
#include "server-socket.h"

#include <signal.h>
#include <stdbool.h>
#include <unistd.h>

/* Reads a request to the end of its head; what a GET asks for does not matter. */
static int read_request(int fd) {
    char request[8192];
    size_t length = 0;
    while (length < sizeof request - 1) {
        ssize_t got = read(fd, request + length, sizeof request - 1 - length);
        if (got <= 0)
            return -1;
        length += (size_t)got;
        request[length] = 0;
        if (strstr(request, "\r\n\r\n"))
            return 0;
    }
    return -1;
}

static void answer(int fd, const struct sockaddr_storage *client, int delay) {
    char host[INET6_ADDRSTRLEN], body[sizeof host + 64], response[sizeof body + 128];
    const struct sockaddr_in *in = (const struct sockaddr_in *)client;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)client;
    bool ipv6 = client->ss_family == AF_INET6;
    if (read_request(fd) ||
        !inet_ntop(client->ss_family, ipv6 ? (const void *)&in6->sin6_addr : &in->sin_addr, host,
                   sizeof host))
        return;
    usleep((useconds_t)delay * 1000);
    snprintf(body, sizeof body, "client %s:%d, server pid %d\n", host, ntohs(in->sin_port),
             (int)getpid());
    if (write(fd, response, http_answer(response, sizeof response, body)) < 0)
        return;
    shutdown(fd, SHUT_WR);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    int listener = server_socket(argc > 1 ? argv[1] : "8000", SOCK_STREAM, 0);
    int delay = argc > 2 ? atoi(argv[2]) : 0;
    if (listen(listener, 128))
        die("listen");
    for (;;) {
        struct sockaddr_storage client;
        socklen_t length = sizeof client;
        int fd = accept(listener, (struct sockaddr *)&client, &length);
        if (fd < 0)
            continue;
        answer(fd, &client, delay);
        close(fd);
    }
}
