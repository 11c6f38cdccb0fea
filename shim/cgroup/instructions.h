/*
 * instructions.h - the BPF program that the kernel runs at each bind in a cgroup, made from a list
 * of ports.
 */
#ifndef INSTRUCTIONS_H
#define INSTRUCTIONS_H

#include "ports.h"
#include <linux/bpf.h>

/* At most: 18 for an item, with an IPv6 address and a protocol, and those around the items. */
enum { INSTRUCTIONS_MAX = 18 * PORTS_MAX + 32 };

struct instructions {
    struct bpf_insn code[INSTRUCTIONS_MAX];
    size_t length;
};

/*
 * Writes the program for the binds of sockets of FAMILY, AF_INET or AF_INET6: it sets SO_REUSEPORT
 * where ports_plan() says PORTS_SHARE_BEFORE, and lets every bind go on.
 *
 * It differs where ports_plan() says PORTS_SHARE_AFTER, as no program is run after a bind that may
 * set an option; and for an address that is not of the socket's family, to which no bind succeeds.
 * These binds it leaves alone.
 */
void instructions_write(struct instructions *all, const struct ports *ports, int family);

#endif
