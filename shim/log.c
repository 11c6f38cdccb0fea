/*
 * log.c - writes libreuse's lines on stderr; see log.h.
 */
#include "log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A line being put together; what does not fit is cut off. */
struct line {
    size_t length;
    char text[512];
};

static void add_char(struct line *line, char c) {
    if (line->length < sizeof line->text - 1) /* one place is kept for the newline */
        line->text[line->length++] = c;
}

static void add(struct line *line, const char *text) {
    while (*text)
        add_char(line, *text++);
}

static void add_number(struct line *line, unsigned number) {
    if (number >= 10)
        add_number(line, number / 10);
    add_char(line, (char)('0' + number % 10));
}

static void add_address(struct line *line, const struct sockaddr *address) {
    /* inet_ntop() is safe in a signal handler: glibc's manual says so, musl's neither allocates
       nor locks. */
    char name[INET6_ADDRSTRLEN] = "";
    in_port_t port;
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
        inet_ntop(AF_INET6, &in6->sin6_addr, name, sizeof name);
        port = in6->sin6_port;
        add(line, "[");
        add(line, name);
        add(line, "]");
    } else {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
        inet_ntop(AF_INET, &in->sin_addr, name, sizeof name);
        port = in->sin_port;
        add(line, name);
    }
    add(line, ":");
    add_number(line, ntohs(port));
}

static const char *protocol_name(int protocol) {
    switch (protocol) {
    case PROTOCOL_TCP:
        return "tcp";
    case PROTOCOL_UDP:
        return "udp";
    case PROTOCOL_MPTCP:
        return "mptcp";
    default:
        return "udplite";
    }
}

/* Adds ERROR by name: strerror() may allocate. */
static void add_error(struct line *line, int error) {
    static const struct {
        int number;
        const char *name;
    } names[] = {
        {EACCES, "EACCES"},
        {EADDRINUSE, "EADDRINUSE"},
        {EADDRNOTAVAIL, "EADDRNOTAVAIL"},
        {EAFNOSUPPORT, "EAFNOSUPPORT"},
        {EINVAL, "EINVAL"},
        {ENODEV, "ENODEV"},
        {ENOPROTOOPT, "ENOPROTOOPT"},
        {EPERM, "EPERM"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (names[i].number == error) {
            add(line, names[i].name);
            return;
        }
    }
    add(line, "errno ");
    add_number(line, (unsigned)error);
}

/* Whether a write to stderr now neither waits, nor raises SIGPIPE, nor reaches a network peer. */
static bool stderr_takes_a_line(void) {
    struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};
    long no_time[4] = {0}; /* a zero timespec, whatever its width */
    if (syscall(SYS_ppoll, &fd, 1, no_time, NULL, 0) != 1 || fd.revents != POLLOUT)
        return false;
    int domain = 0;
    socklen_t length = sizeof domain;
    if (getsockopt(STDERR_FILENO, SOL_SOCKET, SO_DOMAIN, &domain, &length))
        return true;
    return domain != AF_INET && domain != AF_INET6;
}

/* Ends LINE and writes it.  By syscall(), as write() and poll() are points of cancellation and
   bind() is not. */
static void put(struct line *line) {
    int saved = errno;
    line->text[line->length++] = '\n';
    if (stderr_takes_a_line())
        syscall(SYS_write, STDERR_FILENO, line->text, line->length);
    errno = saved;
}

bool log_wanted(void) {
    const char *value = getenv("LIBREUSE_LOG");
    if (!value || !*value || strcmp(value, "0") == 0)
        return false;
    int saved = errno;
    bool open = fcntl(STDERR_FILENO, F_GETFD) >= 0;
    errno = saved;
    return open;
}

void log_bind(const struct log_bind *bind) {
    struct line line = {0};
    add(&line, "libreuse: pid ");
    add_number(&line, (unsigned)bind->pid);
    add(&line, ": ");
    add(&line, protocol_name(bind->protocol));
    add(&line, " ");
    add_address(&line, bind->address);
    if (bind->plan == PORTS_LEAVE_OUT)
        add(&line, ": left out by LIBREUSE_PORTS");
    if (bind->plan != PORTS_LEAVE_OUT && bind->option_error) {
        add(&line, ": not shared, SO_REUSEPORT: ");
        add_error(&line, bind->option_error);
    }
    if (bind->bind_error) {
        add(&line, ": refused: ");
        add_error(&line, bind->bind_error);
        if (bind->bind_error == EADDRINUSE)
            add(&line, ", a holder of the port does not share it, or runs as another user");
    } else if (bind->plan != PORTS_LEAVE_OUT && !bind->option_error) {
        add(&line, ": shared");
    }
    put(&line);
}

void log_bad_ports(const struct ports_error *error) {
    enum { SHOWN = 100 };
    struct line line = {0};
    add(&line, "libreuse: LIBREUSE_PORTS: \"");
    for (size_t i = 0; i < error->length && i < SHOWN; i++) {
        char c = error->item[i];
        add_char(&line, c >= ' ' && c <= '~' ? c : '?');
    }
    add(&line, error->length > SHOWN ? "...\": " : "\": ");
    add(&line, error->reason);
    add(&line, "; no port is shared");
    put(&line);
}
