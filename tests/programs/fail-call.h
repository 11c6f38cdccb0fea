/*
 * fail-call.h - a seccomp filter that makes one system call fail or kill, in this process and its
 * children.
 */
#ifndef FAIL_CALL_H
#define FAIL_CALL_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Installs the filter of LENGTH instructions.  Returns 0; -1 and errno as seccomp(2), EACCES where
   the process has neither CAP_SYS_ADMIN nor given up privileges. */
static inline int install_filter(struct sock_filter *code, unsigned short length) {
    struct sock_fprog program = {length, code};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

/* System call NUMBER will have ACTION taken, of seccomp(2).  Returns as install_filter(). */
static inline int filter_call(unsigned number, unsigned action) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    return install_filter(code, sizeof code / sizeof *code);
}

/* The same where its second argument is SECOND, in its lower 32 bits, as a request to ioctl(2) is.
 */
static inline int filter_request(unsigned number, unsigned second, unsigned action) {
    enum { LOWER = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0 };
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]) + LOWER),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, second, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    return install_filter(code, sizeof code / sizeof *code);
}

/* System call NUMBER will fail with ERROR; returns as filter_call(). */
static inline int fail_call(unsigned number, unsigned error) {
    return filter_call(number, SECCOMP_RET_ERRNO | error);
}

#endif
