/*
 * libother-bind.so - another library that interposes bind(): it sets SO_KEEPALIVE, says so on
 * stdout with the family of the address and the SO_REUSEPORT that it meets, and calls the next
 * bind() in the chain.  It takes the address for readable, as libauthbind.so and fakechroot do.
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
    printf("other bind, family %d, SO_KEEPALIVE set, SO_REUSEPORT %d\n", address->sa_family,
           reuseport_of(fd));
    fflush(stdout);
    return result ? result : next(fd, address, length);
}
