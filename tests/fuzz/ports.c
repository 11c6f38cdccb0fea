/*
 * ports - what libFuzzer runs with every list it thinks of: shim/ports.c must read LIBREUSE_PORTS
 * as a second reader does, that was written from the README alone, by regular expressions and in no
 * hurry.  That is: take the same lists, read the same items, name the same bad item, and share the
 * same binds.  What was read, printed and read again, is the same.
 *
 *     ports [OPTION]... CORPUS...    (https://llvm.org/docs/LibFuzzer.html)
 */
#define _GNU_SOURCE
#include "../../shim/ports.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One item as the second reader has it. */
struct plain_item {
    long first, last;
    bool tcp, udp, any_address;
    struct in6_addr address;
};

/* Ends the fuzzing unless WHAT is so. */
static void check(bool so, const char *what, const char *list) {
    if (so)
        return;
    fprintf(stderr, "ports: not so: %s: \"%s\"\n", what, list);
    abort();
}

/* The text that matched part NUMBER of ITEM, to be freed; NULL if nothing did. */
static char *part(const char *item, const regmatch_t *match, int number) {
    const regmatch_t *where = &match[number];
    if (where->rm_so < 0)
        return NULL;
    return strndup(item + where->rm_so, (size_t)(where->rm_eo - where->rm_so));
}

/* Reads the text of an address, NULL for any; returns whether it is one. */
static bool read_address(struct plain_item *plain, const char *ipv6, const char *ipv4) {
    char mapped[128];
    plain->any_address = !ipv6 && !ipv4;
    if (plain->any_address)
        return true;
    if (ipv6)
        return inet_pton(AF_INET6, ipv6, &plain->address) == 1;
    struct in_addr in;
    if (inet_pton(AF_INET, ipv4, &in) != 1)
        return false;
    snprintf(mapped, sizeof mapped, "::ffff:%s", ipv4);
    return inet_pton(AF_INET6, mapped, &plain->address) == 1;
}

/* Reads ITEM, [ADDRESS:]PORT[-PORT][/tcp|/udp]; returns whether it is one. */
static bool read_item(struct plain_item *plain, const char *item) {
    static const char grammar[] = "^(\\[([0-9A-Fa-f:.]+)\\]:|([0-9.]+):)?"
                                  "([0-9]{1,5})(-([0-9]{1,5}))?(/(tcp|udp))?$";
    enum { IPV6 = 2, IPV4 = 3, FIRST = 4, LAST = 6, PROTOCOL = 8, PARTS = 9 };
    static regex_t compiled;
    static bool is_compiled;
    regmatch_t match[PARTS];
    if (!is_compiled && regcomp(&compiled, grammar, REG_EXTENDED))
        abort();
    is_compiled = true;
    if (regexec(&compiled, item, PARTS, match, 0))
        return false;
    char *ipv6 = part(item, match, IPV6), *ipv4 = part(item, match, IPV4);
    char *first = part(item, match, FIRST), *last = part(item, match, LAST);
    char *protocol = part(item, match, PROTOCOL);
    plain->first = strtol(first, NULL, 10);
    plain->last = last ? strtol(last, NULL, 10) : plain->first;
    plain->tcp = !protocol || strcmp(protocol, "tcp") == 0;
    plain->udp = !protocol || strcmp(protocol, "udp") == 0;
    bool good = read_address(plain, ipv6, ipv4) && plain->first >= 1 && plain->last <= 65535 &&
                plain->first <= plain->last;
    free(ipv6);
    free(ipv4);
    free(first);
    free(last);
    free(protocol);
    return good;
}

/*
 * Reads LIST into ITEMS, and returns how many there are.  If one is bad, BAD is where it begins,
 * and LENGTH that of it; else BAD is NULL.
 */
static unsigned read_list(struct plain_item items[PORTS_MAX], const char *list, const char **bad,
                          size_t *length) {
    unsigned count = 0;
    const char *start = list;
    *bad = NULL;
    for (;;) {
        const char *end = strchrnul(start, ',');
        char *item = strndup(start, (size_t)(end - start));
        bool good = count < PORTS_MAX && read_item(&items[count], item);
        free(item);
        if (!good) {
            *bad = start;
            *length = (size_t)(end - start);
            return 0;
        }
        count++;
        if (!*end)
            return count;
        start = end + 1;
    }
}

static bool same(const struct ports_item *item, const struct plain_item *plain) {
    return item->first == plain->first && item->last == plain->last && item->tcp == plain->tcp &&
           item->udp == plain->udp && item->any_address == plain->any_address &&
           (item->any_address || memcmp(item->address, &plain->address, 16) == 0);
}

/* Whether the COUNT ITEMS share a bind to PORT of ADDRESS. */
static bool shares(const struct plain_item *items, unsigned count, bool tcp, long port,
                   const struct in6_addr *address) {
    bool shared = false;
    for (unsigned i = 0; i < count; i++)
        shared |= (tcp ? items[i].tcp : items[i].udp) && port >= items[i].first &&
                  port <= items[i].last &&
                  (items[i].any_address || IN6_ARE_ADDR_EQUAL(&items[i].address, address));
    return shared;
}

