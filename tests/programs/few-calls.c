/*
 * few-calls [-g] tcp|udp PORT - confines itself to the system calls that a plain server makes, any
 * other kills it (SECCOMP_RET_KILL_PROCESS, seccomp(2)); then binds to PORT on loopback, and prints
 * the port that it has got and its SO_REUSEPORT:
 *
 *     port 8000, SO_REUSEPORT 1
 *
 * It then serves one connection or datagram: sends back what it gets.  -g: getsockopt() kills, too,
 * and SO_REUSEPORT is not printed.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void die(const char *what) {
    perror(what);
    exit(2);
}

static void confine(bool without_getsockopt) {
    static const unsigned allowed[] = {
        SYS_getsockopt, /* the first, to be left out */
        SYS_setsockopt, SYS_socket, SYS_bind, SYS_listen, SYS_accept, SYS_getsockname,
        SYS_recvfrom,   SYS_sendto, SYS_read, SYS_write,  SYS_close,  SYS_exit_group,
    };
    enum { COUNT = sizeof allowed / sizeof *allowed };
    struct sock_filter code[2 * COUNT + 2] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
    unsigned short length = 1;
    for (int i = without_getsockopt; i < COUNT; i++) {
        code[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], 0, 1);
        code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog program = {length, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        die("seccomp");
}

/* Says what is by write() alone: stdio asks for more. */
static void tell(int fd, bool without_getsockopt) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    char line[64];
    int shared = -1;
    socklen_t size = sizeof shared;
    if (getsockname(fd, (struct sockaddr *)&address, &length) ||
        (!without_getsockopt && getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &shared, &size)))
        _exit(2);
    int end = snprintf(line, sizeof line, "port %d", ntohs(address.sin_port));
    if (!without_getsockopt)
        end += snprintf(line + end, sizeof line - (size_t)end, ", SO_REUSEPORT %d", shared);
    line[end++] = '\n';
    if (write(STDOUT_FILENO, line, (size_t)end) != end)
        _exit(2);
}

static void serve_connection(int listener) {
    char message[64];
    int fd = accept(listener, NULL, NULL);
    ssize_t length = read(fd, message, sizeof message);
    if (length < 0 || write(fd, message, (size_t)length) < 0)
        _exit(2);
    close(fd);
}

static void serve_datagram(int fd) {
    struct sockaddr_in client;
    socklen_t client_length = sizeof client;
    char message[64];
    ssize_t length =
        recvfrom(fd, message, sizeof message, 0, (struct sockaddr *)&client, &client_length);
    if (length < 0 ||
        sendto(fd, message, (size_t)length, 0, (struct sockaddr *)&client, client_length) < 0)
        _exit(2);
}

int main(int argc, char **argv) {
    bool without_getsockopt = argc > 1 && strcmp(argv[1], "-g") == 0;
    argv += without_getsockopt;
    if (argc != 3 + without_getsockopt) {
        fprintf(stderr, "usage: few-calls [-g] tcp|udp PORT\n");
        return 2;
    }
    bool tcp = strcmp(argv[1], "tcp") == 0;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(argv[2])),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    confine(without_getsockopt);
    int fd = socket(AF_INET, tcp ? SOCK_STREAM : SOCK_DGRAM, 0), on = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
        bind(fd, (struct sockaddr *)&address, sizeof address) || (tcp && listen(fd, 8)))
        _exit(1);
    tell(fd, without_getsockopt);
    if (tcp)
        serve_connection(fd);
    else
        serve_datagram(fd);
    close(fd);
    _exit(0);
}
