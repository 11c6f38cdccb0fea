/*
 * takeover.c - see takeover.h.
 */
#define _GNU_SOURCE
#include "takeover.h"
#include "group/holders.h"
#include "signals.h"
#include "steering.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

/* All in milliseconds. */
enum {
    FIRST_PAUSE = 1000, /* a copy that keeps dying is started again after pauses */
    LONGEST_PAUSE = 30000,
    STABLE_TIME = 60000, /* one that was up for so long does not keep dying */
    SERVED_TIME = 1000,  /* and one that ended by itself after so long */
    FIRST_LOOK = 20,     /* how often the sockets are looked at while something is awaited */
    LONGEST_LOOK = 200,
    TURN = 10,     /* how long one that is told to stop may take to leave before the next is told */
    SETTLED = 100, /* a generation is ready once its sockets have been the same for so long */
    SETTLED_DROPPED = 1000, /* where it is to have others that may still come */
};

/* Has the sockets be looked at soon, and often at first. */
static void expect(struct takeover *takeover) {
    takeover->pause = FIRST_LOOK;
    takeover->next_look = takeover->next_drain_look = copies_now();
}

/* --------------------------------------------------------------------------------------- words */

/* How a copy has ended, for a message. */
static void add_ending(struct text *text, const struct ending *ending) {
    if (ending->signalled)
        text_add(text, "was killed by SIG%s", signals_name(ending->status));
    else
        text_add(text, "ended with status %d", ending->status);
}

/* Says who serves where. */
static void say_ready(const struct takeover *takeover, const char *before) {
    const struct copies *copies = &takeover->copies;
    struct text names = {0}, pids = {0};
    unsigned count = 0;
    for (unsigned number = 0; number < takeover->count; number++) {
        const struct copy *copy = copies_serving(copies, number);
        if (!copy || !copy->pid)
            continue;
        text_add(&pids, count++ ? ", " : " ");
        service_pids(&takeover->service, copy, &pids);
    }
    service_names(&takeover->service, NULL, &names);
    say("%s%u %s on%s: pids%s", before, count, count == 1 ? "copy serves" : "copies serve",
        text_of(&names), text_of(&pids));
    text_free(&names);
    text_free(&pids);
}

/* Names the processes that share GROUP's ports with the copies. */
static void name_strangers(const struct service_group *group) {
    struct sockets strangers = {.all = calloc(group->count, sizeof *strangers.all)};
    struct text pids = {0};
    if (!strangers.all)
        return;
    for (size_t i = 0; i < group->count; i++)
        if (service_stranger(&group->members[i]))
            strangers.all[strangers.count++] = group->members[i].socket;
    holders_find(&strangers);
    for (size_t i = 0; i < strangers.count; i++)
        if (strangers.all[i].holder_count)
            text_add(&pids, " %d", (int)strangers.all[i].holders->process->pid);
        else
            text_add(&pids, " -");
    say("%s: shared with processes that are not of this service, pid%s", group->name,
        text_of(&pids));
    text_free(&pids);
    sockets_free(&strangers);
}

/* Says who else shares the ports, if there are more than have been told. */
static void say_strangers(struct service *service) {
    for (size_t i = 0; i < service->count; i++) {
        struct service_group *group = &service->groups[i];
        size_t count = 0;
        for (size_t j = 0; j < group->count; j++)
            count += service_stranger(&group->members[j]);
        if (count > group->told_strangers)
            name_strangers(group);
        group->told_strangers = count;
    }
}

/* Says that the sockets cannot be looked at, for the reason in errno; once. */
static void say_no_look(struct takeover *takeover) {
    if (!takeover->told_look)
        say("cannot look at the sockets: %s; requests may fail", strerror(errno));
    takeover->told_look = true;
}

/* -------------------------------------------------------------------------- starting, stopping */

/* Starts COPY; if that cannot be, it is tried again. */
static bool start(struct takeover *takeover, struct copy *copy) {
    if (copies_start(&takeover->copies, copy) == 0)
        return true;
    say("cannot start copy %u: %s", copy->number, strerror(errno));
    copy->due = copies_now() + FIRST_PAUSE;
    return false;
}

/* Starts a generation; returns false if that cannot be. */
static bool start_generation(struct takeover *takeover) {
    struct copies *copies = &takeover->copies;
    takeover->ready_by = copies_now() + takeover->options.ready;
    takeover->stable = 0;
    takeover->state = 0;
    for (unsigned number = 0; number < takeover->count; number++) {
        const struct copy *old = copies_serving(copies, number);
        struct copy *copy = copies_add(copies, number, COPY_NEW);
        if (!copy)
            return false;
        if (old)
            service_note_wanted(&takeover->service, old, copy);
        if (!start(takeover, copy))
            return false;
    }
    expect(takeover);
    return true;
}

