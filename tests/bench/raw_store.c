#include "tests/bench/raw_store.h"

#include "tests/bench/placement.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum request_kind { APPEND = 1, FETCH = 2 };

struct request {
    uint32_t kind, slot;
};

static void fail(const char *what) {
    perror(what);
    exit(EXIT_FAILURE);
}

static void send_all(int socket, const void *bytes, size_t count) {
    for (const char *at = bytes; count;) {
        ssize_t sent = send(socket, at, count, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            fail("send");
        at += sent > 0 ? sent : 0;
        count -= sent > 0 ? (size_t)sent : 0;
    }
}

/* False at the stream's end. */
static bool receive_all(int socket, void *bytes, size_t count) {
    for (char *at = bytes; count;) {
        ssize_t got = recv(socket, at, count, MSG_WAITALL);
        if (got < 0 && errno != EINTR)
            fail("recv");
        if (got == 0)
            return false;
        at += got > 0 ? got : 0;
        count -= got > 0 ? (size_t)got : 0;
    }
    return true;
}

static void send_pieces(int socket, const char *bytes, size_t count, size_t piece) {
    for (size_t at = 0; at < count; at += piece)
        send_all(socket, bytes + at, count - at < piece ? count - at : piece);
}

static void receive_pieces(int socket, char *bytes, size_t count, size_t piece) {
    for (size_t at = 0; at < count; at += piece)
        if (!receive_all(socket, bytes + at, count - at < piece ? count - at : piece))
            fail("the other side went away");
}

static void serve(int socket, char *memory, size_t slot_bytes, size_t piece_bytes) {
    struct request request;
    while (receive_all(socket, &request, sizeof request)) {
        char *slot = memory + request.slot * slot_bytes;
        if (request.kind == FETCH) {
            send_pieces(socket, slot, slot_bytes, piece_bytes);
        } else {
            receive_pieces(socket, slot, slot_bytes, piece_bytes);
            send_all(socket, &request, sizeof request);
        }
    }
}

static void set_send_buffer(int socket, int bytes) {
    if (bytes && setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes))
        fail("SO_SNDBUF");
}

static _Noreturn void run_child(int socket, size_t slots, size_t slot_bytes, size_t piece_bytes) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char *memory = malloc(slots * slot_bytes);
    if (!memory)
        fail("malloc");
    memset(memory, 1, slots * slot_bytes);
    send_all(socket, "", 1);
    serve(socket, memory, slot_bytes, piece_bytes);
    _exit(EXIT_SUCCESS);
}

void raw_store_start(struct raw_store *store, size_t slots, size_t slot_bytes, size_t piece_bytes,
                     int send_buffer_bytes, int cpu) {
    int ends[2];
    char ready;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
        fail("socketpair");
    set_send_buffer(ends[0], send_buffer_bytes);
    set_send_buffer(ends[1], send_buffer_bytes);
    store->child = fork();
    if (store->child < 0)
        fail("fork");
    if (store->child == 0) {
        close(ends[0]);
        placement_leave(cpu);
        run_child(ends[1], slots, slot_bytes, piece_bytes);
    }
    close(ends[1]);
    store->socket = ends[0];
    store->slot_bytes = slot_bytes;
    store->piece_bytes = piece_bytes;
    if (!receive_all(store->socket, &ready, 1))
        fail("the raw store did not start");
}

void raw_store_stop(struct raw_store *store) {
    shutdown(store->socket, SHUT_RDWR); /* close() is not enough: a later child holds it too */
    close(store->socket);
    waitpid(store->child, NULL, 0);
}

void raw_store_append(struct raw_store *store, uint32_t slot, const void *bytes) {
    struct request request = {.kind = APPEND, .slot = slot};
    send_all(store->socket, &request, sizeof request);
    send_pieces(store->socket, bytes, store->slot_bytes, store->piece_bytes);
    if (!receive_all(store->socket, &request, sizeof request))
        fail("the raw store went away");
}

void raw_store_fetch(struct raw_store *store, uint32_t slot, void *bytes) {
    struct request request = {.kind = FETCH, .slot = slot};
    send_all(store->socket, &request, sizeof request);
    receive_pieces(store->socket, bytes, store->slot_bytes, store->piece_bytes);
}
