/* The floor: moves bytes between a client and the backend and looks at none of them. One thread, one connection to the backend for each client's,
 * one read and one write for each piece. Where one side doesn't take a piece whole, the rest waits, and the other side is not read meanwhile.
 *   relay PORT BACKEND-ADDRESS BACKEND-PORT        listens on 127.0.0.1 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIECE = 65536, EVENTS = 256, FILES = 65536, BACKLOG = 8192 };

struct side {
    int peer;      /* the other socket of the pair, or -1 */
    char *waiting; /* what this socket hasn't taken yet */
    size_t length, sent;
};

static struct side sides[FILES];
static char piece[PIECE];
static int epoll;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int operation, int file, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = file};
    if (epoll_ctl(epoll, operation, file, &event)) fail("epoll_ctl");
}

/* A socket is read unless its peer has yet to take what it said, and waited for where it has yet to take something itself. */
static void interest(int file) {
    unsigned reads = sides[sides[file].peer].waiting ? 0 : EPOLLIN;
    watch(EPOLL_CTL_MOD, file, reads | (sides[file].waiting ? EPOLLOUT : 0));
}

static void adopt(int file, int peer) {
    int one = 1;
    setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    sides[file] = (struct side){.peer = peer};
    watch(EPOLL_CTL_ADD, file, EPOLLIN);
}

static void end(int file) {
    int peer = sides[file].peer;
    for (int i = 0; i < 2; i++) {
        int gone = i ? peer : file;
        free(sides[gone].waiting);
        sides[gone] = (struct side){.peer = -1};
        close(gone);
    }
}

static void welcome(int listener, const struct sockaddr_in *backend) {
    for (;;) {
        int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (client < 0) return;
        int server = socket(AF_INET, SOCK_STREAM, 0);
        /* On the loopback interface this takes microseconds. */
        if (server < 0 || server >= FILES || client >= FILES || connect(server, (const void *)backend, sizeof *backend)) fail("connect");
        if (fcntl(server, F_SETFL, O_NONBLOCK)) fail("fcntl");
        adopt(client, server);
        adopt(server, client);
    }
}

static void move(int from) {
    struct side *to = &sides[sides[from].peer];
    if (to->waiting) return; /* An error or a hangup, which epoll tells unasked: it is seen when the rest has gone. */
    ssize_t got = read(from, piece, PIECE);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return end(from);
    ssize_t put = write(sides[from].peer, piece, got);
    if (put < 0 && errno != EAGAIN) return end(from);
    if (put == got) return;
    put = put < 0 ? 0 : put;
    to->length = got - put;
    to->sent = 0;
    to->waiting = malloc(to->length);
    if (!to->waiting) fail("malloc");
    memcpy(to->waiting, piece + put, to->length);
    interest(from);
    interest(sides[from].peer);
}

static void flush(int to) {
    struct side *side = &sides[to];
    ssize_t put = write(to, side->waiting + side->sent, side->length - side->sent);
    if (put < 0 && errno == EAGAIN) return;
    if (put < 0) return end(to);
    side->sent += put;
    if (side->sent < side->length) return;
    free(side->waiting);
    side->waiting = NULL;
    interest(to);
    interest(side->peer);
}

int main(int count, char **arguments) {
    if (count != 4) {
        fprintf(stderr, "relay PORT BACKEND-ADDRESS BACKEND-PORT\n");
        return 2;
    }
    /* A client that is gone is an error of write, not the end. */
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files = {FILES, FILES};
    if (setrlimit(RLIMIT_NOFILE, &files)) perror("setrlimit");
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in backend = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[3]))};
    if (!inet_aton(arguments[2], &backend.sin_addr)) fail("the backend's address");
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&own, sizeof own) || listen(listener, BACKLOG)) fail("bind");
    for (int i = 0; i < FILES; i++) sides[i].peer = -1;
    epoll = epoll_create1(0);
    watch(EPOLL_CTL_ADD, listener, EPOLLIN);
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        /* A pair that ends in this round may have another event in it: its number must not be another's by then. */
        int fresh = 0;
        for (int i = 0; i < ready; i++) {
            int file = events[i].data.fd;
            if (file == listener) {
                fresh = 1;
                continue;
            }
            if (sides[file].peer < 0) continue;
            if (sides[file].waiting) {
                if (events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) flush(file);
            }
            if (sides[file].peer >= 0 && events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) move(file);
        }
        if (fresh) welcome(listener, &backend);
    }
}
