/* The happy path: bytes arrive -> consume() takes whole frames from them: a request begins, an
 * append gets its DATA -> produce() steps the requests in turn, each step leaving at most one frame
 * -> the frame is sent -> the next. Callbacks only record what happened and call connection_step().
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
#include "daemon/server/peer.h"
#include "daemon/server/requests.h"

enum {
    READ_AHEAD_BYTES = 4096,
    REQUESTS_MOST = 1024, /* with refused appends whose end has not come */
    WRITE_BYTES = 128 << 10,
    SEND_BUFFER_BYTES = 256 << 10, /* the kernel doubles it: a page of 1,024 channels fits */
};

enum taken { TAKEN, TAKE_LATER };

static void set_waiting(struct connection *connection, bool waiting) {
    if (waiting == connection->waiting)
        return;
    connection->waiting = waiting;
    connection->reactor->waiting += waiting ? 1 : (size_t)-1;
    if (waiting)
        reactor_start_tick(connection->reactor);
}

static void set_writing(struct connection *connection, bool writing) {
    connection->writing = writing;
    connection->reactor->writing += writing ? 1 : (size_t)-1;
    connection->write_start_ns = clock_now_ns();
    if (writing)
        reactor_start_tick(connection->reactor);
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

/* A fault that ends the connection: one ERROR frame, then close. */
static void fail_connection(struct connection *connection, uint32_t id, uint32_t code) {
    requests_clear(connection);
    connection->in_bytes = 0;
    connection->close_when_sent = true;
    if (requests_add_fault(connection, id, code))
        connection_log(connection, LOG_LEVEL_INFO, connection->requests,
                       "a client's connection is closed: %s", connection->requests->fault.message);
    else
        connection_close(connection);
}

/* --- frames --- */

static enum taken take_data(struct connection *connection, struct rpc_request *request,
                            const struct wire_header *header, const uint8_t *control) {
    struct wire_data data;
    if (request->failed || request->discarding)
        return TAKEN;
    if (wire_data_read(control, &data) != WIRE_OK) {
        fail_connection(connection, request->id, WIRE_PROTOCOL);
        return TAKEN;
    }
    enum rpc_step status =
        request->operation->data(request, &data, control + WIRE_DATA_BYTES, header->payload_bytes);
    if (status == RPC_WAIT)
        return TAKE_LATER;
    if (status == RPC_FAILED)
        requests_fail(connection, request);
    return TAKEN;
}

/* One that has to wait for memory is taken later, so that what is behind it finds its effect. */
static enum taken take_commit(struct connection *connection, struct rpc_request *request) {
    request->receiving = false;
    if (request->discarding) {
        requests_remove(connection, request);
        return TAKEN;
    }
    if (request->failed)
        return TAKEN;
    enum rpc_step status = request->operation->commit(request);
    if (status == RPC_FAILED)
        requests_fail(connection, request);
    request->receiving = status == RPC_WAIT;
    return status == RPC_WAIT ? TAKE_LATER : TAKEN;
}

static void take_cancel(struct connection *connection, struct rpc_request *request) {
    if (request->discarding) {
        requests_remove(connection, request);
        return;
    }
    if (request->irrevocable)
        return;
    request->receiving = false;
    if (!request->failed) {
        rpc_fail(request, WIRE_CANCELLED, NULL);
        requests_fail(connection, request);
    }
}

/* A frame of a request that is under way: what comes behind an APPEND, or CANCEL. */
static enum taken take_follow_up(struct connection *connection, const struct wire_header *header,
                                 const uint8_t *control) {
    struct rpc_request *request = requests_find(connection, header->request_id);
    if (header->type == WIRE_CANCEL) {
        if (request)
            take_cancel(connection, request);
        return TAKEN;
    }
    if (!request || !request->receiving) {
        fail_connection(connection, header->request_id, WIRE_PROTOCOL);
        return TAKEN;
    }
    if (header->type == WIRE_DATA)
        return take_data(connection, request, header, control);
    return take_commit(connection, request);
}

static enum taken take_frame(struct connection *connection, const struct wire_header *header,
                             const uint8_t *control) {
    uint8_t type = header->type;
    bool greeting = type == WIRE_HELLO;
    if (greeting == connection->greeted) {
        fail_connection(connection, 0, WIRE_PROTOCOL);
        return TAKEN;
    }
    connection->greeted = true;
    if (type == WIRE_DATA || type == WIRE_COMMIT || type == WIRE_CANCEL)
        return take_follow_up(connection, header, control);
    if (connection->request_count >= REQUESTS_MOST) {
        fail_connection(connection, header->request_id, WIRE_TOO_MANY_REQUESTS);
        return TAKEN;
    }
    if (type > WIRE_DATA || header->request_id == 0 ||
        requests_find(connection, header->request_id)) {
        fail_connection(connection, 0, WIRE_PROTOCOL);
        return TAKEN;
    }
    bool taken = requests_begin(connection, header, control);
    if (greeting && connection->requests && connection->requests->failed)
        connection->close_when_sent = true;
    return taken ? TAKEN : TAKE_LATER;
}

/* Takes the frame at the buffer's start, if all of it is there. False if nothing more can be taken
 * now. */
static bool consume_one(struct connection *connection) {
    uint8_t *start = connection->in.buffer + RPC_FRAME_START;
    struct wire_header header;
    if (connection->in_bytes < WIRE_HEADER_BYTES)
        return false;
    int code = wire_header_read(start, &header);
    if (code != WIRE_OK) {
        fail_connection(connection, 0, (uint32_t)code);
        return false;
    }
    size_t frame_bytes = (size_t)WIRE_HEADER_BYTES + header.control_bytes + header.payload_bytes;
    if (connection->in_bytes < frame_bytes)
        return false;
    if (take_frame(connection, &header, start + WIRE_HEADER_BYTES) == TAKE_LATER) {
        connection->blocked = true;
        return false;
    }
    if (connection->in_bytes == 0)
        return false; /* the connection failed */
    connection->in_bytes -= frame_bytes;
    connection->receive_start_ns = clock_now_ns();
    memmove(start, start + frame_bytes, connection->in_bytes);
    return true;
}

static void consume(struct connection *connection) {
    struct lease_pool *leases = connection->reactor->leases;
    bool any = false;
    connection->blocked = false;
    while (!connection->close_when_sent && connection->in.buffer && consume_one(connection))
        any = true;
    if (connection->blocked)
        set_waiting(connection, true);
    if (connection->in_bytes == 0)
        lease_return(leases, &connection->in);
    else if (any && lease_is_short(leases)) /* between frames it is given up */
        lease_shrink(leases, &connection->in, RPC_FRAME_START + connection->in_bytes);
}

/* --- sending --- */

static void on_written(uv_write_t *write, int status) {
    struct connection *connection = write->data;
    set_writing(connection, false);
    if (status < 0)
        connection_close(connection);
    else if (!connection->closing)
        connection_step(connection);
}

static void send_rest(struct connection *connection, uv_buf_t rest) {
    connection->write.data = connection;
    set_writing(connection, true);
    int status = uv_write(&connection->write, &connection->stream, &rest, 1, on_written);
    if (status < 0) {
        set_writing(connection, false);
        connection_close(connection);
    }
}

/* Mostly the socket takes all at once; then there is nothing to wait for. */
static void send_frames(struct connection *connection) {
    uv_buf_t buffer = uv_buf_init((char *)connection->out.buffer + RPC_FRAME_START,
                                  (unsigned)connection->out_bytes);
    int sent = uv_try_write(&connection->stream, &buffer, 1);
    if (sent == UV_EAGAIN)
        sent = 0;
    if (sent < 0) {
        connection_close(connection);
    } else if ((size_t)sent < connection->out_bytes) {
        send_rest(connection, uv_buf_init(buffer.base + sent,
                                          (unsigned)(connection->out_bytes - (size_t)sent)));
    } else {
        connection->out_bytes = 0;
        connection->ready |= requests_any_can_step(connection);
    }
}

/* The ERROR frame of a failed request. One that still sends is kept, silent, until it stops. */
static void write_fault(struct connection *connection, struct rpc_request *request,
                        struct rpc_frame *frame) {
    rpc_write_fault(request->id, &request->fault, frame);
    requests_count_answer(connection, request);
    if (request->receiving) {
        request->failed = false;
        request->discarding = true;
    } else {
        requests_remove(connection, request);
    }
}

/* Steps one request; the frame that it leaves comes behind those that are there. */
static void step_request(struct connection *connection, struct rpc_request *request) {
    struct rpc_frame frame = {.buffer = connection->out.buffer + connection->out_bytes};
    if (request->failed) {
        write_fault(connection, request, &frame);
        connection->out_bytes += frame.bytes;
        return;
    }
    switch (request->operation->step(request, &frame)) {
    case RPC_MORE:
        connection->ready |= frame.bytes == 0;
        break;
    case RPC_WAIT:
        request->waiting = true;
        break;
    case RPC_DONE:
        requests_count_answer(connection, request);
        requests_remove(connection, request);
        break;
    case RPC_FAILED:
        requests_fail(connection, request);
        write_fault(connection, request, &frame);
        break;
    }
    connection->out_bytes += frame.bytes;
}

/* Room for a frame of so many bytes: behind those that are there, or in a buffer of its own. A
 * large one that others wait for is not kept for the next frame. */
static bool hold_buffer(struct connection *connection, size_t frame_bytes) {
    struct lease_pool *leases = connection->reactor->leases;
    size_t bytes = RPC_FRAME_START + connection->out_bytes + frame_bytes;
    bool fits = connection->out.buffer && connection->out.bytes >= bytes;
    bool is_wanted = connection->out.bytes > LEASE_SMALL_BYTES && lease_is_short(leases);
    if (connection->out_bytes > 0)
        return fits;
    if (fits && !is_wanted)
        return true;
    lease_return(leases, &connection->out);
    if (lease_take(leases, bytes, &connection->out, &connection->out_place))
        return true;
    set_waiting(connection, true);
    return false;
}

/* Several small frames go out in one write: each write wakes the reader, which costs as much as
 * coding some kilobytes. */
static void produce(struct connection *connection) {
    struct rpc_request *request = NULL;
    if (connection->writing)
        return;
    connection->out_bytes = 0;
    while (!connection->ready && connection->out_bytes < WRITE_BYTES &&
           (request = requests_next(connection)) && hold_buffer(connection, request->frame_bytes))
        step_request(connection, request);
    if (!request)
        lease_leave(connection->reactor->leases, &connection->out_place);
    if (connection->out_bytes > 0)
        send_frames(connection);
    if (connection->out_bytes == 0)
        lease_return(connection->reactor->leases, &connection->out);
    if (connection->ready && !connection->closing)
        reactor_step_again(connection->reactor, connection);
}

/* --- receiving --- */

static void arm(struct connection *connection);

/* Bytes of the frame at the buffer's start; those of a header as long as it is not all there. */
static size_t frame_bytes_in(const struct connection *connection) {
    struct wire_header header;
    if (connection->in_bytes < WIRE_HEADER_BYTES ||
        wire_header_read(connection->in.buffer + RPC_FRAME_START, &header) != WIRE_OK)
        return WIRE_HEADER_BYTES;
    return (size_t)WIRE_HEADER_BYTES + header.control_bytes + header.payload_bytes;
}

bool connection_holds_large(const struct connection *connection) {
    return connection->in.buffer && connection->in.bytes > LEASE_SMALL_BYTES &&
           !connection->blocked;
}

/* Room for the frame that is coming in, with what is there of it. */
static bool hold_room(struct connection *connection) {
    struct lease_pool *leases = connection->reactor->leases;
    size_t bytes = RPC_FRAME_START + frame_bytes_in(connection);
    struct lease old = connection->in, lease;
    if (old.buffer && old.bytes >= bytes)
        return true;
    if (!lease_take(leases, bytes, &lease, &connection->in_place))
        return false;
    if (old.buffer)
        memcpy(lease.buffer + RPC_FRAME_START, old.buffer + RPC_FRAME_START, connection->in_bytes);
    connection->in = lease;
    lease_return(leases, &old);
    connection->receive_start_ns = clock_now_ns();
    if (connection_holds_large(connection))
        reactor_start_tick(connection->reactor);
    return true;
}

/* Reads to the end of the frame, or somewhat ahead where that is near. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    struct connection *connection = handle->data;
    (void)suggested;
    if (!hold_room(connection)) {
        *buffer = uv_buf_init(NULL, 0);
        return;
    }
    size_t used = RPC_FRAME_START + connection->in_bytes;
    size_t wanted = frame_bytes_in(connection) - connection->in_bytes;
    size_t room = connection->in.bytes - used;
    if (wanted < READ_AHEAD_BYTES)
        wanted = READ_AHEAD_BYTES < room ? (size_t)READ_AHEAD_BYTES : room;
    *buffer = uv_buf_init((char *)connection->in.buffer + used, (unsigned)wanted);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
    struct connection *connection = stream->data;
    (void)buffer;
    if (count == UV_ENOBUFS) {
        connection->starved = true;
        set_waiting(connection, true);
        arm(connection);
    } else if (count < 0) {
        connection_close(connection);
    } else if (count > 0) {
        connection->in_bytes += (size_t)count;
        connection_step(connection);
    }
}

/* Reads while there is something to read for. */
static void arm(struct connection *connection) {
    bool want = !connection->blocked && !connection->starved && !connection->close_when_sent;
    if (want == connection->reading)
        return;
    connection->reading = want;
    if (want)
        uv_read_start(&connection->stream, on_alloc, on_read);
    else
        uv_read_stop(&connection->stream);
}

/* --- life --- */

static bool is_over(const struct connection *connection) {
    bool idle = connection->request_count == 0 && !connection->writing;
    return idle && (connection->close_when_sent ||
                    (connection->reactor->draining && connection->in_bytes == 0));
}

void connection_step(struct connection *connection) {
    if (connection->closing)
        return;
    set_waiting(connection, false);
    connection->ready = connection->starved = false;
    requests_wake(connection);
    consume(connection);
    produce(connection);
    if (requests_any_waits(connection))
        set_waiting(connection, true);
    if (connection->closing)
        return;
    if (is_over(connection))
        connection_close(connection);
    else
        arm(connection);
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
    return status == 0 ? uv_tcp_nodelay(&connection->tcp, 1) : status;
}

void connection_new(struct reactor *reactor, int socket) {
    struct budget *budget = reactor->context.daemon->budget;
    struct connection *connection = NULL;
    if (budget_reserve(budget, sizeof *connection) && !(connection = calloc(1, sizeof *connection)))
        budget_release(budget, sizeof *connection);
    if (!connection) {
        log_warning("no memory for one more connection");
        atomic_fetch_add(&reactor->context.daemon->connections_refused, 1);
        close(socket);
        atomic_fetch_sub(&reactor->context.daemon->connections, 1);
        return;
    }
    atomic_fetch_add(&reactor->context.daemon->connections_accepted, 1);
    connection->reactor = reactor;
    bool is_tcp = init_handle(connection, socket);
    connection->next = reactor->connections;
    if (connection->next)
        connection->next->previous = connection;
    reactor->connections = connection;
    int status = is_tcp ? open_tcp(connection, socket) : open_pipe(connection, socket);
    if (status < 0) {
        log_warning("a connection could not be taken: %s", uv_strerror(status));
        close(socket);
        connection_close(connection);
        return;
    }
    peer_describe(socket, connection->peer.address, sizeof connection->peer.address);
    connection_log(connection, LOG_LEVEL_DEBUG, NULL, "a client has connected");
    connection_step(connection);
}

static void on_closed(uv_handle_t *handle) {
    struct connection *connection = handle->data;
    struct reactor *reactor = connection->reactor;
    connection_log(connection, LOG_LEVEL_DEBUG, NULL, "a client's connection has ended");
    lease_return(reactor->leases, &connection->out);
    *(connection->previous ? &connection->previous->next : &reactor->connections) =
        connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    free(connection);
    budget_release(reactor->context.daemon->budget, sizeof *connection);
    atomic_fetch_sub(&reactor->context.daemon->connections, 1);
    reactor_end_if_idle(reactor);
}

void connection_close(struct connection *connection) {
    if (connection->closing)
        return;
    connection->closing = true;
    set_waiting(connection, false);
    reactor_forget(connection->reactor, connection);
    requests_clear(connection);
    lease_return(connection->reactor->leases, &connection->in);
    lease_leave(connection->reactor->leases, &connection->in_place);
    lease_leave(connection->reactor->leases, &connection->out_place);
    uv_close(&connection->handle, on_closed);
}
