/*
 * sockets.h - the listening TCP and bound UDP and UDP-Lite sockets of this network namespace, as
 * the kernel tells of them.
 */
#ifndef SOCKETS_H
#define SOCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A process that has sockets open.  All but the first two are for holders.c. */
struct process {
    pid_t pid;
    pid_t thread; /* its first, or one that goes on where the first has ended */
    enum { PROCESS_UNKNOWN, PROCESS_GOES, PROCESS_STOPPED } state;
    char *command; /* NULL: not read yet */
    struct process *next;
};

/* A process that has a certain socket open, and its descriptor for it. */
struct holder {
    struct process *process;
    int fd;
};

enum shared { SHARED_UNKNOWN, SHARED_NO, SHARED_YES };

/* One socket. */
struct socket {
    uint8_t protocol, family; /* IPPROTO_TCP, IPPROTO_UDP or IPPROTO_UDPLITE; AF_INET or AF_INET6 */
    uint16_t port;
    uint8_t address[16]; /* the first 4 of them for AF_INET */
    uint32_t device;     /* SO_BINDTODEVICE */
    bool ipv6_only;
    size_t order; /* among its protocol's and family's sockets on the port: of joining */
    uid_t user;
    uint32_t inode;
    uint64_t cookie; /* SO_COOKIE */

    /* Connections in the accept queue of a TCP socket; octets of memory for others. */
    uint32_t waiting, limit;
    uint32_t dropped; /* datagrams since the socket is there, mostly for want of room */

    /* By holders_find(). */
    struct holder *holders; /* by pid, each process once */
    size_t holder_count;
    enum shared shared;
};

struct sockets {
    struct socket *all;
    size_t count;
    struct socket **by_cookie;
    struct process *processes; /* the holders */
};

/* Whether SOCKET is wanted, by what CONTEXT says. */
typedef bool sockets_filter(const struct socket *socket, const void *context);

/* Which sockets to read: those on the ports that WANTED is true of, with CONTEXT. */
struct sockets_query {
    sockets_filter *wanted; /* NULL: all */
    const void *context;
    const uint16_t *ports; /* none, or more than DIAG_PORTS: all (diag.h) */
    size_t port_count;
};

/*
 * Reads by sock_diag(7) the sockets of QUERY, no holders yet; those of a group are in order of
 * joining.  Returns false and errno where that cannot be: ENOENT if the kernel has no inet_diag.
 * What SOCKETS holds is to be freed by sockets_free().
 */
bool sockets_read(struct sockets *sockets, const struct sockets_query *query);

/* The same by asking the kernel once.  While others come and go, some may be there twice, or not at
   all. */
bool sockets_sample(struct sockets *sockets, const struct sockets_query *query);

/* The one of SOCKETS that has COOKIE; NULL if there is none. */
struct socket *sockets_find(const struct sockets *sockets, uint64_t cookie);

void sockets_free(struct sockets *sockets);

#endif
