/*
 * permits.c - see permits.h.
 *
 * A child makes each call, in a way that always fails and has no effect.  If it is killed, or a
 * call fails otherwise than the kernel has it fail, that call is forbidden or missing.
 */
#define _GNU_SOURCE
#include "permits.h"
#include "kernel.h"
#include "tool.h"

#include <errno.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* How far the child has come, in memory that it shares. */
struct progress {
    const char *call; /* the last one that it has made; NULL once all are known to be permitted */
    int error;        /* what that one failed with; 0 if it has killed the child */
    bool outside;     /* the child is in a process namespace that its parent is not in */
};

/* Makes every call. */
static void make_calls(struct progress *progress) {
    enum { NOBODY = INT_MAX }; /* greater than any process id: PID_MAX_LIMIT in linux/threads.h */
    char byte;
    struct iovec here = {&byte, 1};
    const struct {
        const char *name;
        int error; /* what it fails with where it is permitted */
        long number, arguments[6];
    } calls[] = {
        {"seccomp",
         EFAULT,
         SYS_seccomp,
         {SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER}},
        {"pidfd_open", ESRCH, SYS_pidfd_open, {NOBODY}},
        {"pidfd_getfd", EBADF, SYS_pidfd_getfd, {-1}},
        {"process_vm_readv", ESRCH, SYS_process_vm_readv, {NOBODY, (long)&here, 1, (long)&here, 1}},
        {"ptrace", ESRCH, SYS_ptrace, {PTRACE_SEIZE, NOBODY}},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        const long *argument = calls[i].arguments;
        progress->call = calls[i].name;
        progress->error = 0;
        syscall(calls[i].number, argument[0], argument[1], argument[2], argument[3], argument[4],
                argument[5]);
        progress->error = errno;
        if (errno != calls[i].error)
            return;
    }
    progress->call = NULL;
}

void permits_need(const char *program) {
    struct progress *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        tool_fail("cannot watch '%s': %s", program, strerror(errno));
    pid_t child = fork();
    if (child < 0)
        tool_fail("cannot start '%s': fork: %s", program, strerror(errno));
    if (child == 0) {
        prctl(PR_SET_DUMPABLE, 0); /* no core, if it is killed */
        shared->outside = getppid() == 0;
        make_calls(shared);
        _exit(0);
    }
    waitpid(child, NULL, 0); /* for its end; where SIGCHLD is ignored there is no status */
    if (shared->outside)
        tool_fail("cannot watch '%s' from outside its process namespace; use unshare --fork",
                  program);
    if (shared->call)
        tool_fail("cannot watch '%s': %s: %s; a container or systemd's SystemCallFilter= has to "
                  "permit seccomp, pidfd_open, pidfd_getfd, process_vm_readv and ptrace; or use "
                  "--preload, for a dynamic program, or outside of a container reuse-cgroup; this "
                  "takes Linux 5.6 or newer",
                  program, shared->call,
                  shared->error ? strerror(shared->error) : "killed by a seccomp filter");
    munmap(shared, sizeof *shared);
}
