/*
 * ports.h - which binds are to be shared: the list in LIBREUSE_PORTS, and what follows from it
 * for one bind().  Shared by everything that flags sockets, so that they all decide alike.
 *
 * Nothing here allocates, locks, or uses stdio: it may run in a signal handler.
 */
#ifndef PORTS_H
#define PORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* As in <netinet/in.h> of the newest systems; older ones lack the names, not the sockets. */
enum { PROTOCOL_TCP = 6, PROTOCOL_UDP = 17, PROTOCOL_UDPLITE = 136, PROTOCOL_MPTCP = 262 };

/* How many items a list may have; so many that a fixed array will do. */
enum { PORTS_MAX = 128 };

/* One item: a range of ports, of one protocol or both, at one address or any. */
struct ports_item {
    uint16_t first, last;
    bool tcp, udp;
    bool any_address;
    uint8_t address[16]; /* an IPv4 address is kept as IPv4-mapped IPv6 */
};

struct ports {
    bool listed; /* false: every port is in, port 0 too */
    unsigned count;
    struct ports_item items[PORTS_MAX];
};

/* What is wrong with a list: the item (not terminated, part of the list) and why. */
struct ports_error {
    const char *item;
    size_t length;
    const char *reason;
};

/*
 * Reads LIST, the value of LIBREUSE_PORTS, NULL where it is unset:
 *
 *     [ADDRESS:]PORT[-PORT][/tcp|/udp],...
 *
 * Returns false and fills in ERROR if an item is malformed; PORTS then holds no port at all.
 */
bool ports_read(struct ports *ports, const char *list, struct ports_error *error);

/* What is to be done about one bind. */
enum ports_plan {
    PORTS_IGNORE = 0,   /* not a bind of TCP or UDP that can succeed: leave it alone */
    PORTS_LEAVE_OUT,    /* LIBREUSE_PORTS leaves it out */
    PORTS_SHARE_BEFORE, /* set SO_REUSEPORT, then bind */
    PORTS_SHARE_AFTER,  /* bind, then set SO_REUSEPORT: the kernel picks the port */
};

/* Whether sockets of this SO_TYPE and SO_PROTOCOL are TCP or UDP, MPTCP and UDP-Lite included. */
bool ports_shareable(int type, int protocol);

/*
 * Returns the plan for a bind of a shareable socket of PROTOCOL to ADDRESS, of LENGTH bytes that
 * can all be read.
 *
 * Why a port that the kernel picks is shared after the bind: were the option set before, the
 * kernel might pick a UDP port that another shared socket of the same user already has
 * (udp_lib_lport_inuse() in net/ipv4/udp.c).
 */
enum ports_plan ports_plan(const struct ports *ports, int protocol, const struct sockaddr *address,
                           socklen_t length);

#endif