/* Forgets COPY, which is down. */
static void forget(struct takeover *takeover, struct copy *copy) {
    service_forget(&takeover->service, copy);
    copies_remove(&takeover->copies, copy);
}

/* Tells all copies in ROLE to stop; those that are down go at once. */
static void tell_all(struct takeover *takeover, enum role role) {
    struct copies *copies = &takeover->copies;
    for (size_t i = copies->count; i-- > 0;) {
        struct copy *copy = copies->all[i];
        if (copy->role != role)
            continue;
        copies_tell(copies, copy);
        if (!copy->pid)
            forget(takeover, copy);
    }
    expect(takeover);
}

/* Has COPY leave: it gets nothing new from the next look on, and is stopped once it has drained. */
static void let_leave(struct takeover *takeover, struct copy *copy) {
    if (!copy->pid) {
        forget(takeover, copy);
        return;
    }
    copy->role = COPY_LEAVING;
    copy->quiet_since = copies_now();
}

/* What is to be done when copies have become COPY_LEAVING: they get nothing new from now on, and
   what they have is awaited. */
static void begin_drain(struct takeover *takeover) {
    struct service *service = &takeover->service;
    if (service_look(service, &takeover->copies))
        say_no_look(takeover);
    steering_apply(service, takeover->step == STEP_RELOAD);
    steering_reserve(service);
    if (service_look(service, &takeover->copies))
        say_no_look(takeover);
    if (drain_begin(&takeover->drain, service))
        say("cannot list what is half open: %s; requests may fail", strerror(errno));
    takeover->drain_by = copies_now() + takeover->options.drain;
    expect(takeover);
}

/* ---------------------------------------------------------------- a new generation gets ready */

/* The new generation has not got ready: the old one serves on, if there is one. */
static void fail(struct takeover *takeover, const char *why) {
    if (takeover->step == STEP_START) {
        say("%s; what it said is above", why);
        takeover->failed = true;
        takeover_end(takeover, false);
        return;
    }
    say("reload: %s; the old copies serve on", why);
    tell_all(takeover, COPY_NEW);
    takeover->step = STEP_SERVE;
}

/* Has the copies of a killed reuse-launch leave that share the ports of this service; the others
   are none of its. Returns how many there are. */
static unsigned take_orphans(struct takeover *takeover) {
    struct copies *copies = &takeover->copies;
    unsigned count = 0;
    for (size_t i = copies->count; i-- > 0;) {
        struct copy *copy = copies->all[i];
        if (copy->role != COPY_FOUND)
            continue;
        if (service_listens(&takeover->service, copy)) {
            let_leave(takeover, copy);
            count++;
        } else {
            forget(takeover, copy);
        }
    }
    copies->first_slot = 0;
    return count;
}

/* All new copies listen: they serve, and the old ones leave. */
static void succeed(struct takeover *takeover) {
    struct copies *copies = &takeover->copies;
    bool reload = takeover->step == STEP_RELOAD;
    for (size_t i = copies->count; i-- > 0;) {
        struct copy *copy = copies->all[i];
        if (copy->role == COPY_SERVING)
            let_leave(takeover, copy);
        else if (copy->role == COPY_NEW)
            copy->role = COPY_SERVING;
    }
    takeover->step = STEP_TAKE_OVER;
    if (!reload) {
        say_ready(takeover, "");
        unsigned orphans = take_orphans(takeover);
        say_strangers(&takeover->service);
        if (orphans)
            say("taking over from %u copies of a reuse-launch that was killed", orphans);
        else
            takeover->step = STEP_SERVE;
    }
    begin_drain(takeover);
}

/* Goes on if the new generation is ready, or has not got so in time. */
static void await_ready(struct takeover *takeover) {
    int64_t now = copies_now();
    struct text missing = {0};
    bool dropped = takeover->options.may_drop_ports && takeover->step == STEP_RELOAD;
    uint64_t state = 0;
    bool complete = service_complete(&takeover->service, &takeover->copies, COPY_NEW, &missing,
                                     &dropped, &state);
    if (!complete || !takeover->stable || state != takeover->state)
        takeover->stable = now;
    takeover->state = state;
    bool ready = complete && now - takeover->stable >= (dropped ? SETTLED_DROPPED : SETTLED);
    if (!ready && now > takeover->ready_by) {
        if (!missing.letters)
            text_add(&missing, "the copies still open ports");
        text_add(&missing, " after %d s", (int)(takeover->options.ready / 1000));
        fail(takeover, text_of(&missing));
    } else if (ready) {
        succeed(takeover);
    }
    text_free(&missing);
}

