/*
 * hold [-b BACKLOG] [-n PROCESSES] [-o] [-u USER] [ADDRESS:]PORT - listens, and takes no
 * connection: they stay in the accept queue, of which BACKLOG is the limit.  PROCESSES hold the one
 * socket.  -o: an IPv6 socket is for IPv6 only.  -u: the socket becomes that of the user with this
 * number.
 */
#include "server-socket.h"

#include <stdbool.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int backlog = 128, processes = 1, on = 1;
    bool only = false;
    uid_t user = (uid_t)-1;
    for (int option; (option = getopt(argc, argv, "b:n:ou:")) != -1;) {
        if (option == 'b')
            backlog = atoi(optarg);
        else if (option == 'n')
            processes = atoi(optarg);
        else if (option == 'o')
            only = true;
        else
            user = (uid_t)atoi(optarg);
    }
    struct sockaddr_storage address;
    socklen_t length = optind < argc ? read_where(argv[optind], &address) : 0;
    int fd = socket(length ? address.ss_family : AF_INET, SOCK_STREAM, 0);
    if (only && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on))
        die("IPV6_V6ONLY");
    if (bind(fd, (struct sockaddr *)&address, length) || listen(fd, backlog))
        die("listen");
    if (fchown(fd, user, (gid_t)-1))
        die("fchown");
    while (processes-- > 1)
        if (fork() == 0)
            break;
    alarm(60); /* children are nobody's to end */
    pause();
    return 0;
}
