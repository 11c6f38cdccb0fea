/*
 * kernel.h - numbers of system calls that older headers do not name: glibc 2.31, of Debian 11, ends
 * with those of Linux 5.4.
 *
 * From 424 on, a number is the same on every machine that there is a reuse-run for
 * (arch/x86/entry/syscalls/ and include/uapi/asm-generic/unistd.h in the kernel's source).
 */
#ifndef KERNEL_H
#define KERNEL_H

#include <sys/syscall.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

#endif
