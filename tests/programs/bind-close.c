/*
 * bind-close PORT ROUNDS - listens on PORT of loopback, closes the socket and connects to the port,
 * ROUNDS times; counts the connections that somebody has taken, though nobody is there:
 *
 *     0 of 1000 connected
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: bind-close PORT ROUNDS\n");
        return 2;
    }
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((in_port_t)atoi(argv[1])),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int rounds = atoi(argv[2]), connected = 0;
    for (int i = 0; i < rounds; i++) {
        int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
        if (bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, 1)) {
            perror("bind-close");
            return 1;
        }
        close(server);
        connected += connect(client, (struct sockaddr *)&address, sizeof address) == 0;
        close(client);
    }
    printf("%d of %d connected\n", connected, rounds);
    return 0;
}
