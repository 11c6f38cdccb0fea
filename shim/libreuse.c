/*
 * libreuse.c - the LD_PRELOAD shim: a bind() that lets the port be shared.
 *
 *     LD_PRELOAD=libreuse.so ./legacy_server
 *
 * It sets SO_REUSEPORT (socket(7)) on every TCP and UDP socket that the program binds, then calls
 * the bind() that the program would have called.  Nothing else is interposed.  ports.h says which
 * binds are shared, log.h what is said of them.
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

#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* glibc declares bind() with a transparent union of address types; this gives our function, with
   the prototype of bind(2), its name. */
int shared_bind(int fd, const struct sockaddr *address, socklen_t length) __asm__("bind")
    __attribute__((visibility("default")));

/* Before glibc 2.34 a program that is not linked with libdl has no dlsym(). */
extern __typeof__(dlsym) dlsym __attribute__((weak));

struct settings {
    int (*next_bind)(int, const struct sockaddr *, socklen_t);
    bool log;
    struct ports ports;
};

/* Written once, by the constructor. */
static struct settings at_load;
static atomic_bool loaded;

/* bind(2) as the kernel has it, past every library. */
static int bind_directly(int fd, const struct sockaddr *address, socklen_t length) {
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

static int get_option(int fd, int option) {
    int value = -1;
    socklen_t length = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &length) ? -1 : value;
}

/* Sets SO_REUSEPORT to VALUE; returns 0 or the error number. */
static int set_reuseport(int fd, int value) {
    return setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &value, sizeof value) ? errno : 0;
}

/*
 * Whether the 4 bytes at ADDRESS can be read.  The kernel is asked, by a bind() of them: it copies
 * an address in (move_addr_to_kernel() in net/socket.c) before it finds that one so short names
 * nothing (EINVAL, inet_bind() and inet6_bind()).  This is a call that any seccomp filter the
 * program has must allow anyway.
 */
static bool four_bytes_readable(int fd, const char *address) {
    return !(bind_directly(fd, (const struct sockaddr *)(const void *)address, 4) &&
             errno == EFAULT);
}

/* Whether the LENGTH bytes at ADDRESS, at most a page of them, can be read. */
static bool readable(int fd, const struct sockaddr *address, socklen_t length) {
    enum { PAGE = 4096 }; /* the smallest there is */
    const char *first = (const char *)address, *last_four = first + length - 4;
    if (!four_bytes_readable(fd, first))
        return false;
    bool one_page = (uintptr_t)first / PAGE == ((uintptr_t)first + length - 1) / PAGE;
    return one_page || four_bytes_readable(fd, last_four);
}

/* A call of bind() by the program, and what is known of its socket and address. */
struct call {
    int fd;
    const struct sockaddr *address; /* the program's pointer, good or bad */
    socklen_t length;
    int protocol;
    struct sockaddr_storage copy; /* what ADDRESS points at, once a plan is made */
};

static enum ports_plan make_plan(struct call *call, const struct settings *settings) {
    int type = get_option(call->fd, SO_TYPE);
    call->protocol = get_option(call->fd, SO_PROTOCOL);
    if (!ports_shareable(type, call->protocol) || call->length < sizeof(struct sockaddr_in) ||
        call->length > sizeof call->copy || !readable(call->fd, call->address, call->length))
        return PORTS_IGNORE;
    memcpy(&call->copy, call->address, call->length);
    return ports_plan(&settings->ports, call->protocol, (struct sockaddr *)&call->copy,
                      call->length);
}

/*
 * After a bind that failed: clears the option, so that the socket's next bind is decided afresh
 * (to port 0, say, or to a port that is left out).  Only a socket that already has a port, and a
 * shared one, keeps it.
 */
static void clear_reuseport(const struct call *call, const struct settings *settings) {
    struct sockaddr_storage name;
    struct sockaddr *address = (struct sockaddr *)&name;
    socklen_t length = sizeof name;
    if (getsockname(call->fd, address, &length) == 0 &&
        ports_plan(&settings->ports, call->protocol, address, length) == PORTS_SHARE_BEFORE)
        return;
    set_reuseport(call->fd, 0);
}

/*
 * After a bind to port 0 that succeeded: whether the kernel is yet to pick the port, when the
 * socket connects (IP_BIND_ADDRESS_NO_PORT in ip(7)).  A UDP port would then not stay unique if the
 * option were set; a TCP port does.
 */
static bool awaits_port(const struct call *call) {
    struct sockaddr_in6 name = {0}; /* sockaddr_in has its port at the same place */
    socklen_t length = sizeof name;
    return (call->protocol == PROTOCOL_UDP || call->protocol == PROTOCOL_UDPLITE) &&
           getsockname(call->fd, (struct sockaddr *)&name, &length) == 0 && name.sin6_port == 0;
}

static void log_outcome(const struct call *call, enum ports_plan plan, int option_error,
                        int bind_error) {
    struct sockaddr_storage name = call->copy;
    socklen_t length = sizeof name;
    if (!bind_error) /* the kernel may have picked the port */
        getsockname(call->fd, (struct sockaddr *)&name, &length);
    log_bind(&(struct log_bind){.pid = getpid(),
                                .protocol = call->protocol,
                                .address = (struct sockaddr *)&name,
                                .plan = plan,
                                .option_error = option_error,
                                .bind_error = bind_error});
}

/* bind() with SETTINGS; the result and errno are the next bind's, errno kept if that succeeds. */
static int bind_with(const struct settings *settings, int fd, const struct sockaddr *address,
                     socklen_t length) {
    int saved = errno, option_error = 0;
    struct call call = {.fd = fd, .address = address, .length = length};
    enum ports_plan plan = make_plan(&call, settings);
    if (plan == PORTS_SHARE_BEFORE)
        option_error = set_reuseport(fd, 1);
    errno = saved;
    int result = settings->next_bind(fd, address, length);
    if (plan == PORTS_IGNORE)
        return result;

    saved = errno;
    int bind_error = result ? saved : 0;
    if (plan == PORTS_SHARE_AFTER && !bind_error) {
        if (awaits_port(&call))
            plan = PORTS_IGNORE;
        else
            option_error = set_reuseport(fd, 1);
    }
    if (plan == PORTS_SHARE_BEFORE && bind_error)
        clear_reuseport(&call, settings);
    if (settings->log && plan != PORTS_IGNORE)
        log_outcome(&call, plan, option_error, bind_error);
    errno = saved;
    return result;
}

/* For a constructor that binds before ours has run.  Apart, to spare every other bind the room
   that the settings take on the stack. */
__attribute__((noinline)) static int early_bind(int fd, const struct sockaddr *address,
                                                socklen_t length) {
    int saved = errno;
    struct settings settings;
    struct ports_error error;
    get_settings(&settings, &error);
    errno = saved;
    return bind_with(&settings, fd, address, length);
}

/* bind(2), shared.  Returns what bind(2) returns for the same call, errno included. */
int shared_bind(int fd, const struct sockaddr *address, socklen_t length) {
    if (!atomic_load(&loaded))
        return early_bind(fd, address, length);
    return bind_with(&at_load, fd, address, length);
}
