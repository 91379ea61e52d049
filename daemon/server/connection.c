/* The happy path: bytes arrive (receive.c) -> whole frames are taken from them (consume.c): a
 * request begins, an append gets its DATA -> the requests are stepped in turn, each step leaving at
 * most one frame (produce.c) -> the frame is sent -> the next. Callbacks only record what happened
 * and call connection_step().
 *
 * Possible failure modes are: bytes that are not the protocol (one ERROR frame, then close), a
 * request that fails (its ERROR frame; the connection goes on), no buffer or memory (the connection
 * waits, unread), a client that goes away or reads nothing (closed; its requests end), a reactor
 * that drains (closed once no request is left).
 */
#include "daemon/server/connection.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/server/deadlines.h"
#include "daemon/server/peer.h"
#include "daemon/server/requests.h"
#include "daemon/server/tls.h"

enum { SEND_BUFFER_BYTES = 256 << 10 }; /* the kernel doubles it: a page of 1,024 channels fits */
enum { KEEPALIVE_S = 60 };
enum { READS_MOST = 32 }; /* of a record at most, before other connections have their turn */

void connection_set_waiting(struct connection *connection, bool waiting) {
    if (waiting == connection->waiting)
        return;
    connection->waiting = waiting;
    connection->reactor->waiting += waiting ? 1 : (size_t)-1;
    if (waiting)
        reactor_start_tick(connection->reactor);
}

struct lease_payer connection_payer(const struct connection *connection, bool receives) {
    struct tenant *tenant = connection->peer.tenant;
    return (struct lease_payer){tenant ? &tenant->in_flight_bytes : NULL, receives};
}

void connection_log(const struct connection *connection, enum log_level level,
                    const struct rpc_request *request, const char *format, ...) {
    struct log_fields fields = {.peer = connection->peer.address,
                                .client = connection->peer.client};
    char message[300];
    va_list arguments;
    if (!log_is_on(level))
        return;
    if (request) {
        const struct rpc_operation *operation = rpc_find(request->type);
        fields.operation = operation ? operation->name : NULL;
        fields.session = request->session_name;
        fields.error = request->fault.code ? wire_error_info(request->fault.code)->name : NULL;
    }
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    log_about(level, &fields, "%s", message);
}

void connection_fail(struct connection *connection, uint32_t id, uint32_t code) {
    requests_clear(connection);
    connection->in_bytes = 0;
    connection->close_when_sent = true;
    if (requests_add_fault(connection, id, code))
        connection_log(connection, LOG_LEVEL_INFO, connection->requests,
                       "a client's connection is closed: %s", connection->requests->fault.message);
    else
        connection_close(connection);
}

static bool is_over(const struct connection *connection) {
    bool idle = connection->request_count == 0 && !connection->writing;
    return idle && (connection->close_when_sent ||
                    (connection->reactor->draining && connection->in_bytes == 0));
}

/* Takes what came, over TLS in some reads, and sends what comes of it. */
static void serve(struct connection *connection) {
    int reads = 0;
    requests_wake(connection);
    connection_consume(connection);
    while (reads < READS_MOST && connection_receive(connection)) {
        connection_consume(connection);
        reads++;
    }
    if (reads == READS_MOST && !connection->closing)
        reactor_step_again(connection->reactor, connection);
    if (!connection->closing)
        connection_produce(connection);
    if (requests_any_waits(connection))
        connection_set_waiting(connection, true);
}

/* Its tenant's turn is over: it is not read either. */
static void put_off(struct connection *connection) {
    connection->put_off = true;
    reactor_step_again(connection->reactor, connection);
    connection_arm(connection);
}

static void step(struct connection *connection) {
    connection_set_waiting(connection, false);
    connection->ready = connection->starved = false;
    if (!connection->tls || tls_shake_hands(connection))
        serve(connection);
    if (connection->closing)
        return;
    if (is_over(connection))
        connection_close(connection);
    else
        connection_arm(connection);
    if (!connection->closing)
        deadlines_watch(connection);
}

void connection_step(struct connection *connection) {
    struct turns *turns = &connection->reactor->turns;
    if (connection->closing)
        return;
    if (!turns_has_time(turns, connection)) {
        put_off(connection);
        return;
    }
    uint64_t begun_ns = clock_now_ns();
    connection->put_off = false;
    step(connection);
    turns_spend(turns, connection, clock_now_ns() - begun_ns);
}

/* True if the socket is TCP. */
static bool init_handle(struct connection *connection, int socket) {
    int domain = AF_UNIX;
    socklen_t bytes = sizeof domain;
    getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &bytes);
    if (domain == AF_UNIX)
        uv_pipe_init(&connection->reactor->loop, &connection->pipe, 0);
    else
        uv_tcp_init(&connection->reactor->loop, &connection->tcp);
    connection->handle.data = connection;
    return domain != AF_UNIX;
}

