/*
 * instructions.c - writes a program of BPF_PROG_TYPE_CGROUP_SOCK_ADDR; see instructions.h.
 *
 * The kernel runs it in inet_bind() and inet6_bind() (net/ipv4/af_inet.c, net/ipv6/af_inet6.c),
 * when the address has been found to be long enough, and before anything else is looked at.  Raw,
 * ping, SCTP and L2TP sockets have binds of their own and do not get there.  An MPTCP socket does
 * by the TCP socket within it.
 *
 * What it is given is struct bpf_sock_addr, in register 1: there port and addresses are in the
 * order of the network, in words of 32 bits.  The instructions are those of
 * Documentation/bpf/standardization/instruction-set.rst.
 */
#include "instructions.h"

#include <netinet/in.h>
#include <string.h>

/* What the registers hold, until the option is set: the words of the address are in up to four. */
enum {
    RESULT = BPF_REG_0,
    CONTEXT = BPF_REG_1,
    ADDRESS = BPF_REG_2,
    PORT = BPF_REG_6,
    PROTOCOL = BPF_REG_7,
    STACK = BPF_REG_10
};

/* Where a jump goes, until that place is there and it can land(). */
enum place { NEXT_ITEM = -1, SHARE = -2, END = -3 };

static void append(struct instructions *all, unsigned code, unsigned to, unsigned from, int offset,
                   int32_t value) {
    all->code[all->length++] = (struct bpf_insn){.code = (uint8_t)code,
                                                 .dst_reg = (uint8_t)(to & 0xf),
                                                 .src_reg = (uint8_t)(from & 0xf),
                                                 .off = (int16_t)offset,
                                                 .imm = value};
}

/* Appends the loading of the 32 bits at OFFSET of the context. */
static void load(struct instructions *all, unsigned to, size_t offset) {
    append(all, BPF_LDX | BPF_MEM | BPF_W, to, CONTEXT, (int)offset, 0);
}

/* Appends a move of VALUE into a register. */
static void set(struct instructions *all, unsigned to, int32_t value) {
    append(all, BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value);
}

/* Appends a jump to PLACE if the lower 32 bits of a register compare so to VALUE. */
static void jump_if(struct instructions *all, unsigned comparison, unsigned what, uint32_t value,
                    enum place place) {
    append(all, BPF_JMP32 | comparison | BPF_K, what, 0, place, (int32_t)value);
}

/* Has the jumps to PLACE, from instruction START on, end at the next one. */
static void land(struct instructions *all, size_t start, enum place place) {
    for (size_t i = start; i < all->length; i++) {
        struct bpf_insn *one = &all->code[i];
        if ((BPF_CLASS(one->code) == BPF_JMP || BPF_CLASS(one->code) == BPF_JMP32) &&
            one->off == place)
            one->off = (int16_t)(all->length - i - 1);
    }
}

/* Appends: PROTOCOL is that of TCP or UDP, of which UDP-Lite is a kind; else the end. */
static void read_protocol(struct instructions *all) {
    load(all, PROTOCOL, offsetof(struct bpf_sock_addr, protocol));
    size_t start = all->length;
    jump_if(all, BPF_JEQ, PROTOCOL, PROTOCOL_TCP, NEXT_ITEM);
    jump_if(all, BPF_JEQ, PROTOCOL, PROTOCOL_UDP, NEXT_ITEM);
    jump_if(all, BPF_JNE, PROTOCOL, PROTOCOL_UDPLITE, END);
    set(all, PROTOCOL, PROTOCOL_UDP);
    land(all, start, NEXT_ITEM);
}

/* Appends: the end if the address is not of FAMILY. */
static void check_family(struct instructions *all, int family) {
    load(all, RESULT, offsetof(struct bpf_sock_addr, user_family));
    size_t start = all->length;
    if (family == AF_INET) /* for which the kernel takes AF_UNSPEC, too */
        jump_if(all, BPF_JEQ, RESULT, AF_UNSPEC, NEXT_ITEM);
    jump_if(all, BPF_JNE, RESULT, (uint32_t)family, END);
    land(all, start, NEXT_ITEM);
}

/* Appends: PORT is the port, in the order of the host, of which ADDRESS and what follows are the
   address; the end if it is 0. */
