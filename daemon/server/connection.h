/* A connection: reads frames, gives them to operations, sends what those leave.
 *
 * Owned by its reactor's list from connection_new() until its handle is closed.
 */
#ifndef DAEMON_SERVER_CONNECTION_H
#define DAEMON_SERVER_CONNECTION_H

#include "daemon/base/log.h"
#include "daemon/server/reactor.h"

struct tls;

struct connection {
    union { /* by the socket's family */
        uv_handle_t handle;
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
        uv_poll_t poll; /* over TLS */
    };
    struct tls *tls; /* NULL: what comes and goes is in the clear */
    uv_write_t write;
    struct reactor *reactor;
    struct connection *next, *previous;

    struct lease_place in_place, out_place;
    struct lease in; /* while bytes are there: a frame begins at its RPC_FRAME_START */
    size_t in_bytes;
    uint64_t receive_start_ns; /* of the frame that is coming in; else of the pause before it */
    struct lease out;          /* while frames are made or sent */
    size_t out_bytes;
    struct lease ahead; /* while frames are made during a write: what is sent next */
    size_t ahead_bytes;
    uint64_t write_start_ns;

    struct rpc_peer peer;
    struct rpc_request *requests; /* the next to be stepped comes first */
    unsigned request_count;
    bool greeted, reading, writing, closing;
    bool blocked;  /* the frame in `in` cannot be taken yet */
    bool admitted; /* that frame, by its tenant's rate */
    bool waiting;  /* for memory, a buffer or the keeper */
    bool starved;  /* there was no buffer to read into */
    bool ready;    /* to be stepped again */
    bool put_off;  /* not read until it is its tenant's turn again */
    struct turn_place place;
    bool close_when_sent; /* after a fault that ends the connection */
};

/* Takes over the socket, counted among the daemon's connections. Without memory it is closed. */
void connection_new(struct reactor *reactor, struct arrival arrival);

/* Does what can be done now, in its tenant's turn. */
void connection_step(struct connection *connection);

/* Whether it holds a large buffer for a frame that is still coming in. */
bool connection_holds_large(const struct connection *connection);

/* Whether it is not read because an append waits, and its client has gone meanwhile. */
bool connection_is_abandoned(const struct connection *connection);

/* A log line about the connection and what it asks; with no request, about the connection alone. */
void connection_log(const struct connection *connection, enum log_level level,
                    const struct rpc_request *request, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Drops its requests and closes; it is freed when the loop says so. */
void connection_close(struct connection *connection);

/* The rest is for the connection's own parts. */

/* To whose quota a buffer is charged in which it receives, or sends. */
struct lease_payer connection_payer(const struct connection *connection, bool receives);

/* It waits for memory, a buffer or the keeper, or no longer does. */
void connection_set_waiting(struct connection *connection, bool waiting);

/* A write waits for the client to read, or no longer does. */
void connection_set_writing(struct connection *connection, bool writing);

/* A fault that ends the connection: one ERROR frame, then close. */
void connection_fail(struct connection *connection, uint32_t id, uint32_t code);

/* consume.c: takes the frames that are there. */
void connection_consume(struct connection *connection);

/* produce.c: steps the requests, and sends. */
void connection_produce(struct connection *connection);

/* receive.c: reads while there is something to read for. */
void connection_arm(struct connection *connection);

/* receive.c: reads what is there over TLS; true if that is anything. Of plain sockets libuv does.
 */
bool connection_receive(struct connection *connection);

#endif
