/*
 * drain.c - see drain.h.
 */
#define _GNU_SOURCE
#include "drain.h"
#include "group/diag.h"
#include "group/holders.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* The kernel's states (include/net/tcp_states.h). */
enum { ESTABLISHED = 1, SYN_RECV = 3, FIRST = 1, LAST = 11, TIME_WAIT = 6, CLOSE = 7, LISTEN = 10 };

/* The ports of the service, each once, for a query; none, which is all, if they are too many. */
static bool find_ports(const struct service *service, struct diag_query *query, uint16_t *ports) {
    size_t count = 0;
    for (size_t i = 0; i < service->count; i++) {
        uint16_t port = service->groups[i].members->socket.port;
        bool again = false;
        for (size_t j = 0; j < count && !again; j++)
            again = ports[j] == port;
        if (!again)
            ports[count++] = port;
    }
    query->ports = count > DIAG_PORTS ? NULL : ports;
    query->port_count = count > DIAG_PORTS ? 0 : count;
    return count > 0;
}

/* Dumps what QUERY asks for on the ports of the service; what changes meanwhile may come twice. */
static int dump(const struct service *service, struct diag_query query, diag_fn *each, void *data) {
    uint16_t *ports = calloc(service->count + 1, sizeof *ports);
    if (!ports)
        return -1;
    int result = find_ports(service, &query, ports) ? diag_dump_both(query, each, data) : 0;
    int error = errno;
    free(ports);
    errno = error;
    return result;
}

/* ---------------------------------------------------------------------------------- half open */

static bool append_cookie(const struct diag_answer *answer, void *data) {
    struct drain *list = data;
    if (list->count % 256 == 0) {
        uint64_t *more = reallocarray(list->half_open, list->count + 256, sizeof *more);
        if (!more)
            return false;
        list->half_open = more;
    }
    list->half_open[list->count++] = diag_cookie(answer->message);
    return true;
}

/* Makes LIST of what is half open now. */
static int list_half_open(const struct service *service, struct drain *list) {
    const struct diag_query query = {.protocol = IPPROTO_TCP, .states = 1U << SYN_RECV};
    *list = (struct drain){0};
    return dump(service, query, append_cookie, list);
}

static int ascending(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

int drain_begin(struct drain *drain, const struct service *service) {
    struct drain now;
    if (list_half_open(service, &now)) {
        free(now.half_open);
        return -1;
    }
    free(drain->half_open); /* what was there before and still is, is listed again */
    *drain = now;
    return 0;
}

/* Leaves what is half open still. */
static int update_half_open(struct drain *drain, const struct service *service) {
    struct drain now;
    size_t kept = 0;
    if (!drain->count)
        return 0;
    int result = list_half_open(service, &now);
    if (result == 0) {
        if (now.count)
            qsort(now.half_open, now.count, sizeof *now.half_open, ascending);
        for (size_t i = 0; i < drain->count; i++)
            if (now.count && bsearch(&drain->half_open[i], now.half_open, now.count,
                                     sizeof *now.half_open, ascending))
                drain->half_open[kept++] = drain->half_open[i];
        drain->count = kept;
    }
    free(now.half_open);
    return result;
}

/* -------------------------------------------------------------------------------- connections */

/* Connections, and which of them are idle, by index. */
struct connections {
    struct sockets sockets;
    bool *idle;
    unsigned idle_ms; /* 0: none is idle */
};

static bool is_idle(const struct diag_answer *answer, unsigned idle_ms) {
    struct tcp_info info;
    const struct inet_diag_msg *message = answer->message;
    const void *data = diag_attribute(
        answer, INET_DIAG_INFO, offsetof(struct tcp_info, tcpi_bytes_sent) + sizeof(uint64_t));
    if (!data || !idle_ms || message->idiag_state != ESTABLISHED || message->idiag_rqueue ||
        message->idiag_wqueue)
        return false;
    memset(&info, 0, sizeof info);
    memcpy(&info, data, offsetof(struct tcp_info, tcpi_bytes_sent) + sizeof(uint64_t));
    return info.tcpi_last_data_sent >= idle_ms && info.tcpi_last_data_recv >= idle_ms &&
           (!info.tcpi_bytes_received ||
            (info.tcpi_bytes_sent && info.tcpi_last_data_sent <= info.tcpi_last_data_recv));
}

static bool append_connection(const struct diag_answer *answer, void *data) {
    struct connections *list = data;
    size_t count = list->sockets.count;
    if (!answer->message->idiag_inode) /* nobody's: not accepted, or closed */
        return true;
    if (count % 256 == 0) {
        struct socket *more = reallocarray(list->sockets.all, count + 256, sizeof *more);
        if (more)
            list->sockets.all = more;
        bool *idle = reallocarray(list->idle, count + 256, sizeof *idle);
        if (idle)
            list->idle = idle;
        if (!more || !idle)
            return false;
    }
    list->sockets.all[count] = (struct socket){.inode = answer->message->idiag_inode};
    list->idle[count] = is_idle(answer, list->idle_ms);
    list->sockets.count++;
    return true;
}

static int list_connections(const struct service *service, struct connections *list) {
    const struct diag_query tcp = {.protocol = IPPROTO_TCP,
                                   .states = (2U << LAST) - (1U << FIRST) - (1U << TIME_WAIT) -
                                             (1U << CLOSE) - (1U << LISTEN),
                                   .extensions = 1 << (INET_DIAG_INFO - 1)};
    const struct diag_query udp = {.protocol = IPPROTO_UDP, .states = 1U << ESTABLISHED};
    return dump(service, tcp, append_connection, list) ||
                   dump(service, udp, append_connection, list)
               ? -1
               : 0;
}

/* Counts in the copies what their processes have of the connections. */
static void count_connections(const struct connections *list, const struct copies *copies,
                              const struct tree *tree) {
    for (size_t i = 0; i < copies->count; i++)
        copies->all[i]->held = copies->all[i]->idle = 0;
    for (size_t i = 0; i < list->sockets.count; i++) {
        const struct socket *socket = &list->sockets.all[i];
        for (size_t j = 0; j < socket->holder_count; j++) {
            struct copy *copy = copies_owner(copies, tree, socket->holders[j].process->pid);
            (*(list->idle[i] ? &copy->idle : &copy->held))++;
        }
    }
}

/* Finds which of the connections the copies that are leaving have.  Returns 0, or -1 and errno. */
static int look_at_connections(struct connections *list, const struct copies *copies) {
    struct tree tree;
    size_t count;
    if (!tree_read(&tree))
        return -1;
    pid_t *pids = copies_processes(copies, &tree, true, &count);
    bool found = pids && holders_find_among(&list->sockets, pids, count);
    if (found)
        count_connections(list, copies, &tree);
    int error = errno;
    free(pids);
    tree_free(&tree);
    errno = error;
    return found ? 0 : -1;
}

int drain_look(struct drain *drain, struct service *service, const struct copies *copies) {
    struct connections list = {.idle_ms = (unsigned)copies->options->idle};
    if (update_half_open(drain, service) || service_look(service, copies))
        return -1;
    int result = list_connections(service, &list);
    if (result == 0)
        result = look_at_connections(&list, copies);
    int error = errno;
    sockets_free(&list.sockets);
    free(list.idle);
    errno = error;
    return result;
}
