/*
 * libring-bind.so - a library that interposes bind() and has it made by io_uring (IORING_OP_BIND,
 * Linux 6.11), so that no bind(2) is made.
 *
 * ENOSYS from it means that the kernel has no io_uring here, or that it knows no such operation.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { OPERATION_BIND = 56 }; /* IORING_OP_BIND, which headers of older kernels lack */

int ring_bind(int fd, const struct sockaddr *address, socklen_t length) __asm__("bind");

/* Has the ring RING carry out ENTRY; returns its result, or less than 0. */
static int carry_out(int ring, const struct io_uring_params *parameters,
                     const struct io_uring_sqe *entry) {
    size_t size = parameters->cq_off.cqes +
                  parameters->cq_entries * sizeof(struct io_uring_cqe); /* one mapping for both */
    char *queues = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring,
                        IORING_OFF_SQ_RING);
    struct io_uring_sqe *entries = mmap(NULL, sizeof *entry, PROT_READ | PROT_WRITE,
                                        MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
    if (queues == MAP_FAILED || (void *)entries == MAP_FAILED)
        return -errno;
    *entries = *entry;
    *(uint32_t *)(void *)(queues + parameters->sq_off.array) = 0;
    __atomic_store_n((uint32_t *)(void *)(queues + parameters->sq_off.tail), 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
        return -errno;
    const struct io_uring_cqe *done = (void *)(queues + parameters->cq_off.cqes);
    int result = done->res;
    munmap(queues, size);
    munmap(entries, sizeof *entry);
    return result;
}

int ring_bind(int fd, const struct sockaddr *address, socklen_t length) {
    struct io_uring_params parameters = {0};
    struct io_uring_sqe entry = {
        .opcode = OPERATION_BIND, .fd = fd, .addr = (uintptr_t)address, .off = length};
    int ring = (int)syscall(SYS_io_uring_setup, 1, &parameters);
    int result = ring < 0 || !(parameters.features & IORING_FEAT_SINGLE_MMAP)
                     ? -ENOSYS
                     : carry_out(ring, &parameters, &entry);
    if (ring >= 0)
        close(ring);
    if (result == 0)
        return 0;
    errno = result == -EINVAL ? ENOSYS : -result;
    return -1;
}
