#include "tests/bench/raw_store.h"

#include "tests/bench/fail.h"
#include "tests/bench/json_line.h"
#include "tests/bench/rounds.h"
#include "tests/bench/socket_io.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PING = 1, APPEND = 2, FETCH = 3, PING_BYTES_MAX = 256, TUNING_ROUNDS = 3 };

struct request {
    uint32_t kind, slot;
    uint64_t bytes, piece_bytes;
};

struct raw_connection {
    int socket;
};

/* --- the child --- */

struct service {
    int socket;
    char *memory;
    size_t slot_bytes;
};

static void send_pieces(int socket, const char *bytes, size_t count, size_t piece) {
    for (size_t at = 0; at < count; at += piece)
        send_all(socket, bytes + at, count - at < piece ? count - at : piece);
}

static bool receive_pieces(int socket, char *bytes, size_t count, size_t piece) {
    for (size_t at = 0; at < count; at += piece)
        if (!receive_all(socket, bytes + at, count - at < piece ? count - at : piece))
            return false;
    return true;
}

/* Pings until the first byte says that there are no more: a ping is as small as the bytes asked
 * for, so it has no header. */
static void serve_pings(int socket, size_t bytes) {
    char ping[PING_BYTES_MAX];
    while (receive_all(socket, ping, bytes)) {
        send_all(socket, ping, bytes);
        if (ping[0])
            return;
    }
}

static void *serve(void *argument) {
    struct service service = *(struct service *)argument;
    struct request request;
    free(argument);
    while (receive_all(service.socket, &request, sizeof request)) {
        char *slot = service.memory + request.slot * service.slot_bytes;
        if (request.kind == PING) {
            serve_pings(service.socket, request.bytes);
        } else if (request.kind == FETCH) {
            send_pieces(service.socket, slot, request.bytes, request.piece_bytes);
        } else {
            receive_pieces(service.socket, slot, request.bytes, request.piece_bytes);
            send_all(service.socket, "", 1);
        }
    }
    close(service.socket);
    return NULL;
}

static void accept_one(int listener, char *memory, size_t slot_bytes) {
    struct service *service = malloc(sizeof *service);
    pthread_t thread;
    int buffer_bytes;
    if (!service)
        fail("malloc");
    *service = (struct service){accept(listener, NULL, NULL), memory, slot_bytes};
    if (service->socket < 0 || !receive_all(service->socket, &buffer_bytes, sizeof buffer_bytes))
        fail("accept");
    tune_socket(service->socket, buffer_bytes);
    if (pthread_create(&thread, NULL, serve, service))
        fail_because("the raw store has no thread");
    pthread_detach(thread);
}

static _Noreturn void run_child(int listener, const struct workload *workload) {
    char *memory = touched_memory(workload->sessions * workload->session_bytes);
    for (;;)
        accept_one(listener, memory, workload->session_bytes);
}

/* --- the client's side --- */

void raw_store_start(struct raw_store *store, const char *transport, const char *folder,
                     const struct workload *workload, enum placement placement) {
    *store = (struct raw_store){0};
    snprintf(store->transport, sizeof store->transport, "%s", transport);
    snprintf(store->path, sizeof store->path, "%s/raw", folder);
    int listener = listen_on(transport, store->path, &store->port);
    store->child = fork();
    if (store->child < 0)
        fail("fork");
    if (store->child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        placement_server(placement);
        run_child(listener, workload);
    }
    close(listener);
}

void raw_store_stop(struct raw_store *store) {
    kill(store->child, SIGKILL);
    waitpid(store->child, NULL, 0);
    unlink(store->path);
}

static void *connect_raw(void *context) {
    struct raw_store *store = context;
    struct raw_connection *connection = malloc(sizeof *connection);
    if (!connection)
        fail("malloc");
    connection->socket = connect_to(store->transport, store->path, store->port);
    send_all(connection->socket, &store->buffer_bytes, sizeof store->buffer_bytes);
    tune_socket(connection->socket, store->buffer_bytes);
    return connection;
}

static void disconnect_raw(void *connection) {
    close(((struct raw_connection *)connection)->socket);
    free(connection);
}