static int open_pipe(struct connection *connection, int socket) {
    int status = uv_pipe_open(&connection->pipe, socket);
    int send_bytes = SEND_BUFFER_BYTES; /* a page is coded while the one before is read */
    if (status == 0)
        uv_send_buffer_size(&connection->handle, &send_bytes);
    return status;
}

/* Its send buffer is left to the system, which lets it grow as far. */
static int open_tcp(struct connection *connection, int socket) {
    int status = uv_tcp_open(&connection->tcp, socket);
    if (status == 0) /* a peer that has gone without a word is found out */
        status = uv_tcp_keepalive(&connection->tcp, 1, KEEPALIVE_S);
    return status == 0 ? uv_tcp_nodelay(&connection->tcp, 1) : status;
}

static int open_plain(struct connection *connection, int socket) {
    bool is_tcp = init_handle(connection, socket);
    int status = is_tcp ? open_tcp(connection, socket) : open_pipe(connection, socket);
    if (status == 0)
        return 0;
    log_warning("a connection could not be taken: %s", uv_strerror(status));
    return -1;
}

static size_t charge_of(bool is_tls) {
    return sizeof(struct connection) + (is_tls ? TLS_BYTES : 0);
}

/* NULL without memory. One over TLS has its handle. */
static struct connection *allocate(struct reactor *reactor, struct arrival arrival) {
    struct budget *budget = reactor->context.daemon->budget;
    size_t charge = charge_of(arrival.tls != NULL);
    if (!budget_reserve(budget, charge))
        return NULL;
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection)
        connection->reactor = reactor;
    if (connection && (!arrival.tls || tls_open(connection, arrival.socket, arrival.tls) == 0))
        return connection;
    free(connection);
    budget_release(budget, charge);
    return NULL;
}

static void refuse(struct reactor *reactor, int socket) {
    log_warning("no memory for one more connection");
    atomic_fetch_add(&reactor->context.daemon->connections_refused, 1);
    close(socket);
    atomic_fetch_sub(&reactor->context.daemon->connections, 1);
}

static void list(struct connection *connection) {
    struct reactor *reactor = connection->reactor;
    connection->next = reactor->connections;
    if (connection->next)
        connection->next->previous = connection;
    reactor->connections = connection;
}

/* Over TLS the handshake says who it is. */
static void identify(struct connection *connection, int socket) {
    peer_describe(socket, connection->peer.address, sizeof connection->peer.address);
    if (!connection->tls)
        peer_identify(connection);
}

void connection_new(struct reactor *reactor, struct arrival arrival) {
    struct connection *connection = allocate(reactor, arrival);
    if (!connection) {
        refuse(reactor, arrival.socket);
        return;
    }
    atomic_fetch_add(&reactor->context.daemon->connections_accepted, 1);
    connection->receive_start_ns = clock_now_ns();
    list(connection);
    if (!connection->tls && open_plain(connection, arrival.socket) < 0) {
        close(arrival.socket);
        connection_close(connection);
        return;
    }
    identify(connection, arrival.socket);
    connection_log(connection, LOG_LEVEL_DEBUG, NULL, "a client has connected");
    connection_step(connection);
}

static void on_closed(uv_handle_t *handle) {
    struct connection *connection = handle->data;
    struct reactor *reactor = connection->reactor;
    connection_log(connection, LOG_LEVEL_DEBUG, NULL, "a client's connection has ended");
    lease_return(reactor->leases, &connection->out);
    lease_return(reactor->leases, &connection->ahead);
    *(connection->previous ? &connection->previous->next : &reactor->connections) =
        connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    size_t charge = charge_of(connection->tls != NULL);
    if (connection->tls)
        tls_free(connection->tls);
    free(connection);
    budget_release(reactor->context.daemon->budget, charge);
    atomic_fetch_sub(&reactor->context.daemon->connections, 1);
    reactor_end_if_idle(reactor);
}

void connection_close(struct connection *connection) {
    if (connection->closing)
        return;
    connection->closing = true;
    connection_set_waiting(connection, false);
    reactor_forget(connection->reactor, connection);
    requests_clear(connection);
    charge_release(&connection->peer.charge);
    lease_return(connection->reactor->leases, &connection->in);
    lease_leave(connection->reactor->leases, &connection->in_place);
    lease_leave(connection->reactor->leases, &connection->out_place);
    if (connection->tls) {
        tls_say_end(connection);
        connection_set_writing(connection, false); /* else libuv says that it is over */
    }
    uv_close(&connection->handle, on_closed);
}
