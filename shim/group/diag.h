/*
 * diag.h - asks the kernel for the TCP and UDP sockets of this network namespace, by netlink
 * (sock_diag(7)).
 */
#ifndef DIAG_H
#define DIAG_H

#include <linux/inet_diag.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Which sockets. */
struct diag_query {
    uint8_t protocol, family; /* IPPROTO_TCP and the like, AF_INET or AF_INET6 */
    /* 1U << TCP_LISTEN and the like, of netinet/tcp.h.  A UDP socket is TCP_ESTABLISHED if it is
       connected, and TCP_CLOSE if not. */
    uint32_t states;
    uint8_t extensions;    /* attributes wanted: 1 << (INET_DIAG_INFO - 1) and the like */
    const uint16_t *ports; /* of the local end, in the host's order; none: all */
    size_t port_count;
    bool picked; /* only those whose port the kernel chose, as they were bound to port 0 */
};

/* What the kernel tells of one socket. */
struct diag_answer {
    const struct inet_diag_msg *message;
    const struct rtattr *attributes;
    unsigned length; /* of the attributes */
};

/* Takes one answer; returns false and errno to end the dump. */
typedef bool diag_fn(const struct diag_answer *answer, void *data);

/*
 * Calls EACH, with DATA, for every socket of QUERY.  Returns 0, or -1 and errno: ENOENT if the
 * kernel has no inet_diag for the protocol, E2BIG for more than DIAG_PORTS ports, EAGAIN if the
 * kernel says that the sockets changed meanwhile, so that it is to be asked again.
 *
 * It does not always say so: it dumps in pieces and goes on by counting, so that what is opened or
 * closed between two pieces has it tell of others twice, or not at all.
 */
int diag_dump(const struct diag_query *query, diag_fn *each, void *data);

/* A packet that might come: from a port of a peer to a port of the local end. */
struct diag_packet {
    uint8_t protocol, family;
    uint16_t port, peer_port;
    uint8_t address[16], peer[16]; /* the first 4 of them for AF_INET */
    uint32_t device;               /* 0: none in particular */
};

/* A line to the kernel for diag_choose(), to be closed; -1 and errno. */
int diag_open(void);

/* The cookie of the listening or bound socket that the kernel would choose for PACKET by its hash,
   whether or not the group is steered; 0 and errno, ENOENT if there is none. */
uint64_t diag_choose(int line, const struct diag_packet *packet);

/* As many ports as a filter has room for, in an attribute of 65,535 octets. */
enum { DIAG_PORTS = 3275 };

/* The same for both families, and again if the sockets changed meanwhile, so that EACH may get one
   twice; after some tries what the kernel has told is taken for all there is. */
int diag_dump_both(struct diag_query query, diag_fn *each, void *data);

/* The socket's SO_COOKIE. */
uint64_t diag_cookie(const struct inet_diag_msg *message);

/* The attribute TYPE of ANSWER if it is there, with at least SIZE octets; or NULL. */
const void *diag_attribute(const struct diag_answer *answer, unsigned short type, size_t size);

#endif