/* -------------------------------------------------------------------------------- old ones go */

/* Whether a copy that has been told to stop is still in a group. */
static bool is_awaited(const struct takeover *takeover) {
    for (size_t i = 0; i < takeover->copies.count; i++)
        if (takeover->copies.all[i]->role == COPY_TOLD &&
            service_listens(&takeover->service, takeover->copies.all[i]))
            return true;
    return false;
}

/*
 * Tells those to stop that have drained, or had the time for it: one after the other if they stop
 * at once, as the places are known only if it is known who left first.
 */
static void release(struct takeover *takeover) {
    const struct copies *copies = &takeover->copies;
    int64_t now = copies_now();
    bool over = now >= takeover->drain_by;
    for (size_t i = copies->count; i-- > 0;) {
        struct copy *copy = copies->all[i];
        if (copy->role != COPY_LEAVING)
            continue;
        bool listening = service_listens(&takeover->service, copy);
        if (listening && !copy->drained && !over)
            continue;
        if (listening && (!steering_may_leave(&takeover->service, copy) ||
                          (is_awaited(takeover) && now - takeover->told < TURN)))
            continue;
        if (!copy->drained && copy->held + copy->waiting)
            say("copy %s: still busy after %d s; stopped all the same", copies_name(copy),
                (int)(takeover->options.drain / 1000));
        else if (copy->idle)
            say("copy %s: closing %u idle connections", copies_name(copy), copy->idle);
        copies_tell(copies, copy);
        takeover->told = now;
    }
}

/* Ends a step once nobody is leaving any more. */
static void finish(struct takeover *takeover) {
    if (copies_any(&takeover->copies, COPY_LEAVING) || copies_any(&takeover->copies, COPY_TOLD))
        return;
    if (takeover->step == STEP_TAKE_OVER) {
        takeover->step = STEP_SERVE;
        say_ready(takeover, "reload: ");
        say_strangers(&takeover->service);
    }
    takeover->next_look = INT64_MAX;
}

/* Whether a copy that is leaving holds something, as far as is known. */
static bool is_draining(const struct copies *copies) {
    for (size_t i = 0; i < copies->count; i++)
        if (copies->all[i]->role == COPY_LEAVING && !copies->all[i]->drained)
            return true;
    return false;
}

/* Whether COPY holds nothing that is to be awaited, as idle connections are not after HALF of the
   time. */
static bool has_drained(const struct takeover *takeover, const struct copy *copy, bool half) {
    if (takeover->drain.count || copy->waiting || copy->held || (copy->idle && !half))
        return false;
    for (size_t i = 0; i < takeover->service.count; i++) {
        const struct service_group *group = &takeover->service.groups[i];
        if (group->members->socket.protocol != IPPROTO_TCP && service_members(group, copy) &&
            copies_now() - copy->quiet_since < takeover->options.udp_linger)
            return false;
    }
    return true;
}

/* Notes which copies have drained, by a drain_look() just now: later, what was in a queue then may
   be a connection that has not been counted. */
static void note_drained(const struct takeover *takeover) {
    int64_t half = takeover->drain_by - takeover->options.drain / 2, now = copies_now();
    for (size_t i = 0; i < takeover->copies.count; i++) {
        struct copy *copy = takeover->copies.all[i];
        if (copy->role == COPY_LEAVING)
            copy->drained |= has_drained(takeover, copy, now >= half);
    }
}

/* Looks at the sockets, and at what is to drain if that is due.  Returns 0, or -1 and errno. */
static int look(struct takeover *takeover) {
    int64_t began = copies_now();
    if (!is_draining(&takeover->copies) || began < takeover->next_drain_look)
        return service_look(&takeover->service, &takeover->copies);
    int result = drain_look(&takeover->drain, &takeover->service, &takeover->copies);
    if (result == 0)
        note_drained(takeover);
    int64_t now = copies_now(), took = now - began;
    takeover->pause =
        takeover->pause * 3 / 2 < LONGEST_LOOK ? takeover->pause * 3 / 2 : LONGEST_LOOK;
    takeover->next_drain_look = now + (took * 4 > takeover->pause ? took * 4 : takeover->pause);
    return result;
}

