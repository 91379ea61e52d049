/* Reads what a client sends into a buffer that is leased for the time of the frame. */
#include <poll.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/server/connection.h"
#include "daemon/server/tls.h"

enum { READ_AHEAD_BYTES = 4096 };

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

bool connection_is_abandoned(const struct connection *connection) {
    struct pollfd client = {.events = POLLRDHUP};
    return connection->blocked && !connection->closing &&
           uv_fileno(&connection->handle, &client.fd) == 0 && poll(&client, 1, 0) > 0;
}

/* Room for the frame that is coming in, with what is there of it. */
static bool hold_room(struct connection *connection) {
    struct lease_pool *leases = connection->reactor->leases;
    size_t bytes = RPC_FRAME_START + frame_bytes_in(connection);
    struct lease old = connection->in, lease;
    if (old.buffer && old.bytes >= bytes)
        return true;
    if (!lease_take(leases, bytes, connection_payer(connection, true), &lease,
                    &connection->in_place))
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
        connection_set_waiting(connection, true);
        connection_arm(connection);
    } else if (count < 0) {
        connection_close(connection);
    } else if (count > 0) {
        connection->in_bytes += (size_t)count;
        connection_step(connection);
    }
}

static bool wants_bytes(const struct connection *connection) {
    return !connection->closing && !connection->blocked && !connection->starved &&
           !connection->put_off && !connection->close_when_sent;
}

/* A part of a record takes as much time as a part of a frame may. */
static void note_part(struct connection *connection, uint64_t start_ns) {
    struct tls *tls = connection->tls;
    bool held_part = tls->holds_part;
    tls->holds_part = SSL_has_pending(tls->ssl);
    if (!connection->greeted || !tls->holds_part || held_part)
        connection->receive_start_ns = start_ns;
}

bool connection_receive(struct connection *connection) {
    uint64_t start_ns = connection->receive_start_ns;
    uv_buf_t buffer;
    if (!connection->tls || !wants_bytes(connection) || !tls_is_readable(connection->tls))
        return false;
    on_alloc(&connection->handle, 0, &buffer);
    if (!buffer.base) {
        connection->starved = true;
        connection_set_waiting(connection, true);
        return false;
    }
    ssize_t count = tls_read(connection, buffer.base, buffer.len);
    if (count < 0) {
        connection_close(connection);
        return false;
    }
    connection->in_bytes += (size_t)count;
    if (count > 0) {
        connection->tls->holds_part = false;
        return true;
    }
    note_part(connection, start_ns);
    if (connection->in_bytes == 0)
        lease_return(connection->reactor->leases, &connection->in);
    return false;
}

/* Reads while there is something to read for. */
void connection_arm(struct connection *connection) {
    bool want = wants_bytes(connection);
    if (connection->tls) {
        tls_watch(connection, want);
        return;
    }
    if (want == connection->reading)
        return;
    connection->reading = want;
    if (want)
        uv_read_start(&connection->stream, on_alloc, on_read);
    else
        uv_read_stop(&connection->stream);
}
