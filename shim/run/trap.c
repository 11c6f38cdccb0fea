/*
 * trap.c - traps bind() by seccomp user notification (seccomp_unotify(2)) and shares the sockets;
 * see trap.h.
 *
 * The program makes every bind itself, by its own privileges and confinement, and gets from the
 * kernel what it would have got.  Around that call the socket, of which a duplicate is taken, is
 * flagged just as the shim does it.  To act after the call and before the program goes on, the
 * thread is told to stop on its way out of the kernel (PTRACE_INTERRUPT) and let go at once.
 */
#define _GNU_SOURCE
#include "trap.h"
#include "kernel.h"
#include "share.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/kcmp.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

/* SECCOMP_IOCTL_NOTIF_ID_VALID_WRONG_DIR in kernel/seccomp.c: the number of the request at first.
 */
#define ID_VALID_AT_FIRST SECCOMP_IOR(2, __u64)

/* pidfd_open(2), since Linux 6.9: the thread itself, that may have descriptors of its own. */
enum { PIDFD_OF_THREAD = O_EXCL };

/*
 * What depends on the machine: the system calls by which programs bind there, and where the result
 * of one is found.  A 64-bit reuse-run watches 32-bit programs too, whose calls have other numbers.
 */
struct bind_call {
    uint32_t arch, number; /* as struct seccomp_data has them */
    bool by_socketcall;    /* socketcall(2): its first argument says which call it is, the second
                              where that one's arguments are */
};

#if defined __x86_64__ || defined __i386__
static const struct bind_call bind_calls[] = {
#ifdef __x86_64__
    {AUDIT_ARCH_X86_64, SYS_bind, false},
    {AUDIT_ARCH_X86_64, 0x40000000 + SYS_bind, false}, /* x32 */
#endif
    {AUDIT_ARCH_I386, 361, false},
    {AUDIT_ARCH_I386, 102, true},
};

/* Reads what the call of the stopped thread TID has returned; returns whether it could. */
static bool read_result(pid_t tid, int *result) {
    struct user_regs_struct registers; /* in the tracer's form, whatever the word size of TID */
    if (ptrace(PTRACE_GETREGS, tid, NULL, &registers))
        return false;
#ifdef __x86_64__
    *result = (int)registers.rax;
#else
    *result = (int)registers.eax;
#endif
    return true;
}
#elif defined __aarch64__ && defined __AARCH64EL__
static const struct bind_call bind_calls[] = {
    {AUDIT_ARCH_AARCH64, SYS_bind, false},
    {AUDIT_ARCH_ARM, 282, false},
};

static bool read_result(pid_t tid, int *result) {
    struct user_regs_struct registers; /* or the 18 words of a 32-bit thread, r0 the first too */
    struct iovec room = {&registers, sizeof registers};
    if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &room))
        return false;
    *result = (int)registers.regs[0];
    return true;
}
#else
#error "reuse-run is for x86 and 64-bit ARM; for more, add to bind_calls and read_result()"
#endif

enum { BIND_CALLS = sizeof bind_calls / sizeof *bind_calls };
enum { SOCKETCALL_BIND = 2 }; /* SYS_BIND in linux/net.h */

/* bind(-1, NULL, IS_IT_TRAPPED) asks whether it is trapped: no is EBADF, yes EALREADY. */
enum { IS_IT_TRAPPED = 0x72657573 };

static int seccomp(unsigned operation, unsigned long flags, void *argument) {
    return (int)syscall(SYS_seccomp, operation, flags, argument);
}

/* ioctl(2) on the listener, as seccomp_unotify(2) has it; musl's ioctl() would take the request for
   an int, which it does not fit into. */
static int on_listener(int listener, unsigned long request, void *argument) {
    return (int)syscall(SYS_ioctl, listener, request, argument);
}

/* Whether the kernel knows the flag; it looks at the flags before the filter. */
static bool can_wait_killable(void) {
    return seccomp(SECCOMP_SET_MODE_FILTER,
                   SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
                   NULL) &&
           errno == EFAULT;
}

enum { CALL_MAX = 7, FILTER_MAX = BIND_CALLS * CALL_MAX + 1 }; /* instructions */

/* Fills in FILTER, of FILTER_MAX instructions at most, and returns how many it has: what is one of
   bind_calls notifies, all else is allowed. */
static unsigned short make_filter(struct sock_filter *filter) {
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip)
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, action)
    struct sock_filter *end = filter;
    for (const struct bind_call *call = bind_calls; call < bind_calls + BIND_CALLS; call++) {
        /* No argument is looked at but socketcall's: the kernel finds out which calls are always
           allowed, and runs no filter for them (seccomp_cache_prepare(), Linux 5.11). */
        const struct sock_filter by_number[] = {
            LOAD(arch),
            UNLESS(call->arch, 3),
            LOAD(nr),
            UNLESS(call->number, 1),
            RETURN(SECCOMP_RET_USER_NOTIF),
        };
        const struct sock_filter by_socketcall[CALL_MAX] = {
            LOAD(arch),
            UNLESS(call->arch, 5),
            LOAD(nr),
            UNLESS(call->number, 3),
            LOAD(args[0]),
            UNLESS(SOCKETCALL_BIND, 1),
            RETURN(SECCOMP_RET_USER_NOTIF),
        };
        size_t size = call->by_socketcall ? sizeof by_socketcall : sizeof by_number;
        memcpy(end, call->by_socketcall ? by_socketcall : by_number, size);
        end += size / sizeof *end;
    }
    *end++ = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    return (unsigned short)(end - filter);
