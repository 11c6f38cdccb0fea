/*
 * attach.c - see attach.h.
 *
 * There are two hooks, and a program for each: the kernel keeps them apart by the family of the
 * socket.
 */
#define _GNU_SOURCE
#include "attach.h"
#include "instructions.h"
#include "tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of programs and map, by which they are known: at most 15 octets. */
static const char own_name[] = "reuse_cgroup";

/* BPF_CGROUP_MAX_PROGS in kernel/bpf/cgroup.c. */
enum { PROGRAMS_MAX = 64 };

struct hook {
    enum bpf_attach_type type;
    int family;
};
static const struct hook hooks[] = {{BPF_CGROUP_INET4_BIND, AF_INET},
                                    {BPF_CGROUP_INET6_BIND, AF_INET6}};
enum { HOOKS = sizeof hooks / sizeof *hooks };

/* The programs of a hook, as BPF_PROG_QUERY tells of them. */
struct query {
    uint32_t ids[PROGRAMS_MAX];
    uint32_t count, flags;
};

static int bpf(enum bpf_cmd command, union bpf_attr *attributes) {
    return (int)syscall(SYS_bpf, command, attributes, sizeof *attributes);
}

static uint64_t address_of(const void *place) {
    return (uint64_t)(uintptr_t)place;
}

/* Closes FD, if it is one; errno is kept. */
static void drop(int fd) {
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
}

/* ------------------------------------------------------------------------ what is there already */

static bool query(int cgroup, const struct hook *hook, struct query *found) {
    union bpf_attr attributes = {.query = {.target_fd = (uint32_t)cgroup,
                                           .attach_type = hook->type,
                                           .prog_ids = address_of(found->ids),
                                           .prog_cnt = PROGRAMS_MAX}};
    if (bpf(BPF_PROG_QUERY, &attributes))
        return false;
    found->count = attributes.query.prog_cnt;
    found->flags = attributes.query.attach_flags;
    return true;
}

static bool get_info(int fd, void *info, size_t size) {
    union bpf_attr attributes = {
        .info = {.bpf_fd = (uint32_t)fd, .info = address_of(info), .info_len = (uint32_t)size}};
    return bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes) == 0;
}

/* A descriptor of our program on a hook, -1 if there is none; and what it is. */
struct own {
    int fd;
    uint32_t map; /* the id of its map, 0 if it has none */
    uid_t user;
};

/* Whether program ID is ours; then OWN is it.  One that has gone meanwhile is not. */
static enum attach_trouble look_at(uint32_t id, struct own *own) {
    union bpf_attr attributes = {.prog_id = id};
    uint32_t map = 0;
    struct bpf_prog_info info = {.nr_map_ids = 1, .map_ids = address_of(&map)};
    int fd = bpf(BPF_PROG_GET_FD_BY_ID, &attributes);
    if (fd < 0)
        return errno == ENOENT ? ATTACH_DONE : ATTACH_FIND;
    bool known = get_info(fd, &info, sizeof info);
    if (known && info.type == BPF_PROG_TYPE_CGROUP_SOCK_ADDR && strcmp(info.name, own_name) == 0)
        *own = (struct own){fd, info.nr_map_ids ? map : 0, info.created_by_uid};
    else
        drop(fd);
    return known ? ATTACH_DONE : ATTACH_FIND;
}

/* Finds our program on HOOK of a cgroup. */
static enum attach_trouble find(int cgroup, const struct hook *hook, struct own *own) {
    struct query found;
    enum attach_trouble trouble = ATTACH_DONE;
    own->fd = -1;
    if (!query(cgroup, hook, &found))
        return ATTACH_QUERY;
    for (uint32_t i = 0; i < found.count && own->fd < 0 && !trouble; i++)
        trouble = look_at(found.ids[i], own);
    return trouble;
}

/* The text that map ID holds, to be freed. */
static enum attach_trouble read_list(uint32_t id, char **list) {
    union bpf_attr by_id = {.map_id = id};
    struct bpf_map_info info = {0};
    int fd = bpf(BPF_MAP_GET_FD_BY_ID, &by_id);
    if (fd < 0)
        return ATTACH_FIND;
    enum attach_trouble trouble = ATTACH_FIND;
    if (get_info(fd, &info, sizeof info)) {
        uint32_t key = 0;
        *list = tool_got(malloc(info.value_size));
        union bpf_attr element = {
            .map_fd = (uint32_t)fd, .key = address_of(&key), .value = address_of(*list)};
        if (bpf(BPF_MAP_LOOKUP_ELEM, &element) == 0)
            trouble = ATTACH_DONE;
    }
    drop(fd);
    return trouble;
}

enum attach_trouble attach_read(int cgroup, struct attached *attached) {
    struct own own;
    *attached = (struct attached){0};
    enum attach_trouble trouble = find(cgroup, &hooks[0], &own);
    if (trouble || own.fd < 0)
        return trouble;
    attached->on = true;
    attached->user = own.user;
    if (own.map)
        trouble = read_list(own.map, &attached->list);
    drop(own.fd);
    return trouble;
}

enum attach_trouble attach_look(int cgroup, attach_free *free, bool *exclusive) {
    *exclusive = false;
    for (unsigned i = 0; i < HOOKS; i++) {
        struct query found;
        if (!(*free & 1U << i))
            continue;
        if (!query(cgroup, &hooks[i], &found))
            return ATTACH_QUERY;
        if (found.count)
            *free &= ~(1U << i);
        *exclusive |= found.count && !(found.flags & BPF_F_ALLOW_MULTI);
    }
    return ATTACH_DONE;
}