/* A bind over IPv6 to PORT of ADDRESS, and over IPv4 if that is what the address maps, must come
   out as the ITEMS have it. */
static void check_binds(const struct ports *ports, const struct plain_item *items, unsigned count,
                        long port, const struct in6_addr *address, const char *list) {
    static const int protocols[] = {PROTOCOL_TCP, PROTOCOL_MPTCP, PROTOCOL_UDP, PROTOCOL_UDPLITE};
    struct sockaddr_in6 in6 = {
        .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = *address};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = in6.sin6_port};
    memcpy(&in.sin_addr, &address->s6_addr[12], 4);
    for (int i = 0; i < 4; i++) {
        enum ports_plan expected = PORTS_LEAVE_OUT;
        if (port && shares(items, count, i < 2, port, address))
            expected = PORTS_SHARE_BEFORE;
        enum ports_plan plan =
            ports_plan(ports, protocols[i], (const struct sockaddr *)&in6, sizeof in6);
        check(plan == expected, "an IPv6 bind is shared if an item has it", list);
        if (IN6_IS_ADDR_V4MAPPED(address)) {
            plan = ports_plan(ports, protocols[i], (const struct sockaddr *)&in, sizeof in);
            check(plan == expected, "an IPv4 bind is shared if an item has it", list);
        }
    }
}

/* Tries binds to the ends of every item and beside them, to its address and others. */
static void check_all_binds(const struct ports *ports, const struct plain_item *items,
                            unsigned count, const char *list) {
    struct in6_addr near;
    for (unsigned i = 0; i < count && i < 8; i++) {
        const struct in6_addr *addresses[] = {&items[i].address, &near, &in6addr_any,
                                              &in6addr_loopback};
        near = items[i].address;
        near.s6_addr[15] ^= 1;
        for (int which = items[i].any_address ? 2 : 0; which < 4; which++) {
            check_binds(ports, items, count, items[i].first - 1, addresses[which], list);
            check_binds(ports, items, count, items[i].first, addresses[which], list);
            check_binds(ports, items, count, items[i].last, addresses[which], list);
            check_binds(ports, items, count, (items[i].last + 1) & 0xffff, addresses[which], list);
        }
    }
}

/* PORTS, written as a list. */
static void print(char *text, size_t size, const struct ports *ports) {
    *text = 0;
    for (unsigned i = 0; i < ports->count; i++) {
        const struct ports_item *item = &ports->items[i];
        char address[INET6_ADDRSTRLEN + 3] = "", name[INET6_ADDRSTRLEN];
        if (!item->any_address)
            snprintf(address, sizeof address,
                     "[%s]:", inet_ntop(AF_INET6, item->address, name, sizeof name));
        size_t length = strlen(text);
        snprintf(text + length, size - length, "%s%s%u-%u%s", i ? "," : "", address, item->first,
                 item->last,
                 item->tcp && item->udp ? ""
                 : item->tcp            ? "/tcp"
                                        : "/udp");
    }
}

static void check_printed(const struct ports *ports, const char *list) {
    static struct ports again;
    static char text[PORTS_MAX * 80];
    struct ports_error error;
    print(text, sizeof text, ports);
    check(ports_read(&again, text, &error) && again.count == ports->count,
          "what is printed can be read", list);
    for (unsigned i = 0; i < again.count; i++) {
        const struct ports_item *a = &again.items[i], *b = &ports->items[i];
        check(a->first == b->first && a->last == b->last && a->tcp == b->tcp && a->udp == b->udp &&
                  a->any_address == b->any_address &&
                  (a->any_address || memcmp(a->address, b->address, sizeof a->address) == 0),
              "what is printed and read is the same", list);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct ports ports;
    static struct plain_item items[PORTS_MAX];
    struct ports_error error = {0};
    const char *bad;
    size_t length = 0;
    /* On the heap and of that size, so that a read beyond its end is noticed. */
    char *list = strndup((const char *)data, size);
    unsigned count = read_list(items, list, &bad, &length);
    bool good = ports_read(&ports, list, &error);
    check(ports.listed, "a list is one", list);
    check(good == !bad, "it is taken if it is well-formed", list);
    if (good) {
        check(ports.count == count, "it has as many items", list);
        for (unsigned i = 0; i < count; i++)
            check(same(&ports.items[i], &items[i]), "the items are the same", list);
        check_printed(&ports, list);
    } else {
        check(ports.count == 0, "a malformed list shares nothing", list);
        check(error.item == bad && error.length == length, "the first bad item is named", list);
        check(error.reason && *error.reason, "there is a reason", list);
    }
    check_all_binds(&ports, items, count, list);
    free(list);
    return 0;
}
