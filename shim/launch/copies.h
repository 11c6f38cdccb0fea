/*
 * copies.h - the copies of the server as processes: started, ended, reaped.
 *
 * A copy is known by the pid of the reuse-run that is its parent.  That one leaves nothing of the
 * copy behind when the copy ends, and nothing when reuse-launch dies.
 */
#ifndef COPIES_H
#define COPIES_H

#include "label.h"
#include "options.h"
#include "tree.h"

#include <sched.h>

enum role {
    COPY_NEW,     /* its generation is not ready: gets nothing new while others serve */
    COPY_SERVING, /* gets new connections */
    COPY_LEAVING, /* gets nothing new, and is stopped once it has answered what it holds */
    COPY_TOLD,    /* has got the stop signal */
    COPY_FOUND,   /* of a reuse-launch that was killed, and perhaps of this service */
};

/* Which ports, by the names of their groups. */
struct port_names {
    char **all;
    size_t count;
};

struct copy {
    unsigned number, slot;
    enum role role;
    pid_t pid;       /* of its reuse-run; 0 while it is down */
    uint64_t orphan; /* a copy of a killed reuse-launch: when it was started; 0: it is ours */
    struct port_names wanted; /* where the copy that it follows listens */
    int64_t since;            /* started then; all times in milliseconds, copies_now() */
    int64_t due, pause;       /* while it is down: to be started then; the next pause */
    int64_t kill_at;          /* told to stop: to be killed then; 0 once it has been */
    int64_t end_at;           /* killed: all that its group holds, then */
    bool drained;             /* leaving: holds nothing any more */
    bool taken_away;          /* leaves by TTOU */
    bool listened;            /* since it was started */
    /* Found by looks: what waits in its queues; connections that it holds, and idle ones of them;
       since when its UDP queues have been empty; a port the kernel picked, 0 if there is none. */
    unsigned waiting, held, idle;
    int64_t quiet_since;
    uint16_t picked_port;
};

struct copies {
    struct copy **all;
    size_t count;
    const struct options *options;
    char *reuse_run;           /* the program */
    char *folder;              /* the working folder by its name; NULL: as it is */
    sigset_t mask;             /* what reuse-launch was started with */
    unsigned long descriptors; /* and its soft limit of them */
    cpu_set_t *processors;
    unsigned first_slot; /* before which others have theirs */
    struct label label;
};

/* How a copy has ended, by wait(2). */
struct ending {
    bool signalled;
    int status; /* the exit status, or the signal */
};

/* Milliseconds on a clock that only goes on. */
int64_t copies_now(void);

/* Makes a copy known with NUMBER and a slot that no other has, in ROLE; not started yet.  NULL for
   want of memory. */
struct copy *copies_add(struct copies *copies, unsigned number, enum role role);

/* Forgets COPY, which has ended. */
void copies_remove(struct copies *copies, struct copy *copy);

/* Starts COPY.  Returns 0, or -1 and errno. */
int copies_start(const struct copies *copies, struct copy *copy);

/* The copy whose reuse-run is PID; NULL if none. */
struct copy *copies_find(const struct copies *copies, pid_t pid);

/* The copy with NUMBER that is neither leaving nor told to stop; NULL if none. */
struct copy *copies_serving(const struct copies *copies, unsigned number);

/* Whether a copy has ROLE. */
bool copies_any(const struct copies *copies, enum role role);

/* The copy that process PID belongs to; NULL if it belongs to none. */
struct copy *copies_owner(const struct copies *copies, const struct tree *tree, pid_t pid);

/* The processes in TREE of all copies, or of those that are LEAVING alone, and how many; to be
   freed. NULL for want of memory. */
pid_t *copies_processes(const struct copies *copies, const struct tree *tree, bool leaving,
                        size_t *count);

/* Makes the copies of killed reuse-launches known, as COPY_FOUND, and leaves them their slots. */
void copies_find_orphans(struct copies *copies);

/* What COPY is called in messages: its number; valid until the next call. */
const char *copies_name(const struct copy *copy);

/* The next copy that has ended, which is down then; NULL if there is none. */
struct copy *copies_reap(const struct copies *copies, struct ending *ending);

/* Gives COPY the stop signal, once. */
void copies_tell(const struct copies *copies, struct copy *copy);

/* Kills what has not stopped in time, all that is told to stop if NOW_ALL; says so. */
void copies_kill_late(const struct copies *copies, bool now_all);

/* When the next is to be killed, INT64_MAX if none is. */
int64_t copies_next_kill(const struct copies *copies);

/* Passes SIGNAL on to every copy. */
void copies_signal(const struct copies *copies, int signal);

#endif
