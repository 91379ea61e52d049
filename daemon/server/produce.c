/* Steps the requests in turn and sends the frames that they leave. */
#include "daemon/base/clock.h"
#include "daemon/server/requests.h"

enum { WRITE_BYTES = 128 << 10 };

static void set_writing(struct connection *connection, bool writing) {
    connection->writing = writing;
    connection->reactor->writing += writing ? 1 : (size_t)-1;
    connection->write_start_ns = clock_now_ns();
    if (writing)
        reactor_start_tick(connection->reactor);
}

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
    connection_set_waiting(connection, true);
    return false;
}

/* Several small frames go out in one write: each write wakes the reader, which costs as much as
 * coding some kilobytes. */
void connection_produce(struct connection *connection) {
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
