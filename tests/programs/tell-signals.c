/*
 * tell-signals - prints "ready PID", then the name of each signal that it is sent, a line each.
 * SIGTSTP stops it, too; SIGQUIT and SIGKILL end it.
 */
#define _GNU_SOURCE
#include "names.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void) {
    sigset_t all;
    sigfillset(&all);
    sigdelset(&all, SIGQUIT);
    signal(SIGQUIT, SIG_DFL); /* shells ignore it in the background */
    sigprocmask(SIG_SETMASK, &all, NULL);
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
    for (;;) {
        int number;
        if (sigwait(&all, &number))
            continue;
        printf("%s\n", signal_name(number));
        fflush(stdout);
        if (number == SIGTSTP)
            raise(SIGSTOP);
    }
}
