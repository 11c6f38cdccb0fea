/*
 * libother-bind.so - another library that interposes bind(): it sets SO_KEEPALIVE, says so on
 * stdout with the SO_REUSEPORT that it meets, and calls the next bind() in the chain.
 */
#define _GNU_SOURCE
#include "socket-kind.h"

#include <dlfcn.h>
#include <stdio.h>

int other_bind(int fd, const struct sockaddr *address, socklen_t length) __asm__("bind");

int other_bind(int fd, const struct sockaddr *address, socklen_t length) {
    int (*next)(int, const struct sockaddr *, socklen_t);
    void *found = dlsym(RTLD_NEXT, "bind");
    memcpy(&next, &found, sizeof next);
    int on = 1;
    int result = setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    printf("other bind, SO_KEEPALIVE set, SO_REUSEPORT %d\n", reuseport_of(fd));
    fflush(stdout);
    return result ? result : next(fd, address, length);
}
