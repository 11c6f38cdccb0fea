/*
 * call-cost - prints what system calls cost, in nanoseconds each, the least of some rounds:
 *
 *     bind 8400, bind to port 0 9100, getppid 61, sendto 1900
 */
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 15 };

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t bind_cost(in_port_t port) {
    enum { COUNT = 100 };
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int64_t spent = 0;
    for (int i = 0; i < COUNT; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        int64_t start = now();
        bind(fd, (struct sockaddr *)&address, sizeof address);
        spent += now() - start;
        close(fd);
    }
    return spent / COUNT;
}

static int64_t getppid_cost(void) {
    enum { COUNT = 100000 };
    int64_t start = now();
    for (int i = 0; i < COUNT; i++)
        syscall(SYS_getppid);
    return (now() - start) / COUNT;
}

static int64_t sendto_cost(void) {
    enum { COUNT = 2000 };
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    int64_t start = now();
    for (int i = 0; i < COUNT; i++)
        sendto(fd, "x", 1, 0, (struct sockaddr *)&address, sizeof address);
    int64_t spent = now() - start;
    close(fd);
    return spent / COUNT;
}

int main(void) {
    int64_t to_port = INT64_MAX, to_zero = INT64_MAX, ppid = INT64_MAX, send = INT64_MAX;
    for (int i = 0; i < ROUNDS; i++) {
        to_port = least(to_port, bind_cost(7000));
        to_zero = least(to_zero, bind_cost(0));
        ppid = least(ppid, getppid_cost());
        send = least(send, sendto_cost());
    }
    printf("bind %jd, bind to port 0 %jd, getppid %jd, sendto %jd\n", (intmax_t)to_port,
           (intmax_t)to_zero, (intmax_t)ppid, (intmax_t)send);
    return 0;
}