static void read_address(struct instructions *all, int family) {
    load(all, PORT, offsetof(struct bpf_sock_addr, user_port));
    append(all, BPF_ALU | BPF_END | BPF_TO_BE, PORT, 0, 0, 16);
    jump_if(all, BPF_JEQ, PORT, 0, END);
    if (family == AF_INET)
        load(all, ADDRESS, offsetof(struct bpf_sock_addr, user_ip4));
    for (unsigned word = 0; family == AF_INET6 && word < 4; word++)
        load(all, ADDRESS + word, offsetof(struct bpf_sock_addr, user_ip6) + 4 * word);
}

/*
 * The comparisons of an item are made in RESULT, and not in the register that is looked at: else
 * the verifier would learn from each what that register can be, and follow what comes after once
 * for everything that it can have learnt.  For a long list these are hundreds of thousands of
 * steps, of the million that it makes (BPF_COMPLEXITY_LIMIT_INSNS).
 */

/* Appends a comparison of a word of the address to VALUE; the next item if they differ. */
static void compare_word(struct instructions *all, unsigned word, uint32_t value) {
    append(all, BPF_ALU | BPF_MOV | BPF_X, RESULT, word, 0, 0);
    append(all, BPF_ALU | BPF_XOR | BPF_K, RESULT, 0, 0, (int32_t)value);
    jump_if(all, BPF_JNE, RESULT, 0, NEXT_ITEM);
}

/* Appends a comparison of the port to those of ITEM; the next item if it is none of them: if the
   last less the port is, without a sign, more than the last less the first. */
static void compare_port(struct instructions *all, const struct ports_item *item) {
    append(all, BPF_ALU | BPF_MOV | BPF_X, RESULT, PORT, 0, 0);
    append(all, BPF_ALU | BPF_NEG, RESULT, 0, 0, 0);
    append(all, BPF_ALU | BPF_ADD | BPF_K, RESULT, 0, 0, item->last);
    jump_if(all, BPF_JGT, RESULT, (uint32_t)(item->last - item->first), NEXT_ITEM);
}

/* Appends a comparison of the address to that of ITEM; the next item if they differ. */
static void compare_address(struct instructions *all, const struct ports_item *item, int family) {
    uint32_t words[4];
    memcpy(words, item->address, sizeof words);
    if (family == AF_INET)
        compare_word(all, ADDRESS, words[3]);
    for (unsigned word = 0; family == AF_INET6 && word < 4; word++)
        compare_word(all, ADDRESS + word, words[word]);
}

/* Appends: sharing if the bind is one of ITEM. */
static void try_item(struct instructions *all, const struct ports_item *item, int family) {
    size_t start = all->length;
    if (!item->udp)
        jump_if(all, BPF_JNE, PROTOCOL, PROTOCOL_TCP, NEXT_ITEM);
    if (!item->tcp)
        jump_if(all, BPF_JNE, PROTOCOL, PROTOCOL_UDP, NEXT_ITEM);
    compare_port(all, item);
    if (!item->any_address)
        compare_address(all, item, family);
    append(all, BPF_JMP | BPF_JA, 0, 0, SHARE, 0);
    land(all, start, NEXT_ITEM);
}

/* Whether sockets of FAMILY can be bound to the address of ITEM. */
static bool is_of_family(const struct ports_item *item, int family) {
    struct in6_addr address;
    memcpy(&address, item->address, sizeof address);
    return family == AF_INET6 || item->any_address || IN6_IS_ADDR_V4MAPPED(&address);
}

/* Appends the setting of the option, by bpf_setsockopt() (bpf-helpers(7)). */
static void share(struct instructions *all) {
    const int place = -(int)sizeof(uint32_t);
    append(all, BPF_ST | BPF_MEM | BPF_W, STACK, 0, place, 1);
    set(all, BPF_REG_2, SOL_SOCKET);
    set(all, BPF_REG_3, SO_REUSEPORT);
    append(all, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_4, STACK, 0, 0);
    append(all, BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_4, 0, 0, place);
    set(all, BPF_REG_5, sizeof(uint32_t));
    append(all, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_setsockopt);
}

void instructions_write(struct instructions *all, const struct ports *ports, int family) {
    all->length = 0;
    read_protocol(all);
    check_family(all, family);
    read_address(all, family);
    bool any = !ports->listed;
    for (unsigned i = 0; i < ports->count; i++) {
        if (!is_of_family(&ports->items[i], family))
            continue;
        try_item(all, &ports->items[i], family);
        any = true;
    }
    if (ports->listed)
        append(all, BPF_JMP | BPF_JA, 0, 0, END, 0);
    land(all, 0, SHARE);
    if (any) /* the verifier takes nothing that is never reached */
        share(all);
    land(all, 0, END);
    set(all, RESULT, 1); /* let the bind go on */
    append(all, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}
