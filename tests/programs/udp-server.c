/*
 * udp-server [[ADDRESS:]PORT] - a small UDP server, as plain as one can be: it sets no option
 * before bind().  It answers every datagram with its own process id:
 *
 *     pid 4242
 *
 * ADDRESS is numeric, an IPv6 one in brackets; by default 127.0.0.1, and PORT 8000.  Exits 1 with
 * the system's words when it cannot bind.  SIGTERM ends it at once, as it ends most programs.
 */
#include "server-socket.h"

#include <unistd.h>

int main(int argc, char **argv) {
    int fd = server_socket(argc > 1 ? argv[1] : "8000", SOCK_DGRAM, 0);
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
