/*
 * hold [-dmo] [-b BACKLOG] [-i INTERFACE] [-n PROCESSES] [-u USER] [ADDRESS:]PORT - listens, and
 * takes no connection: they stay in the accept queue, of which BACKLOG is the limit.  PROCESSES
 * hold the one socket.  -d: a process has it twice.  -i: for this network device alone.  -m: an
 * MPTCP socket, with SO_REUSEPORT.  -o: an IPv6 socket is for IPv6 only.  -u: the socket becomes
 * that of the user with this number.
 */
#include "server-socket.h"
#include "socket-kind.h"

#include <stdbool.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int backlog = 128, processes = 1, on = 1;
    bool twice = false, mptcp = false, only = false;
    const char *interface = "";
    uid_t user = (uid_t)-1;
    for (int option; (option = getopt(argc, argv, "b:di:mn:ou:")) != -1;) {
        if (option == 'b')
            backlog = atoi(optarg);
        else if (option == 'n')
            processes = atoi(optarg);
        else if (option == 'd')
            twice = true;
        else if (option == 'i')
            interface = optarg;
        else if (option == 'm')
            mptcp = true;
        else if (option == 'o')
            only = true;
        else
            user = (uid_t)atoi(optarg);
    }
    struct sockaddr_storage address;
    socklen_t length = optind < argc ? read_where(argv[optind], &address) : 0;
    int protocol = mptcp ? IPPROTO_MPTCP : 0;
    int fd = socket(length ? address.ss_family : AF_INET, SOCK_STREAM, protocol);
    if (mptcp && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on))
        die("SO_REUSEPORT");
    if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, interface, (socklen_t)strlen(interface)))
        die(interface);
    if (only && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on))
        die("IPV6_V6ONLY");
    if (bind(fd, (struct sockaddr *)&address, length) || listen(fd, backlog))
        die("listen");
    if (twice && dup(fd) < 0)
        die("dup");
    if (fchown(fd, user, (gid_t)-1))
        die("fchown");
    while (processes-- > 1)
        if (fork() == 0)
            break;
    alarm(60); /* children are nobody's to end */
    pause();
    return 0;
}
