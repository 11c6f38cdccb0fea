/*
 * hold [-dmot] [-b BACKLOG] [-i INTERFACE] [-n PROCESSES] [-p PORTS] [-u USER] [ADDRESS:]PORT -
 * listens, and takes no connection: they stay in the accept queue, of which BACKLOG is the limit.
 * PROCESSES hold the one socket.  -d: a process has it twice.  -i: for this network device alone.
 * -m: an MPTCP socket, with SO_REUSEPORT.  -o: an IPv6 socket is for IPv6 only.  -p: so many
 * sockets, one for each port from PORT on.  -t: the first thread ends and another goes on.  -u: the
 * socket becomes that of the user with this number.
 */
#include "server-socket.h"
#include "socket-kind.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <unistd.h>

struct plan {
    int backlog;
    bool twice, mptcp, only;
    const char *interface;
    uid_t user;
};

static void open_socket(const struct plan *plan, const struct sockaddr_storage *address,
                        socklen_t length) {
    int on = 1;
    int fd =
        socket(length ? address->ss_family : AF_INET, SOCK_STREAM, plan->mptcp ? IPPROTO_MPTCP : 0);
    if (plan->mptcp && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on))
        die("SO_REUSEPORT");
    if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, plan->interface,
                   (socklen_t)strlen(plan->interface)))
        die(plan->interface);
    if (plan->only && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on))
        die("IPV6_V6ONLY");
    if (bind(fd, (const struct sockaddr *)address, length) || listen(fd, plan->backlog))
        die("listen");
    if (plan->twice && dup(fd) < 0)
        die("dup");
    if (fchown(fd, plan->user, (gid_t)-1))
        die("fchown");
}

static void *stay(void *nothing) {
    pause();
    return nothing;
}

/* Ends this thread, after which only another is left. */
__attribute__((noreturn)) static void end_thread(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, stay, NULL))
        die("thread");
    pthread_exit(NULL);
}

int main(int argc, char **argv) {
    struct plan plan = {.backlog = 128, .interface = "", .user = (uid_t)-1};
    int processes = 1, ports = 1;
    bool threads = false;
    for (int option; (option = getopt(argc, argv, "b:di:mn:op:tu:")) != -1;) {
        if (option == 'b')
            plan.backlog = atoi(optarg);
        else if (option == 'n')
            processes = atoi(optarg);
        else if (option == 'd')
            plan.twice = true;
        else if (option == 'i')
            plan.interface = optarg;
        else if (option == 'm')
            plan.mptcp = true;
        else if (option == 'o')
            plan.only = true;
        else if (option == 'p')
            ports = atoi(optarg);
        else if (option == 't')
            threads = true;
        else
            plan.user = (uid_t)atoi(optarg);
    }
    struct sockaddr_storage address;
    socklen_t length = optind < argc ? read_where(argv[optind], &address) : 0;
    struct sockaddr_in *in = (struct sockaddr_in *)&address; /* IPv6 has its port there, too */
    for (int i = 0; i < ports; i++) {
        open_socket(&plan, &address, length);
        in->sin_port = htons((uint16_t)(ntohs(in->sin_port) + 1));
    }
    while (processes-- > 1) {
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            break;
        }
    }
    if (threads)
        end_thread();
    pause();
    return 0;
}
