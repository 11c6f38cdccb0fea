/*
 * steer.c - writes the program that the kernel asks for a place, in classic BPF
 * (Documentation/networking/filter.rst); see steer.h.
 *
 * The kernel runs it on the packet from behind the TCP or UDP header on; what is before is found
 * from the IP header on (SKF_NET_OFF).  A place that nobody has makes the kernel choose by a hash
 * of its own, among all members.
 */
#define _GNU_SOURCE
#include "steer.h"

#include <errno.h>
#include <linux/filter.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SO_ATTACH_REUSEPORT_CBPF
#define SO_ATTACH_REUSEPORT_CBPF 51
#endif
#ifndef SO_DETACH_REUSEPORT_BPF
#define SO_DETACH_REUSEPORT_BPF 68
#endif

enum { NOBODY = 0x7fffffff }; /* a place that no member has */

struct program {
    struct sock_filter code[BPF_MAXINSNS];
    size_t length; /* what it would take, though there is no room */
};

/* Appends one instruction, as filter.h writes it. */
static void append(struct program *program, struct sock_filter instruction) {
    if (program->length < BPF_MAXINSNS)
        program->code[program->length] = instruction;
    program->length++;
}

static void emit(struct program *program, unsigned code, uint32_t value) {
    append(program, (struct sock_filter){(uint16_t)code, 0, 0, value});
}

/* Appends a comparison of the accumulator to VALUE, after which the next instructions are skipped:
   IF_SO of them, or IF_NOT, up to 255. */
static void emit_skip(struct program *program, unsigned comparison, uint32_t value, uint8_t if_so,
                      uint8_t if_not) {
    append(program,
           (struct sock_filter){(uint16_t)(BPF_JMP | comparison | BPF_K), if_so, if_not, value});
}

/* Appends a jump whose end is told by land(). */
static size_t emit_jump(struct program *program) {
    emit(program, BPF_JMP | BPF_JA, 0);
    return program->length - 1;
}

/* Has the jump at PLACE end at the next instruction. */
static void land(struct program *program, size_t place) {
    if (place < BPF_MAXINSNS)
        program->code[place].k = (uint32_t)(program->length - place - 1);
}

/* Appends the loading of the 4 octets at OFFSET of the IP header. */
static void emit_load(struct program *program, unsigned offset) {
    emit(program, BPF_LD | BPF_W | BPF_ABS, (uint32_t)SKF_NET_OFF + offset);
}

/* Appends the return of a place for each lane; the accumulator has the source address. */
static void emit_lanes(struct program *program, const struct steer_plan *plan) {
    for (size_t i = 0; i < plan->lane_count; i++) {
        emit_skip(program, BPF_JEQ, plan->lanes[i].address, 0, 1);
        emit(program, BPF_RET | BPF_K, plan->lanes[i].place);
    }
}

/* Appends: scratch word 0 is the source address, the accumulator the ports or, behind other headers
   of IPv6, what is in their place. */
static void emit_flow(struct program *program, const struct steer_plan *plan) {
    emit(program, BPF_LD | BPF_B | BPF_ABS, (uint32_t)SKF_NET_OFF);
    emit(program, BPF_ALU | BPF_RSH | BPF_K, 4);
    emit_skip(program, BPF_JEQ, 6, 0, 1);
    size_t to_ipv6 = emit_jump(program);

    emit_load(program, 12);
    emit_lanes(program, plan);
    emit(program, BPF_ST, 0);
    emit(program, BPF_LDX | BPF_B | BPF_MSH, (uint32_t)SKF_NET_OFF); /* behind the options */
    emit(program, BPF_LD | BPF_W | BPF_IND, (uint32_t)SKF_NET_OFF);
    size_t to_end = emit_jump(program);

    land(program, to_ipv6);
    emit_load(program, 8);
    for (unsigned offset = 12; offset <= 20; offset += 4) {
        emit(program, BPF_MISC | BPF_TAX, 0);
        emit_load(program, offset);
        emit(program, BPF_ALU | BPF_XOR | BPF_X, 0);
    }
    emit(program, BPF_ST, 0);
    emit_load(program, 40);
    land(program, to_end);
}

/* Appends: the accumulator is a hash of the flow, less than STEER_WHOLE.  The upper bits of a
   product depend on every bit. */
static void emit_hash(struct program *program) {
    emit(program, BPF_LDX | BPF_MEM, 0);
    emit(program, BPF_ALU | BPF_XOR | BPF_X, 0);
    emit(program, BPF_MISC | BPF_TAX, 0);
    emit(program, BPF_ALU | BPF_RSH | BPF_K, 16);
    emit(program, BPF_ALU | BPF_XOR | BPF_X, 0);
    emit(program, BPF_ALU | BPF_MUL | BPF_K, 0x9e3779b1);
    emit(program, BPF_ALU | BPF_RSH | BPF_K, 16);
}

/* Appends the return of one of SET's places, by the accumulator, which is less than LIMIT. */
static void emit_choice(struct program *program, const struct steer_set *set, uint32_t limit) {
    emit(program, BPF_ALU | BPF_MUL | BPF_K, (uint32_t)set->count);
    emit(program, BPF_ALU | BPF_DIV | BPF_K, limit);
    for (size_t first = 0, end; first < set->count; first = end) {
        end = first + 1;
        while (end < set->count && set->places[end] == set->places[end - 1] + 1)
            end++;
        /* Those of the accumulator's values that are from FIRST up to END. */
        emit_skip(program, BPF_JGE, (uint32_t)end, 2, 0);
        emit(program, BPF_ALU | BPF_ADD | BPF_K, (uint32_t)(set->places[first] - first));
        emit(program, BPF_RET | BPF_A, 0);
    }
    emit(program, BPF_RET | BPF_K, NOBODY);
}

bool steer_attach(int fd, const struct steer_plan *plan) {
    struct program program = {.length = 0};
    emit_flow(&program, plan);
    emit_hash(&program);
    uint32_t share = plan->rest.count ? plan->share : STEER_WHOLE;
    if (share == 0) {
        emit_choice(&program, &plan->rest, STEER_WHOLE);
    } else if (share < STEER_WHOLE) {
        emit_skip(&program, BPF_JGE, share, 0, 2);
        emit(&program, BPF_ALU | BPF_SUB | BPF_K, share);
        size_t to_rest = emit_jump(&program);
        emit_choice(&program, &plan->to, share);
        land(&program, to_rest);
        emit_choice(&program, &plan->rest, STEER_WHOLE - share);
    } else {
        emit_choice(&program, &plan->to, STEER_WHOLE);
    }
    if (program.length > BPF_MAXINSNS) {
        errno = E2BIG;
        return false;
    }
    struct sock_fprog attached;
    memset(&attached, 0, sizeof attached); /* the kernel copies the padding too */
    attached.len = (uint16_t)program.length;
    attached.filter = program.code;
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &attached, sizeof attached) == 0;
}

bool steer_detach(int fd) {
    return setsockopt(fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &(int){0}, sizeof(int)) == 0 ||
           errno == ENOENT; /* it was so */
}
