/*
 * deny CALL[:SECOND] ERROR PROGRAM [ARG]... - runs PROGRAM where system call number CALL (if its
 * second argument is SECOND) fails with error number ERROR, as under a container's profile or an
 * old kernel; or, where ERROR is "kill", kills who makes it, as under a service's.  It is run as it
 * is: with no privilege given up.
 */
#define _GNU_SOURCE
#include "fail-call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: deny CALL[:SECOND] ERROR PROGRAM [ARG]...\n");
        return 2;
    }
    const char *second = strchr(argv[1], ':');
    unsigned number = (unsigned)atoi(argv[1]);
    unsigned action = strcmp(argv[2], "kill") == 0 ? SECCOMP_RET_KILL_PROCESS
                                                   : SECCOMP_RET_ERRNO | (unsigned)atoi(argv[2]);
    if (second ? filter_request(number, (unsigned)strtoul(second + 1, NULL, 0), action)
               : filter_call(number, action)) {
        perror("deny");
        return 2;
    }
    execvp(argv[3], argv + 3);
    perror(argv[3]);
    return 2;
}
