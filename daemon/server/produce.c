/* Steps the requests in turn and sends the frames that they leave. */
#include "daemon/base/clock.h"
#include "daemon/server/requests.h"
#include "daemon/server/tls.h"

enum { WRITE_BYTES = 128 << 10, AHEAD_BYTES_LEAST = 64 << 10 };

void connection_set_writing(struct connection *connection, bool writing) {
    if (writing == connection->writing)
        return;
    connection->writing = writing;
    connection->reactor->writing += writing ? 1 : (size_t)-1;
    connection->write_start_ns = clock_now_ns();
    if (writing)
        reactor_start_tick(connection->reactor);
}

static void on_written(uv_write_t *write, int status) {
    struct connection *connection = write->data;
    connection_set_writing(connection, false);
    connection->out_bytes = 0;
    if (status < 0)
        connection_close(connection);
    else if (!connection->closing)
        connection_step(connection);
}

static void send_rest(struct connection *connection, uv_buf_t rest) {
    connection->write.data = connection;
    connection_set_writing(connection, true);
    int status = uv_write(&connection->write, &connection->stream, &rest, 1, on_written);
    if (status < 0) {
        connection_set_writing(connection, false);
        connection_close(connection);
    }
}

static void settle_sent(struct connection *connection) {
    connection->out_bytes = 0;
    connection->ready |= requests_first(connection) != NULL;
}

/* Over TLS, from where it stopped; the socket is watched while something is left. */
static void send_by_tls(struct connection *connection) {
    struct tls *tls = connection->tls;
    const uint8_t *rest = connection->out.buffer + RPC_FRAME_START + tls->sent_bytes;
    ssize_t sent = tls_write(connection, rest, connection->out_bytes - tls->sent_bytes);
    if (sent < 0) {
        connection_close(connection);
        return;
    }
    tls->sent_bytes += (size_t)sent;
    bool is_sent = tls->sent_bytes == connection->out_bytes;
    connection_set_writing(connection, !is_sent);
    if (is_sent) {
        tls->sent_bytes = 0;
        settle_sent(connection);
    }
}

/* Mostly the socket takes all at once; then there is nothing to wait for. */
static void send_frames(struct connection *connection) {
    uv_buf_t buffer = uv_buf_init((char *)connection->out.buffer + RPC_FRAME_START,
                                  (unsigned)connection->out_bytes);
    if (connection->tls) {
        send_by_tls(connection);
        return;
    }
    int sent = uv_try_write(&connection->stream, &buffer, 1);
    if (sent == UV_EAGAIN)
        sent = 0;
    if (sent < 0) {
        connection_close(connection);
    } else if ((size_t)sent < connection->out_bytes) {
        send_rest(connection, uv_buf_init(buffer.base + sent,
                                          (unsigned)(connection->out_bytes - (size_t)sent)));
    } else {
        settle_sent(connection);
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
    enum rpc_step status = request->operation->step(request, &frame);
    request->moved_bytes += frame.bytes;
    switch (status) {
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
    if (lease_take(leases, bytes, connection_payer(connection, false), &connection->out,
                   &connection->out_place))
        return true;
    connection_set_waiting(connection, true);
    return false;
}

static void swap(struct connection *connection) {
    struct lease out = connection->out;
    size_t out_bytes = connection->out_bytes;
    connection->out = connection->ahead;
    connection->out_bytes = connection->ahead_bytes;
    connection->ahead = out;
    connection->ahead_bytes = out_bytes;
}

/* While a write waits for the reader the next frames are made, so that the reader need not wait for
 * them. Only large ones are worth a buffer. */
static void produce_ahead(struct connection *connection) {
    struct lease_pool *leases = connection->reactor->leases;
    struct rpc_request *request = requests_first(connection);
    if (connection->ahead.buffer || !request || request->frame_bytes < AHEAD_BYTES_LEAST ||
        !lease_take_spare(leases, connection_payer(connection, false), &connection->ahead))
        return;
    swap(connection);
    step_request(connection, requests_next(connection));
    swap(connection);
    if (connection->ahead_bytes == 0)
        lease_return(leases, &connection->ahead);
}

/* What was made ahead is what is sent now. */
static void take_ahead(struct connection *connection) {
    lease_return(connection->reactor->leases, &connection->out);
    swap(connection);
}

/* Several small frames go out in one write: each write wakes the reader, which costs as much as
 * coding some kilobytes. */
static void produce(struct connection *connection) {
    struct rpc_request *request = NULL;
    while (!connection->ready && connection->out_bytes < WRITE_BYTES &&
           (request = requests_next(connection)) && hold_buffer(connection, request->frame_bytes))
        step_request(connection, request);
    if (!request)
        lease_leave(connection->reactor->leases, &connection->out_place);
    if (connection->out_bytes > 0)
        send_frames(connection);
    if (connection->out_bytes == 0)
        lease_return(connection->reactor->leases, &connection->out);
}

void connection_produce(struct connection *connection) {
    if (connection->writing && connection->tls)
        send_by_tls(connection);
    if (!connection->writing && connection->ahead.buffer && !connection->closing) {
        take_ahead(connection);
        send_frames(connection);
    }
    if (!connection->writing && !connection->closing)
        produce(connection);
    if (connection->writing && !connection->closing)
        produce_ahead(connection);
    if (connection->ready && !connection->closing && !connection->writing)
        reactor_step_again(connection->reactor, connection);
}
