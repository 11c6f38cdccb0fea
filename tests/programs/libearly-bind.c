/*
 * libearly-bind.so - a library whose constructor, run before main(), binds a TCP socket and prints
 * whether errno is as it was and the socket has SO_REUSEPORT.
 */
#include "socket-kind.h"

#include <errno.h>
#include <stdio.h>

enum { MARK = 9999 };

__attribute__((constructor)) static void bind_early(void) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(7000), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    errno = MARK;
    if (bind(fd, (struct sockaddr *)&address, sizeof address))
        perror("early bind");
    printf("early bind, errno %s, SO_REUSEPORT %d\n", errno == MARK ? "kept" : "lost",
           reuseport_of(fd));
    fflush(stdout);
}
