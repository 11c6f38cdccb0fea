/*
 * ask-diag [-p] tcp|udp STATES [PORT]... - prints what diag_dump() tells of the IPv4 sockets of
 * these states, numbers of netinet/tcp.h and separated by commas, on these local ports or on all: a
 * line for each, "PORT PEERS-PORT STATE", with the octets that were acknowledged after it where the
 * kernel tells of TCP (INET_DIAG_INFO).  -p: only those whose port the kernel chose.
 */
#define _GNU_SOURCE
#include "group/diag.c"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>

static bool print(const struct diag_answer *answer, void *data) {
    const struct inet_diag_msg *message = answer->message;
    const struct tcp_info *info = diag_attribute(
        answer, INET_DIAG_INFO, offsetof(struct tcp_info, tcpi_bytes_acked) + sizeof(uint64_t));
    (void)data;
    printf("%u %u %u", ntohs(message->id.idiag_sport), ntohs(message->id.idiag_dport),
           message->idiag_state);
    if (info)
        printf(" %llu", (unsigned long long)info->tcpi_bytes_acked);
    printf("\n");
    return true;
}

int main(int argc, char **argv) {
    struct diag_query query = {
        .protocol = IPPROTO_TCP, .family = AF_INET, .extensions = 1 << (INET_DIAG_INFO - 1)};
    query.picked = argc > 1 && !strcmp(argv[1], "-p");
    argv += query.picked;
    argc -= query.picked;
    if (argc < 3)
        return 2;
    if (!strcmp(argv[1], "udp"))
        query.protocol = IPPROTO_UDP;
    for (char *state = strtok(argv[2], ","); state; state = strtok(NULL, ","))
        query.states |= 1U << atoi(state);
    query.port_count = (size_t)argc - 3;
    uint16_t *ports = calloc(query.port_count + 1, sizeof *ports);
    for (size_t i = 0; ports && i < query.port_count; i++)
        ports[i] = (uint16_t)atoi(argv[i + 3]);
    query.ports = ports;
    if (diag_dump(&query, print, NULL)) {
        perror("ask-diag");
        return 1;
    }
    return 0;
}