/* When the sockets are to be looked at again. */
static int64_t find_next_look(const struct takeover *takeover, int64_t now) {
    if (is_awaited(takeover))
        return now + (now - takeover->told < TURN ? 2 : FIRST_LOOK);
    return is_draining(&takeover->copies) ? takeover->next_drain_look : now + FIRST_LOOK;
}

/* Looks, and acts on what is there. */
static void proceed(struct takeover *takeover) {
    int64_t began = copies_now();
    int result = look(takeover);
    if (result)
        say_no_look(takeover);
    else
        takeover->told_look = false;
    if (takeover->step != STEP_START)
        steering_apply(&takeover->service, takeover->step == STEP_RELOAD);
    if (result == 0 || copies_now() >= takeover->drain_by)
        release(takeover);
    int64_t now = copies_now(), next = find_next_look(takeover, now);
    takeover->next_look = next < now + (now - began) * 2 ? now + (now - began) * 2 : next;
    if (takeover->step != STEP_START && takeover->step != STEP_RELOAD)
        finish(takeover);
    else if (result == 0 || now > takeover->ready_by)
        await_ready(takeover);
}

/* --------------------------------------------------------------------------------------- deaths */

/* COPY, which served, has ended: it is started again, in a while if it keeps dying. */
static void start_again_later(struct copy *copy, const struct ending *ending, const char *pids,
                              const char *how) {
    int64_t now = copies_now(), up = now - copy->since;
    bool by_itself = !ending->signalled && ending->status == 0 && copy->listened;
    if (up >= STABLE_TIME || (by_itself && up >= SERVED_TIME))
        copy->pause = 0;
    copy->due = now + copy->pause;
    if (copy->pause)
        say("copy %u (pid %s) %s; starting it again in %d s", copy->number, pids, how,
            (int)(copy->pause / 1000));
    else
        say("copy %u (pid %s) %s; starting it again", copy->number, pids, how);
    copy->pause = copy->pause ? copy->pause * 2 : FIRST_PAUSE;
    if (copy->pause > LONGEST_PAUSE)
        copy->pause = LONGEST_PAUSE;
}

/* COPY has ended, in whatever role it was. */
static void hear_ending(struct takeover *takeover, struct copy *copy, const struct ending *ending) {
    struct text pids = {0}, how = {0}, why = {0};
    service_pids(&takeover->service, copy, &pids);
    add_ending(&how, ending);
    service_forget(&takeover->service, copy);
    switch (copy->role) {
    case COPY_NEW:
        text_add(&why, "copy %u %s before all were ready%s", copy->number, text_of(&how),
                 ending->signalled || ending->status
                     ? ""
                     : " (if it went to the background: a server that goes to the background "
                       "cannot be launched)");
        copies_remove(&takeover->copies, copy);
        fail(takeover, text_of(&why));
        break;
    case COPY_SERVING:
        start_again_later(copy, ending, text_of(&pids), text_of(&how));
        break;
    case COPY_LEAVING:
        say("copy %s (pid %s) %s before it was stopped", copies_name(copy), text_of(&pids),
            text_of(&how));
        /* fall through */
    case COPY_TOLD:
        if (copy->taken_away)
            say("copy %u taken away", copy->number);
        /* fall through */
    case COPY_FOUND:
        copies_remove(&takeover->copies, copy);
        break;
    }
    text_free(&pids);
    text_free(&how);
    text_free(&why);
}

/* Hears which copies have ended; returns whether any has. */
static bool hear_endings(struct takeover *takeover) {
    struct ending ending;
    bool any = false;
    for (struct copy *copy; (copy = copies_reap(&takeover->copies, &ending)); any = true)
        hear_ending(takeover, copy, &ending);
    return any;
}

/* Starts those again that are due. */
static void start_again(struct takeover *takeover) {
    const struct copies *copies = &takeover->copies;
    for (size_t i = 0; i < copies->count; i++) {
        struct copy *copy = copies->all[i];
        if (copy->role == COPY_SERVING && !copy->pid && copy->due <= copies_now())
            start(takeover, copy);
    }
}

/* ------------------------------------------------------------------------- what is asked for */

void takeover_start(struct takeover *takeover) {
    takeover->step = STEP_START;
    if (service_look_before(&takeover->service))
        say_no_look(takeover);
    copies_find_orphans(&takeover->copies);
    if (!start_generation(takeover))
        fail(takeover, "the copies cannot be started");
}

bool takeover_may_change(const struct takeover *takeover) {
    return takeover->step == STEP_SERVE || takeover->step == STEP_TAKE_OVER;
}

