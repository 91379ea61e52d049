/* Takes whole frames from the bytes that came in: a request begins, an append gets its DATA. What
 * cannot be taken now stays, and nothing more is read until it can. */
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/server/peer.h"
#include "daemon/server/requests.h"

enum { REQUESTS_MOST = 1024 }; /* with refused appends whose end has not come */

enum taken { TAKEN, TAKE_LATER };

static enum taken take_data(struct connection *connection, struct rpc_request *request,
                            const struct wire_header *header, const uint8_t *control) {
    struct wire_data data;
    request->heard_ns = clock_now_ns();
    if (request->failed || request->discarding)
        return TAKEN;
    if (wire_data_read(control, &data) != WIRE_OK) {
        connection_fail(connection, request->id, WIRE_PROTOCOL);
        return TAKEN;
    }
    enum rpc_step status =
        request->operation->data(request, &data, control + WIRE_DATA_BYTES, header->payload_bytes);
    if (status == RPC_WAIT)
        return TAKE_LATER;
    request->moved_bytes += header->payload_bytes;
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
        connection_fail(connection, header->request_id, WIRE_PROTOCOL);
        return TAKEN;
    }
    if (header->type == WIRE_DATA)
        return take_data(connection, request, header, control);
    return take_commit(connection, request);
}

/* A frame that begins a request is taken when the tenant's rate lets it; once it has, it may wait
 * for something else. */
static bool is_admitted(struct connection *connection) {
    struct tenant *tenant = connection->peer.tenant;
    if (tenant && !connection->admitted)
        connection->admitted = rate_take(&tenant->requests, clock_now_ns());
    return !tenant || connection->admitted;
}

static enum taken take_frame(struct connection *connection, const struct wire_header *header,
                             const uint8_t *control) {
    uint8_t type = header->type;
    bool greeting = type == WIRE_HELLO;
    if (greeting == connection->greeted) {
        connection_fail(connection, 0, WIRE_PROTOCOL);
        return TAKEN;
    }
    connection->greeted = true;
    if (!greeting && !peer_is_the_same(connection)) {
        connection_fail(connection, header->request_id, WIRE_UNAUTHENTICATED);
        return TAKEN;
    }
    if (type == WIRE_DATA || type == WIRE_COMMIT || type == WIRE_CANCEL)
        return take_follow_up(connection, header, control);
    if (connection->request_count >= REQUESTS_MOST) {
        connection_fail(connection, header->request_id, WIRE_TOO_MANY_REQUESTS);
        return TAKEN;
    }
    if (type >= WIRE_TYPES || header->request_id == 0 ||
        requests_find(connection, header->request_id)) {
        connection_fail(connection, 0, WIRE_PROTOCOL);
        return TAKEN;
    }
    if (!greeting && !is_admitted(connection))
        return TAKE_LATER;
    bool taken = requests_begin(connection, header, control);
    if (greeting && connection->requests && connection->requests->failed) {
        connection->close_when_sent = true;
        connection_log(connection, LOG_LEVEL_INFO, connection->requests, "a client is refused: %s",
                       connection->requests->fault.message);
    }
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
        connection_fail(connection, 0, (uint32_t)code);
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
    connection->admitted = false;
    connection->in_bytes -= frame_bytes;
    connection->receive_start_ns = clock_now_ns();
    if (header.type == WIRE_HELLO)
        explicit_bzero(start, frame_bytes); /* there may be a token in it */
    memmove(start, start + frame_bytes, connection->in_bytes);
    return true;
}

void connection_consume(struct connection *connection) {
    struct lease_pool *leases = connection->reactor->leases;
    bool any = false;
    connection->blocked = false;
    while (!connection->close_when_sent && connection->in.buffer && consume_one(connection))
        any = true;
    if (connection->blocked)
        connection_set_waiting(connection, true);
    if (connection->in_bytes == 0)
        lease_return(leases, &connection->in);
    else if (any && lease_is_short(leases)) /* between frames it is given up */
        lease_shrink(leases, &connection->in, RPC_FRAME_START + connection->in_bytes);
}
