/*
 * libreuse.c - the LD_PRELOAD shim: a bind() that lets the port be shared.
 *
 *     LD_PRELOAD=libreuse.so ./legacy_server
 *
 * It sets SO_REUSEPORT (socket(7)) on every TCP and UDP socket that the program binds, then calls
 * the bind() that the program would have called.  Nothing else is interposed.  share.h is
 * what it does around a bind, ports.h which binds it does that to, log.h what it says of them.
 *
 * bind() may be called in a signal handler, in a vfork() child, by many threads, and before the
 * constructors have run: nothing here allocates, locks, uses stdio, or writes to memory that is
 * shared, but for the constructor.
 *
 * The file is linked without libraries, so that it loads into programs on glibc and on musl; it
 * may use only functions that both have always had.
 */
#define _GNU_SOURCE
#include "log.h"
#include "ports.h"
#include "share.h"

#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* glibc declares bind() with a transparent union of address types; this gives our function its
   name. */
int shared_bind(int fd, const void *address, socklen_t length) __asm__("bind")
    __attribute__((visibility("default")));

/* Before glibc 2.34 a program that is not linked with libdl has no dlsym(). */
extern __typeof__(dlsym) dlsym __attribute__((weak));

struct settings {
    int (*next_bind)(int, const void *, socklen_t);
    bool log;
    struct ports ports;
};

/* Written once, by the constructor. */
static struct settings at_load;
static atomic_bool loaded;

/* bind(2) as the kernel has it, past every library.  An address that a program gives may be at any
   place, so it is a struct sockaddr to nobody before it has been copied. */
static int bind_directly(int fd, const void *address, socklen_t length) {
#ifdef SYS_socketcall /* older than SYS_bind where there are both, and so in more seccomp filters  \
                       */
    enum { SOCKETCALL_BIND = 2 };
    unsigned long arguments[] = {(unsigned long)fd, (unsigned long)address, length};
    return (int)syscall(SYS_socketcall, SOCKETCALL_BIND, arguments);
#else
    return (int)syscall(SYS_bind, fd, address, length);
#endif
}

/* Fills in SETTINGS from the environment and the libraries that are loaded. */
static void get_settings(struct settings *settings, struct ports_error *error) {
    void *next = dlsym ? dlsym(RTLD_NEXT, "bind") : NULL;
    settings->next_bind = bind_directly;
    if (next)
        memcpy(&settings->next_bind, &next, sizeof next);
    settings->log = log_wanted();
    ports_read(&settings->ports, getenv("LIBREUSE_PORTS"), error);
}

__attribute__((constructor)) static void load(void) {
    int saved = errno;
    struct ports_error error = {0};
    get_settings(&at_load, &error);
    if (error.reason)
        log_bad_ports(&error);
    atomic_store(&loaded, true);
    errno = saved;
}

/*
 * Whether the 4 bytes at ADDRESS can be read.  The kernel is asked, by a bind() of them: it copies
 * an address in (move_addr_to_kernel() in net/socket.c) before it finds that one so short names
 * nothing (EINVAL, inet_bind() and inet6_bind()).  This is a call that any seccomp filter the
 * program has must allow anyway.
 */
static bool four_bytes_readable(int fd, uintptr_t address) {
    return !(bind_directly(fd, (const void *)address, 4) && errno == EFAULT);
}

/* Whether the LENGTH bytes at ADDRESS, at most a page of them, can be read.  Any number may stand
   there for a pointer, also one so near the end of memory that no pointer can be moved past it. */
static bool readable(int fd, const void *address, socklen_t length) {
    enum { PAGE = 4096 }; /* the smallest there is */
    uintptr_t first = (uintptr_t)address, last = first + length - 1;
    if (!four_bytes_readable(fd, first))
        return false;
    return first / PAGE == last / PAGE || four_bytes_readable(fd, last - 3);
}

/* bind() with SETTINGS; the result and errno are the next bind's, errno kept if that succeeds. */
static int bind_with(const struct settings *settings, int fd, const void *address,
                     socklen_t length) {
    int saved = errno;
    struct share share;
    if (share_socket(&share, fd) && length >= sizeof(struct sockaddr_in) &&
        length <= sizeof share.address && readable(fd, address, length)) {
        memcpy(&share.address, address, length);
        share.length = length;
        share_before(&share, &settings->ports);
    }
    errno = saved;
    int result = settings->next_bind(fd, address, length);
    if (share.plan == PORTS_IGNORE)
        return result;

    saved = errno;
    share_after(&share, &settings->ports, result ? saved : 0);
    if (settings->log)
        share_log(&share, getpid(), result ? saved : 0);
    errno = saved;
    return result;
}

/* For a constructor that binds before ours has run.  Apart, to spare every other bind the room
   that the settings take on the stack. */
__attribute__((noinline)) static int early_bind(int fd, const void *address, socklen_t length) {
    int saved = errno;
    struct settings settings;
    struct ports_error error;
    get_settings(&settings, &error);
    errno = saved;
    return bind_with(&settings, fd, address, length);
}

/* bind(2), shared.  Returns what bind(2) returns for the same call, errno included. */
int shared_bind(int fd, const void *address, socklen_t length) {
    if (!atomic_load(&loaded))
        return early_bind(fd, address, length);
    return bind_with(&at_load, fd, address, length);
}