#undef LOAD
#undef UNLESS
#undef RETURN
}

int trap_install(void) {
    struct sock_filter filter[FILTER_MAX];
    struct sock_fprog program = {make_filter(filter), filter};
    /* SPEC_ALLOW: before Linux 5.16 a filter would else slow the program down (spec_v2=, ssbd). */
    unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW |
                          (can_wait_killable() ? SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV : 0);
    int listener = seccomp(SECCOMP_SET_MODE_FILTER, flags, &program);
    if (listener < 0 && errno == EACCES && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
        listener = seccomp(SECCOMP_SET_MODE_FILTER, flags, &program);
    return listener;
}

/* Past the C library: what else is preloaded may interpose bind(), and read the address. */
bool trap_installed(void) {
    return syscall(SYS_bind, -1, NULL, IS_IT_TRAPPED) && errno == EALREADY;
}

bool trap_open(struct trap *trap, int listener, const struct ports *ports, bool log) {
    *trap = (struct trap){
        .listener = listener, .log = log, .ports = ports, .killable = can_wait_killable()};
    if (seccomp(SECCOMP_GET_NOTIF_SIZES, 0, &trap->sizes))
        return false;
    /* Since Linux 6.6, for speed: program and supervisor take turns on one processor. */
    on_listener(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS,
                (void *)SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
    trap->request = malloc(trap->sizes.seccomp_notif);
    trap->response = calloc(1, trap->sizes.seccomp_notif_resp);
    return trap->request && trap->response;
}

/* The process that thread TID is of, from proc(5); TID itself if that cannot be read. */
static pid_t process_of(pid_t tid) {
    char path[64], line[128];
    int pid = tid;
    snprintf(path, sizeof path, "/proc/%d/status", (int)tid);
    FILE *status = fopen(path, "re");
    if (!status)
        return tid;
    while (fgets(line, sizeof line, status) && sscanf(line, "Tgid: %d", &pid) != 1)
        ;
    fclose(status);
    return (pid_t)pid;
}

/* The process of thread TID, by a pidfd; -1 and errno if the thread has other descriptors. */
static int open_process_of(pid_t tid) {
    pid_t process = process_of(tid);
    if (syscall(SYS_kcmp, tid, process, KCMP_FILES, 0, 0) > 0) { /* else the same, or no kcmp(2) */
        errno = EBADF;
        return -1;
    }
    return (int)syscall(SYS_pidfd_open, process, 0);
}

int trap_take(pid_t tid, int fd) {
    int process = (int)syscall(SYS_pidfd_open, tid, PIDFD_OF_THREAD);
    if (process < 0 && errno == EINVAL)
        process = open_process_of(tid);
    if (process < 0)
        return -1;
    int duplicate = (int)syscall(SYS_pidfd_getfd, process, fd, 0);
    int error = errno;
    close(process);
    errno = error;
    return duplicate;
}

/* Copies LENGTH bytes at ADDRESS in the memory of TID; returns whether it got them all. */
static bool read_memory(pid_t tid, uint64_t address, void *copy, size_t length) {
    struct iovec here = {copy, length}, there = {(void *)(uintptr_t)address, length};
    return process_vm_readv(tid, &here, 1, &there, 1, 0) == (ssize_t)length;
}

/* A trapped call, by the numbers of the process that makes it. */
struct call {
    pid_t tid;
    int fd;
    uint64_t address;
    socklen_t length;
};

static bool is_socketcall(const struct seccomp_data *data) {
    for (int i = 0; i < BIND_CALLS; i++)
        if (data->arch == bind_calls[i].arch && (uint32_t)data->nr == bind_calls[i].number)
            return bind_calls[i].by_socketcall;
    return false;
}

/* Fills in the call's arguments; returns false if they cannot be read. */
static bool read_arguments(struct call *call, const struct seccomp_notif *request) {
    const struct seccomp_data *data = &request->data;
    *call = (struct call){.tid = (pid_t)request->pid};
    if (is_socketcall(data)) {
        uint32_t arguments[3];
        if (!read_memory(call->tid, data->args[1], arguments, sizeof arguments))
            return false;
        call->fd = (int)arguments[0];
        call->address = arguments[1];
        call->length = arguments[2];
    } else {
        call->fd = (int)data->args[0];
        call->address = data->args[1];
        call->length = (socklen_t)data->args[2];
    }
    return true;
}

/* Begins SHARE for the call, with a duplicate of its socket; returns whether it is to be shared or
   logged.  A duplicate that it leaves in SHARE->fd, where that is not -1, is to be closed. */
static bool begin(struct share *share, const struct call *call) {
    *share = (struct share){.fd = -1, .length = call->length};
    if (call->length < sizeof(struct sockaddr_in) || call->length > sizeof share->address ||
        !read_memory(call->tid, call->address, &share->address, call->length))
        return false;
    int socket = trap_take(call->tid, call->fd);
    return socket >= 0 && share_socket(share, socket);
}

/* Whether the thread still waits for the answer: else its number may be another thread's by now,
   and what was read of it too (SECCOMP_IOCTL_NOTIF_ID_VALID in seccomp_unotify(2)). */
static bool still_waits(const struct trap *trap) {
    uint64_t id = trap->request->id;
    if (on_listener(trap->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0)
        return true;
    /* A kernel that knows that number only. */
    return errno == EINVAL && on_listener(trap->listener, ID_VALID_AT_FIRST, &id) == 0;
}

/* The call returns ERROR, or success if that is 0. */
static void answer(const struct trap *trap, int error) {
    *trap->response = (struct seccomp_notif_resp){.id = trap->request->id, .error = -error};
    on_listener(trap->listener, SECCOMP_IOCTL_NOTIF_SEND, trap->response);
}

/* The kernel makes the call, as if it had not been trapped. */
static void let_go_on(const struct trap *trap) {
    *trap->response = (struct seccomp_notif_resp){.id = trap->request->id,
                                                  .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    on_listener(trap->listener, SECCOMP_IOCTL_NOTIF_SEND, trap->response);
}

/*
 * Has the thread of the call, which waits for an answer, stop when its call is over.  Returns false
 * where that cannot be: a debugger has it; or before Linux 5.19, when it would not go on waiting.
 */
static bool will_stop(const struct trap *trap, pid_t tid) {
    if (!trap->killable || ptrace(PTRACE_SEIZE, tid, NULL, NULL))
        return false;
    /* Seized, the number cannot become another thread's unnoticed. */
    if (still_waits(trap) && ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) == 0)
        return true;
    ptrace(PTRACE_DETACH, tid, NULL, NULL);
    return false;
}

/*
 * Waits until TID has stopped, its call over; returns that call's error, 0 for success.  If TID was
 * killed instead, EINTR, and it stays a zombie for whoever reaps.  EINTR too if another thread has
 * taken over its number, by execve(2): that thread is not traced, and so a wait that blocks could
 * be one for the end of the program.  The bind takes microseconds; this spins for as long.
 */
static int error_when_stopped(pid_t tid) {
    siginfo_t info = {0};
    while (waitid(P_PID, (id_t)tid, &info, WSTOPPED | WEXITED | WNOWAIT | WNOHANG | __WALL) == 0 &&
           !info.si_pid) {
        if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) && errno == ESRCH)
            return EINTR;
        sched_yield();
    }
    if (info.si_code != CLD_TRAPPED)
        return EINTR;
    waitid(P_PID, (id_t)tid, &info, WSTOPPED | WNOHANG | __WALL);
    int result;
    return read_result(tid, &result) ? -result : EINTR;
}

/* Has the socket of the call shared.  Returns whether the call has been made, its thread stopped;
   else it is still to go on. */
static bool share_call(const struct trap *trap, const struct call *call, struct share *share) {
    int bind_error = 0;
    share_before(share, trap->ports);
    if (share->plan == PORTS_IGNORE || (share->plan == PORTS_LEAVE_OUT && !trap->log))
        return false;
    bool stops = will_stop(trap, call->tid);
    if (stops) {
        let_go_on(trap);
        bind_error = error_when_stopped(call->tid);
        share_after(share, trap->ports, bind_error);
    } else if (share->plan == PORTS_SHARE_AFTER) {
        share->option_error = EPERM; /* as of ptrace(2) */
    }
    if (trap->log)
        share_log(share, process_of(call->tid), bind_error);
    return stops;
}

/* Answers the call in TRAP->request.  The duplicate is closed before the thread goes on: from then
   on it may close the socket, and its port is to be free. */
static void answer_request(struct trap *trap) {
    struct call call;
    struct share share = {.fd = -1};
    bool known = read_arguments(&call, trap->request);
    if (known && call.fd == -1 && !call.address && call.length == IS_IT_TRAPPED)
        answer(trap, EALREADY);
    bool stopped =
        known && begin(&share, &call) && still_waits(trap) && share_call(trap, &call, &share);
    if (share.fd >= 0)
        close(share.fd);
    if (stopped)
        ptrace(PTRACE_DETACH, call.tid, NULL, NULL);
    else
        let_go_on(trap); /* if it has not been answered */
}

void trap_answer(struct trap *trap) {
    memset(trap->request, 0, trap->sizes.seccomp_notif);
    if (on_listener(trap->listener, SECCOMP_IOCTL_NOTIF_RECV, trap->request))
        return; /* ENOENT: the thread has been killed meanwhile */
    answer_request(trap);
}
