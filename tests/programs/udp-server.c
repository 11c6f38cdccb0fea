/*
 * udp-server [[ADDRESS:]PORT] - a small UDP server, as plain as one can be: it sets no option
 * before bind().  It answers every datagram with its own process id:
 *
 *     pid 4242
 *
 * ADDRESS is numeric, an IPv6 one in brackets; by default 127.0.0.1, and PORT 8000.  Exits 1 with
 * the system's words when it cannot bind.  SIGTERM ends it at once, as it ends most programs.
 */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* Returns a socket that is bound to WHERE, "[ADDRESS:]PORT". */
static int bind_to(const char *where) {
    char address[NI_MAXHOST] = "127.0.0.1";
    const char *colon = strrchr(where, ':');
    const char *port = colon ? colon + 1 : where;
    if (colon) {
        int bracket = *where == '[';
        snprintf(address, sizeof address, "%.*s", (int)(colon - where) - 2 * bracket,
                 where + bracket);
    }
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST};
    struct addrinfo *found;
    int error = getaddrinfo(address, port, &hints, &found);
    if (error) {
        fprintf(stderr, "udp-server: %s: %s\n", where, gai_strerror(error));
        exit(1);
    }
    int fd = socket(found->ai_family, SOCK_DGRAM, 0);
    if (fd < 0)
        die("socket");
    if (bind(fd, found->ai_addr, found->ai_addrlen))
        die("bind");
    freeaddrinfo(found);
    return fd;
}

int main(int argc, char **argv) {
    int fd = bind_to(argc > 1 ? argv[1] : "8000");
    char answer[32];
    int length = snprintf(answer, sizeof answer, "pid %d\n", (int)getpid());
    for (;;) {
        struct sockaddr_storage storage;
        struct sockaddr *client = (struct sockaddr *)&storage;
        socklen_t client_length = sizeof storage;
        if (recvfrom(fd, NULL, 0, 0, client, &client_length) < 0) /* whatever it says */
            continue;
        sendto(fd, answer, (size_t)length, 0, client, client_length);
    }
}
