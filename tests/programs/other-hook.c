/*
 * other-hook CGROUP FLAGS [COUNT] - attaches COUNT (1) programs, as somebody else may, to the bind
 * hook for IPv4 of the cgroup at the path CGROUP: they let no socket be bound to port 7009 (EPERM).
 * FLAGS are those of BPF_PROG_ATTACH: 0, 1 (BPF_F_ALLOW_OVERRIDE) or 2 (BPF_F_ALLOW_MULTI).
 *
 * Exits 77 where that is not permitted.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PORT = 7009, NOT_PERMITTED = 77 };

static int bpf(enum bpf_cmd command, union bpf_attr *attributes) {
    int result = (int)syscall(SYS_bpf, command, attributes, sizeof *attributes);
    if (result < 0) {
        int error = errno;
        perror("other-hook");
        exit(error == EPERM ? NOT_PERMITTED : 1);
    }
    return result;
}

static int load(void) {
    struct bpf_insn code[] = {
        {.code = BPF_LDX | BPF_MEM | BPF_W,
         .dst_reg = 2,
         .src_reg = 1,
         .off = offsetof(struct bpf_sock_addr, user_port)},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1},
        {.code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = 2, .off = 1, .imm = htons(PORT)},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0},
        {.code = BPF_JMP | BPF_EXIT},
    };
    union bpf_attr attributes = {.prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
                                 .expected_attach_type = BPF_CGROUP_INET4_BIND,
                                 .insns = (uintptr_t)code,
                                 .insn_cnt = sizeof code / sizeof *code,
                                 .license = (uintptr_t) ""};
    return bpf(BPF_PROG_LOAD, &attributes);
}

int main(int argc, char **argv) {
    int cgroup = argc > 2 ? open(argv[1], O_RDONLY | O_DIRECTORY) : -1;
    int count = argc > 3 ? atoi(argv[3]) : 1;
    if (cgroup < 0) {
        fprintf(stderr, "usage: other-hook CGROUP FLAGS [COUNT]\n");
        return 2;
    }
    for (int i = 0; i < count; i++) {
        union bpf_attr attributes = {.target_fd = (uint32_t)cgroup,
                                     .attach_bpf_fd = (uint32_t)load(),
                                     .attach_type = BPF_CGROUP_INET4_BIND,
                                     .attach_flags = (uint32_t)atoi(argv[2])};
        bpf(BPF_PROG_ATTACH, &attributes);
    }
    return 0;
}