static void send_request(int socket, uint32_t kind, uint32_t slot, size_t bytes, size_t piece) {
    struct request request = {kind, slot, bytes, piece};
    send_all(socket, &request, sizeof request);
}

static void append_to(int socket, uint32_t slot, const char *bytes, size_t count, size_t piece) {
    char answer;
    send_request(socket, APPEND, slot, count, piece);
    send_pieces(socket, bytes, count, piece);
    if (!receive_all(socket, &answer, 1))
        fail_because("the raw store went away");
}

static void fetch_from(int socket, uint32_t slot, char *bytes, size_t count, size_t piece) {
    send_request(socket, FETCH, slot, count, piece);
    if (!receive_pieces(socket, bytes, count, piece))
        fail_because("the raw store went away");
}

static void append_session(void *connection, const struct workload *workload, uint32_t session) {
    append_to(((struct raw_connection *)connection)->socket, session, workload->source[session],
              workload->session_bytes, workload->page_bytes);
}

static void fetch_session(void *connection, const struct workload *workload, uint32_t session) {
    fetch_from(((struct raw_connection *)connection)->socket, session, workload->target[session],
               workload->session_bytes, workload->page_bytes);
}

struct contender raw_store_contender(struct raw_store *store) {
    return (struct contender){
        .name = "raw",
        .variant = "",
        .level = "",
        .exact = true,
        .context = store,
        .connect = connect_raw,
        .disconnect = disconnect_raw,
        .append = append_session,
        .fetch = fetch_session,
    };
}

void raw_store_append_bytes(void *connection, const char *bytes, size_t count, size_t piece_bytes) {
    append_to(((struct raw_connection *)connection)->socket, 0, bytes, count, piece_bytes);
}

void raw_store_fetch_bytes(void *connection, char *bytes, size_t count, size_t piece_bytes) {
    fetch_from(((struct raw_connection *)connection)->socket, 0, bytes, count, piece_bytes);
}

/* --- pings --- */

void raw_store_begin_pings(void *connection, uint32_t bytes) {
    send_request(((struct raw_connection *)connection)->socket, PING, 0, bytes, 0);
}

void raw_store_ping(void *connection, uint32_t bytes, bool last) {
    int socket = ((struct raw_connection *)connection)->socket;
    char ping[PING_BYTES_MAX] = {(char)last};
    send_all(socket, ping, bytes);
    if (!receive_all(socket, ping, bytes))
        fail_because("the raw store went away");
}

/* --- tuning --- */

static double least(const double *seconds, size_t count) {
    double found = seconds[0];
    for (size_t i = 1; i < count; i++)
        found = seconds[i] < found ? seconds[i] : found;
    return found;
}

/* The quickest append and the quickest fetch: what else ran meanwhile made others slower. */
static double best_seconds(const struct rounds_result *result) {
    return least(result->append_seconds, result->count) +
           least(result->fetch_seconds, result->count);
}

void raw_store_tune(struct raw_store *store, struct workload *workload, uint32_t connections) {
    static const int sizes[] = {0, 256 << 10, 1 << 20, 4 << 20};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    struct raw_store stores[SIZES];
    struct contender contenders[SIZES];
    static struct rounds_result results[SIZES];
    size_t best = 0;
    for (size_t i = 0; i < SIZES; i++) {
        stores[i] = *store;
        stores[i].buffer_bytes = sizes[i];
        contenders[i] = raw_store_contender(&stores[i]);
    }
    memset(results, 0, sizeof results);
    rounds_run(workload, contenders, SIZES, connections, TUNING_ROUNDS, results);
    for (size_t i = 0; i < SIZES; i++) {
        if (best_seconds(&results[i]) < best_seconds(&results[best]))
            best = i;
    }
    store->buffer_bytes = sizes[best];
    for (size_t i = 0; i < SIZES; i++) {
        json_begin("raw_buffers");
        json_string("shape", workload->shape);
        json_string("transport", store->transport);
        json_number("connections", connections);
        json_number("buffer_bytes", sizes[i]);
        json_number("bytes", (double)workload->sessions * (double)workload->session_bytes);
        json_numbers("append_seconds", results[i].append_seconds, results[i].count);
        json_numbers("fetch_seconds", results[i].fetch_seconds, results[i].count);
        json_number("chosen", i == best);
        json_end();
    }
}
