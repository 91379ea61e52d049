/* A reactor: a thread with its own event loop that owns connections.
 *
 * Others hand it sockets, wake it and ask it to drain, from any thread; all else happens on its
 * own.
 */
#ifndef DAEMON_SERVER_REACTOR_H
#define DAEMON_SERVER_REACTOR_H

#include <stdbool.h>
#include <uv.h>

#include "daemon/rpc/rpc.h"
#include "daemon/server/lease.h"
#include "daemon/server/turns.h"

struct connection;
struct tls_context;

/* A connected socket, on which TLS is spoken where there is a context. */
struct arrival {
    int socket;
    struct tls_context *tls;
};

enum { REACTOR_INBOX = 1024, REACTOR_REQUESTS = 64 };

struct reactor {
    uv_loop_t loop;
    uv_async_t wake;
    uv_timer_t tick;      /* runs only while somebody waits or a write is under way */
    uv_timer_t watch;     /* deadlines.h */
    uv_idle_t again;      /* runs only while a connection is to be stepped again: turns.h */
    uv_prepare_t polling; /* these two measure how long the sockets are left alone */
    uv_check_t polled;
    uv_thread_t thread;
    bool started;
    struct rpc_context context;
    struct histogram lag;           /* how long they were, each time */
    _Atomic uint64_t busy_since_ns; /* 0: it waits for them */
    char *memory;                   /* the context's workspace and arena, the requests */
    struct lease_pool *leases;
    const _Atomic uint64_t *stall_ms; /* may change at any time */

    struct connection *connections;
    struct turns turns;
    struct rpc_request *requests,
        *spare_requests;     /* REACTOR_REQUESTS of them; more are made as needed */
    size_t waiting, writing; /* connections that do */
    bool draining;

    uv_mutex_t lock; /* of the fields below */
    struct arrival inbox[REACTOR_INBOX];
    size_t inbox_count;
    bool drain, abandon, closed, ended, asked;
    uv_async_t *owner; /* of another loop: sent when the thread ends, and when it answers */
};

/* Bytes that a reactor holds beside its cache of pages. */
enum {
    REACTOR_REQUESTS_BYTES = REACTOR_REQUESTS * (int)sizeof(struct rpc_request),
    REACTOR_BYTES =
        (PAGE_WORKSPACE_BYTES + RPC_ARENA_BYTES + REACTOR_REQUESTS_BYTES + 63) / 64 * 64,
};

/* All but the thread: whoever calls runs the loop. 0 or libuv's code. */
int reactor_init(struct reactor *reactor, struct rpc_daemon *daemon, struct lease_pool *leases,
                 const _Atomic uint64_t *stall_ms, uv_async_t *owner)
    __attribute__((warn_unused_result));

/* The same with a thread that does. 0, or -1, logged. */
int reactor_start(struct reactor *reactor, struct rpc_daemon *daemon, struct lease_pool *leases,
                  const _Atomic uint64_t *stall_ms, uv_async_t *owner)
    __attribute__((warn_unused_result));

/* Hands over a connected socket; false if the inbox is full, then it stays the caller's. */
bool reactor_give(struct reactor *reactor, struct arrival arrival)
    __attribute__((warn_unused_result));

/* Memory was freed, or the keeper got on: whoever waits is stepped. Until reactor_deinit(). */
void reactor_wake(struct reactor *reactor);

/* No new requests; connections end once they have none. With abandon they end at once. */
void reactor_drain(struct reactor *reactor, bool abandon);

/* Has it answer, by its loop, which is what shows that it is alive. */
void reactor_ask(struct reactor *reactor);

/* Whether it has answered since, or is closed and will not. */
bool reactor_has_answered(struct reactor *reactor);

bool reactor_has_ended(struct reactor *reactor);

/* For how long its sockets have been left alone by now. */
uint64_t reactor_busy_ns(const struct reactor *reactor);

/* Waits for the thread to end and frees what it had. Returns uv_loop_close()'s verdict: 0 if
 * nothing was left. */
int reactor_join(struct reactor *reactor);

/* Once nobody wakes it any more. */
void reactor_deinit(struct reactor *reactor);

/* The rest is for connections, on the reactor's thread. */

/* A zeroed request, or NULL without memory. */
struct rpc_request *reactor_take_request(struct reactor *reactor);
void reactor_return_request(struct reactor *reactor, struct rpc_request *request);

/* Steps the connection once more, after the sockets have had their turn. */
void reactor_step_again(struct reactor *reactor, struct connection *connection);

/* The connection is closing: it is not stepped again. */
void reactor_forget(struct reactor *reactor, struct connection *connection);
void reactor_start_tick(struct reactor *reactor);

/* After a connection is gone: a draining reactor ends with its last one. */
void reactor_end_if_idle(struct reactor *reactor);

#endif
