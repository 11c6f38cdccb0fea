/*
 * permits.h - whether the kernel has the system calls that watching takes, and lets them be made:
 * a seccomp filter, as of a container or of systemd, may fail them or kill who makes them.
 */
#ifndef PERMITS_H
#define PERMITS_H

/* Fails (tool_fail()) if PROGRAM cannot be watched here, and says what is to be permitted. */
void permits_need(const char *program);

#endif