/* ------------------------------------------------------------------------------- on, and off */

/* Returns a map that holds LIST, or -1. */
static int make_map(const char *list) {
    union bpf_attr attributes = {.map_type = BPF_MAP_TYPE_ARRAY,
                                 .key_size = sizeof(uint32_t),
                                 .value_size = (uint32_t)strlen(list) + 1,
                                 .max_entries = 1};
    memcpy(attributes.map_name, own_name, sizeof own_name);
    int fd = bpf(BPF_MAP_CREATE, &attributes);
    uint32_t key = 0;
    union bpf_attr element = {
        .map_fd = (uint32_t)fd, .key = address_of(&key), .value = address_of(list)};
    if (fd >= 0 && bpf(BPF_MAP_UPDATE_ELEM, &element)) {
        drop(fd);
        return -1;
    }
    return fd;
}

/* Has the kernel take the program for HOOK, with MAP if that is one; returns its descriptor, or -1.
 */
static int load(const struct hook *hook, const struct ports *ports, int map) {
    struct instructions all;
    instructions_write(&all, ports, hook->family);
    union bpf_attr attributes = {.prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
                                 .expected_attach_type = hook->type,
                                 .insns = address_of(all.code),
                                 .insn_cnt = (uint32_t)all.length,
                                 .license = address_of("")};
    memcpy(attributes.prog_name, own_name, sizeof own_name);
    int fd = bpf(BPF_PROG_LOAD, &attributes);
    union bpf_attr bound = {.prog_bind_map = {.prog_fd = (uint32_t)fd, .map_fd = (uint32_t)map}};
    if (fd >= 0 && map >= 0 && bpf(BPF_PROG_BIND_MAP, &bound)) {
        drop(fd);
        return -1;
    }
    return fd;
}

/* Puts PROGRAM on HOOK, in the place of OLD if that is one. */
static bool attach(int cgroup, const struct hook *hook, int program, int old) {
    union bpf_attr attributes = {.target_fd = (uint32_t)cgroup,
                                 .attach_bpf_fd = (uint32_t)program,
                                 .attach_type = hook->type,
                                 .attach_flags = BPF_F_ALLOW_MULTI};
    if (old >= 0) {
        attributes.attach_flags |= BPF_F_REPLACE;
        attributes.replace_bpf_fd = (uint32_t)old;
    }
    return bpf(BPF_PROG_ATTACH, &attributes) == 0;
}

static bool detach(int cgroup, const struct hook *hook, int program) {
    union bpf_attr attributes = {.target_fd = (uint32_t)cgroup,
                                 .attach_bpf_fd = (uint32_t)program,
                                 .attach_type = hook->type};
    return bpf(BPF_PROG_DETACH, &attributes) == 0;
}

/* Has PROGRAM on HOOK where OLD is; -1 stands for none. */
static bool change(int cgroup, const struct hook *hook, int program, int old) {
    if (program >= 0)
        return attach(cgroup, hook, program, old);
    return old < 0 || detach(cgroup, hook, old);
}

/* Puts PROGRAMS on the hooks, -1 for none, in the place of OLD: on all of them, or all is left as
   it was. */
static bool exchange(int cgroup, const int programs[HOOKS], const struct own old[HOOKS]) {
    int done = 0;
    while (done < HOOKS && change(cgroup, &hooks[done], programs[done], old[done].fd))
        done++;
    if (done == HOOKS)
        return true;
    int error = errno;
    while (done-- > 0)
        change(cgroup, &hooks[done], old[done].fd, programs[done]);
    errno = error;
    return false;
}

/* The same, in the place of what is ours there; sets *WAS_ON to whether something was. */
static enum attach_trouble put(int cgroup, const int programs[HOOKS], bool *was_on) {
    struct own old[HOOKS] = {{.fd = -1}, {.fd = -1}};
    enum attach_trouble trouble = ATTACH_DONE;
    for (int i = 0; i < HOOKS && !trouble; i++)
        trouble = find(cgroup, &hooks[i], &old[i]);
    if (!trouble && !exchange(cgroup, programs, old))
        trouble = ATTACH_HOOK;
    *was_on = false;
    for (int i = 0; i < HOOKS; i++) {
        *was_on |= old[i].fd >= 0;
        drop(old[i].fd);
    }
    return trouble;
}

enum attach_trouble attach_turn_on(int cgroup, const struct ports *ports, const char *list) {
    int programs[HOOKS] = {-1, -1}, map = -1;
    enum attach_trouble trouble = ATTACH_DONE;
    if (list && (map = make_map(list)) < 0)
        trouble = ATTACH_LOAD;
    for (int i = 0; i < HOOKS && !trouble; i++)
        if ((programs[i] = load(&hooks[i], ports, map)) < 0)
            trouble = ATTACH_LOAD;
    bool was_on;
    if (!trouble)
        trouble = put(cgroup, programs, &was_on);
    for (int i = 0; i < HOOKS; i++)
        drop(programs[i]);
    drop(map);
    return trouble;
}

enum attach_trouble attach_turn_off(int cgroup, bool *was_on) {
    return put(cgroup, (const int[HOOKS]){-1, -1}, was_on);
}
