/*
 * identity.c - see identity.h.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64 /* the inode number of a pidfd has 64 bits, on 32-bit machines too */
#include "identity.h"
#include "kernel.h"
#include "tool.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void set(const char *name, unsigned long long value) {
    char text[32];
    snprintf(text, sizeof text, "%llu", value);
    if (setenv(name, text, 1))
        tool_fail("cannot set %s: %s", name, strerror(errno));
}

/* LISTEN_PIDFDID (sd_listen_fds(3)) is the inode number of a pidfd, unique since Linux 6.9.  Left
   out where it cannot be found out: it is looked at only where it is there. */
static void set_pidfd_id(void) {
    struct stat status;
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (self >= 0 && fstat(self, &status) == 0)
        set("LISTEN_PIDFDID", status.st_ino);
    else
        unsetenv("LISTEN_PIDFDID");
    if (self >= 0)
        close(self);
}

/* Sets the variable, if it names FORMER, to this process; returns whether it did. */
static bool take_over(const char *name, pid_t former) {
    char text[32];
    const char *value = getenv(name);
    snprintf(text, sizeof text, "%d", (int)former);
    if (!value || strcmp(value, text) != 0)
        return false;
    set(name, (unsigned)getpid());
    return true;
}

void identity_take_over(pid_t former) {
    if (former == getpid())
        return;
    if (take_over("LISTEN_PID", former) && getenv("LISTEN_PIDFDID")) /* sd_listen_fds(3) */
        set_pidfd_id();
    take_over("WATCHDOG_PID", former);     /* sd_watchdog_enabled(3) */
    take_over("SYSTEMD_EXEC_PID", former); /* systemd.exec(5) */
}