bool takeover_may_reload(const struct takeover *takeover) {
    return takeover->step == STEP_SERVE && !copies_any(&takeover->copies, COPY_LEAVING) &&
           !copies_any(&takeover->copies, COPY_TOLD);
}

void takeover_reload(struct takeover *takeover) {
    say("reload: starting %u copies", takeover->count);
    if (service_look(&takeover->service, &takeover->copies)) {
        say("reload: cannot look at the sockets: %s; the old copies serve on", strerror(errno));
        return;
    }
    takeover->step = STEP_RELOAD;
    steering_apply(&takeover->service, true);
    if (!start_generation(takeover))
        fail(takeover, "not all new copies can be started");
}

void takeover_add(struct takeover *takeover) {
    struct copy *copy = copies_add(&takeover->copies, takeover->count, COPY_SERVING);
    if (!copy) {
        say("cannot add a copy: out of memory");
        return;
    }
    takeover->count++;
    if (start(takeover, copy))
        say("copy %u added", copy->number);
    if (takeover->next_look == INT64_MAX)
        return;
    expect(takeover);
}

void takeover_take_away(struct takeover *takeover) {
    if (takeover->count == 1) {
        say("the last copy stays");
        return;
    }
    struct copy *copy = copies_serving(&takeover->copies, --takeover->count);
    if (!copy->pid)
        say("copy %u taken away", copy->number);
    copy->taken_away = true;
    let_leave(takeover, copy);
    begin_drain(takeover);
}

void takeover_end(struct takeover *takeover, bool at_once) {
    takeover->step = STEP_END;
    for (size_t i = takeover->copies.count; i-- > 0;)
        if (takeover->copies.all[i]->role == COPY_FOUND)
            forget(takeover, takeover->copies.all[i]);
    tell_all(takeover, COPY_NEW);
    tell_all(takeover, COPY_SERVING);
    tell_all(takeover, COPY_LEAVING);
    if (at_once)
        copies_kill_late(&takeover->copies, true);
}

/* Says what COPY does. */
static void report(const struct takeover *takeover, const struct copy *copy) {
    static const char *const roles[] = {", starting", "", ", leaving", ", told to stop"};
    int64_t now = copies_now();
    struct text text = {0};
    text_add(&text, "copy %s: ", copies_name(copy));
    if (copy->pid) {
        struct text names = {0};
        service_names(&takeover->service, copy, &names);
        text_add(&text, "pids ");
        service_pids(&takeover->service, copy, &text);
        text_add(&text, ", up %d s, on%s, %u waiting%s", (int)((now - copy->since) / 1000),
                 names.letters ? text_of(&names) : " no port", copy->waiting, roles[copy->role]);
        if (copy->role == COPY_LEAVING)
            text_add(&text, ": %u connections, %u idle", copy->held + copy->idle, copy->idle);
        text_free(&names);
    } else {
        text_add(&text, "down, starts again in %d s",
                 copy->due > now ? (int)((copy->due - now) / 1000) : 0);
    }
    say("%s", text_of(&text));
    text_free(&text);
}

void takeover_report(struct takeover *takeover) {
    if (service_look(&takeover->service, &takeover->copies))
        say_no_look(takeover);
    for (size_t i = 0; i < takeover->copies.count; i++)
        if (takeover->copies.all[i]->role != COPY_FOUND)
            report(takeover, takeover->copies.all[i]);
}

void takeover_go_on(struct takeover *takeover) {
    /* Who has left, before others join: that tells the places. */
    bool ended = hear_endings(takeover);
    if (takeover->step == STEP_END) {
        copies_kill_late(&takeover->copies, false);
        return;
    }
    if (ended && takeover->step != STEP_START &&
        service_look(&takeover->service, &takeover->copies) == 0) {
        steering_apply(&takeover->service, takeover->step == STEP_RELOAD);
        if (takeover->next_look != INT64_MAX)
            takeover->next_look = copies_now();
    }
    start_again(takeover);
    copies_kill_late(&takeover->copies, false);
    if (takeover->next_look <= copies_now())
        proceed(takeover);
}

int64_t takeover_next(const struct takeover *takeover) {
    int64_t next = copies_next_kill(&takeover->copies);
    if (takeover->step == STEP_END)
        return next;
    if (takeover->next_look < next)
        next = takeover->next_look;
    for (size_t i = 0; i < takeover->copies.count; i++) {
        const struct copy *copy = takeover->copies.all[i];
        if (copy->role == COPY_SERVING && !copy->pid && copy->due < next)
            next = copy->due;
    }
    return next;
}
