/*
 * placeholder tcp|udp [ADDRESS:]PORT - opens a placeholder for the group of such a socket, and
 * stays.
 */
#define _GNU_SOURCE
#include "group/placeholder.c"
#include "server-socket.h"

int main(int argc, char **argv) {
    struct sockaddr_storage address;
    if (argc != 3 || !read_where(argv[2], &address))
        return 2;
    const struct sockaddr_in *in = (const struct sockaddr_in *)&address;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address;
    struct socket like = {
        .protocol = strcmp(argv[1], "udp") ? IPPROTO_TCP : IPPROTO_UDP,
        .family = (uint8_t)address.ss_family,
        .port = ntohs(in->sin_port),
        .user = geteuid(),
    };
    if (like.family == AF_INET)
        memcpy(like.address, &in->sin_addr, sizeof in->sin_addr);
    else
        memcpy(like.address, &in6->sin6_addr, sizeof in6->sin6_addr);
    if (placeholder_open(&like) < 0)
        die("placeholder");
    pause();
    return 0;
}
