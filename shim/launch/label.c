/*
 * label.c - see label.h.
 *
 * It passes on whole lines, of all the copies in one write(2), and then waits a little for more: a
 * server that writes a line for each request would else cost a wake-up each.  A line of more than
 * LINE_SIZE is passed on in pieces.
 */
#define _GNU_SOURCE
#include "label.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LINE_SIZE = 128 * 1024, OUTPUT_SIZE = 256 * 1024, GATHER_MS = 3 };

/* What the process is told of a pipe, which comes along. */
struct message {
    unsigned number;
    int fd; /* where what comes from it goes to */
};

/* The message, as it is sent with a descriptor (cmsg(3)). */
struct packet {
    struct message message;
    struct iovec part;
    struct msghdr header;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
};

/* A pipe from a copy. */
struct source {
    int pipe, fd;
    char before[32]; /* what is put before each line */
    size_t length;   /* of what has come of a line that has not ended */
    bool inside;     /* the line's beginning has been passed on */
    char line[LINE_SIZE];
};

/* What is gathered for standard output, or error. */
struct output {
    int fd;
    size_t length;
    char text[OUTPUT_SIZE];
};

struct labeller {
    int line; /* from reuse-launch; -1 once that has gone */
    struct source **sources;
    size_t count;
    struct output *outputs[2];
};

/* Makes PACKET one that is received into, or sent from. */
static void make_packet(struct packet *packet) {
    *packet = (struct packet){.part = {&packet->message, sizeof packet->message}};
    packet->header = (struct msghdr){.msg_iov = &packet->part,
                                     .msg_iovlen = 1,
                                     .msg_control = packet->control,
                                     .msg_controllen = sizeof packet->control};
}

static void flush(struct output *output) {
    size_t done = 0;
    while (done < output->length) {
        ssize_t written = write(output->fd, output->text + done, output->length - done);
        if (written < 0 && errno == EAGAIN)
            poll(&(struct pollfd){.fd = output->fd, .events = POLLOUT}, 1, -1);
        else if (written < 0 && errno != EINTR)
            break; /* there is nobody to write to */
        else if (written > 0)
            done += (size_t)written;
    }
    output->length = 0;
}

static void put(struct output *output, const char *text, size_t length) {
    if (output->length + length > sizeof output->text)
        flush(output);
    memcpy(output->text + output->length, text, length);
    output->length += length;
}

/* Passes on LENGTH octets of a line of SOURCE, with what goes before if they begin it. */
static void put_line(struct output *output, struct source *source, const char *text,
                     size_t length) {
    size_t before = source->inside ? 0 : strlen(source->before);
    if (output->length + before + length > sizeof output->text)
        flush(output); /* so that no line is parted */
    put(output, source->before, before);
    put(output, text, length);
    source->inside = text[length - 1] != '\n';
}

/* Passes on the lines that SOURCE has whole, all of it in the END. */
static void pass_on(struct output *output, struct source *source, bool end) {
    size_t start = 0;
    for (;;) {
        const char *newline = memchr(source->line + start, '\n', source->length - start);
        if (!newline)
            break;
        size_t next = (size_t)(newline - source->line) + 1;
        put_line(output, source, source->line + start, next - start);
        start = next;
    }
    size_t left = source->length - start;
    if (left && (end || left == sizeof source->line)) {
        put_line(output, source, source->line + start, left);
        left = 0;
    }
    if (end && source->inside)
        put(output, "\n", 1);
    memmove(source->line, source->line + source->length - left, left);
    source->length = left;
}

/* Reads what has come from SOURCE; returns false at the end. */
static bool take(struct labeller *labeller, struct source *source) {
    ssize_t length =
        read(source->pipe, source->line + source->length, sizeof source->line - source->length);
    if (length < 0 && (errno == EINTR || errno == EAGAIN))
        return true;
    if (length > 0)
        source->length += (size_t)length;
    pass_on(labeller->outputs[source->fd - 1], source, length <= 0);
    return length > 0;
}

