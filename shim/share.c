/*
 * share.c - sets and clears SO_REUSEPORT (socket(7)) around a bind; see share.h.
 */
#include "share.h"
#include "log.h"

#include <errno.h>
#include <netinet/in.h>

static int get_option(int fd, int option) {
    int value = -1;
    socklen_t length = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &length) ? -1 : value;
}

/* Sets SO_REUSEPORT to VALUE; returns 0 or the error number. */
static int set_reuseport(int fd, int value) {
    return setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &value, sizeof value) ? errno : 0;
}

/* The plan for a bind to the address that the socket has by now. */
static enum ports_plan plan_for_own_address(const struct share *share, const struct ports *ports) {
    struct sockaddr_storage name;
    struct sockaddr *address = (struct sockaddr *)&name;
    socklen_t length = sizeof name;
    if (getsockname(share->fd, address, &length))
        return PORTS_IGNORE;
    return ports_plan(ports, share->protocol, address, length);
}

/*
 * After a bind to port 0 that succeeded: whether the kernel is yet to pick the port, when the
 * socket connects (IP_BIND_ADDRESS_NO_PORT in ip(7)).  A UDP port would then not stay unique if the
 * option were set; a TCP port does.
 */
static bool awaits_port(const struct share *share, const struct ports *ports) {
    return (share->protocol == PROTOCOL_UDP || share->protocol == PROTOCOL_UDPLITE) &&
           plan_for_own_address(share, ports) == PORTS_SHARE_AFTER;
}

bool share_socket(struct share *share, int fd) {
    share->fd = fd;
    share->plan = PORTS_IGNORE;
    share->option_error = 0;
    int type = get_option(fd, SO_TYPE);
    share->protocol = get_option(fd, SO_PROTOCOL);
    return ports_shareable(type, share->protocol);
}

void share_before(struct share *share, const struct ports *ports) {
    share->plan =
        ports_plan(ports, share->protocol, (struct sockaddr *)&share->address, share->length);
    if (share->plan == PORTS_SHARE_BEFORE)
        share->option_error = set_reuseport(share->fd, 1);
}

void share_after(struct share *share, const struct ports *ports, int bind_error) {
    if (share->plan == PORTS_SHARE_BEFORE && bind_error &&
        plan_for_own_address(share, ports) != PORTS_SHARE_BEFORE)
        set_reuseport(share->fd, 0);
    if (share->plan == PORTS_SHARE_AFTER && !bind_error) {
        if (awaits_port(share, ports))
            share->plan = PORTS_IGNORE;
        else
            share->option_error = set_reuseport(share->fd, 1);
    }
}

void share_log(const struct share *share, pid_t pid, int bind_error) {
    struct sockaddr_storage name = {0};
    socklen_t length = sizeof name;
    if (share->plan == PORTS_IGNORE)
        return;
    /* The kernel may have picked the port; where the bind is yet to be made, there is none. */
    if (bind_error || getsockname(share->fd, (struct sockaddr *)&name, &length) ||
        ((struct sockaddr_in *)&name)->sin_port == 0) /* sin6_port is at the same place */
        name = share->address;
    log_bind(&(struct log_bind){.pid = pid,
                                .protocol = share->protocol,
                                .address = (struct sockaddr *)&name,
                                .plan = share->plan,
                                .option_error = share->option_error,
                                .bind_error = bind_error});
}