/* Takes a further pipe from reuse-launch, or hears that this has gone. */
static void take_pipe(struct labeller *labeller) {
    struct packet packet;
    make_packet(&packet);
    ssize_t length = recvmsg(labeller->line, &packet.header, MSG_CMSG_CLOEXEC);
    if (length <= 0) {
        close(labeller->line);
        labeller->line = -1;
        return;
    }
    const struct message message = packet.message;
    const struct cmsghdr *header = CMSG_FIRSTHDR(&packet.header);
    if ((size_t)length != sizeof message || !header)
        return;
    int pipe;
    memcpy(&pipe, CMSG_DATA(header), sizeof pipe);
    struct source *source = calloc(1, sizeof *source);
    struct source **more =
        reallocarray(labeller->sources, labeller->count + 1, sizeof *labeller->sources);
    if (more)
        labeller->sources = more;
    if (!source || !more) {
        free(source);
        close(pipe); /* the copy gets EPIPE */
        return;
    }
    source->pipe = pipe;
    source->fd = message.fd;
    if (isatty(message.fd))
        snprintf(source->before, sizeof source->before, "\033[3%um%u |\033[m ",
                 message.number % 6 + 1, message.number);
    else
        snprintf(source->before, sizeof source->before, "%u | ", message.number);
    labeller->sources[labeller->count++] = source;
}

/* Waits for what comes, and takes it in; returns false if nothing can come any more, or there is no
   memory. */
static bool take_all(struct labeller *labeller) {
    size_t count = labeller->count;
    struct pollfd *polled = calloc(count + 1, sizeof *polled);
    if (!polled)
        return false;
    for (size_t i = 0; i < count; i++)
        polled[i] = (struct pollfd){.fd = labeller->sources[i]->pipe, .events = POLLIN};
    polled[count] = (struct pollfd){.fd = labeller->line, .events = POLLIN};
    poll(polled, count + 1, -1);
    if (polled[count].revents)
        take_pipe(labeller);
    for (size_t i = count; i-- > 0;) {
        struct source *source = labeller->sources[i];
        if (!polled[i].revents || take(labeller, source))
            continue;
        close(source->pipe);
        free(source);
        labeller->sources[i] = labeller->sources[--labeller->count];
    }
    free(polled);
    return labeller->count || labeller->line >= 0;
}

/* The process itself: all its signals are for others to mind. */
__attribute__((noreturn)) static void run(int line) {
    struct labeller labeller = {.line = line};
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (int i = 0; i < 2; i++) {
        labeller.outputs[i] = calloc(1, sizeof *labeller.outputs[i]);
        if (!labeller.outputs[i])
            _exit(EXIT_FAILURE);
        labeller.outputs[i]->fd = i + 1;
    }
    while (take_all(&labeller)) {
        flush(labeller.outputs[0]);
        flush(labeller.outputs[1]);
        nanosleep(&(struct timespec){.tv_nsec = GATHER_MS * 1000000L}, NULL);
    }
    flush(labeller.outputs[0]);
    flush(labeller.outputs[1]);
    _exit(EXIT_SUCCESS);
}

int label_start(struct label *label) {
    int ends[2];
    *label = (struct label){.line = -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        return -1;
    label->pid = fork();
    if (label->pid == 0) {
        close(ends[0]);
        setsid(); /* what the terminal sends is not for it */
        run(ends[1]);
    }
    int error = errno;
    close(ends[1]);
    if (label->pid < 0) {
        close(ends[0]);
        errno = error;
        return -1;
    }
    label->line = ends[0];
    return 0;
}

int label_pipe(const struct label *label, unsigned number, int fd) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return -1;
    struct packet packet;
    make_packet(&packet);
    packet.message = (struct message){number, fd};
    struct cmsghdr *header = CMSG_FIRSTHDR(&packet.header);
    *header = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &ends[0], sizeof ends[0]);
    ssize_t sent = sendmsg(label->line, &packet.header, MSG_NOSIGNAL);
    int error = errno;
    close(ends[0]);
    if (sent < 0) {
        close(ends[1]);
        errno = error;
        return -1;
    }
    return ends[1];
}

void label_finish(struct label *label) {
    if (label->line < 0)
        return;
    close(label->line);
    label->line = -1;
    while (waitpid(label->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}
