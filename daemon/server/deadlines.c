#include "daemon/server/deadlines.h"

#include "daemon/base/clock.h"
#include "daemon/server/requests.h"
#include "daemon/server/tls.h"

enum { WATCH_MS_LEAST = 10, WATCH_MS_MOST = 1000, WATCHES = 4 /* in the shortest time */ };

static bool is_received(const struct rpc_request *request) {
    return request->receiving && !request->failed && !request->discarding;
}

static bool has_begun(const struct connection *connection) {
    return connection->in_bytes > 0 || (connection->tls && connection->tls->holds_part);
}

/* A client has to go on; not one whose bytes are there, or for which there is no room. */
static bool is_to_send(const struct connection *connection) {
    return (!connection->greeted || has_begun(connection)) && !connection->blocked &&
           !connection->starved && !connection->close_when_sent;
}

static bool is_idle(const struct connection *connection) {
    return connection->greeted && connection->request_count == 0 && connection->in_bytes == 0 &&
           !connection->writing;
}

static bool has_deadline(const struct connection *connection) {
    const struct rpc_daemon *daemon = connection->reactor->context.daemon;
    const struct rpc_request *request = connection->requests;
    while (request && !is_received(request))
        request = request->next;
    return request || is_to_send(connection) || (daemon->idle_ms > 0 && is_idle(connection));
}

static uint64_t watch_ms(const struct reactor *reactor) {
    const struct rpc_daemon *daemon = reactor->context.daemon;
    uint64_t least = *reactor->stall_ms, idle_ms = daemon->idle_ms, request_ms = daemon->request_ms;
    least = request_ms < least ? request_ms : least;
    least = (idle_ms > 0 && idle_ms < least ? idle_ms : least) / WATCHES;
    return least < WATCH_MS_LEAST ? WATCH_MS_LEAST : least > WATCH_MS_MOST ? WATCH_MS_MOST : least;
}

static void close_late(struct connection *connection, uint64_t ms, const char *what) {
    connection_log(connection, LOG_LEVEL_INFO, NULL,
                   "a client %s for more than %llu ms; its connection is closed", what,
                   (unsigned long long)ms);
    connection_close(connection);
}

/* What others of the connection are waited for does not count. True if any is too late. */
static bool fail_late_requests(struct connection *connection, uint64_t now) {
    uint64_t limit_ms = connection->reactor->context.daemon->request_ms;
    bool any = false;
    for (struct rpc_request *request = connection->requests; request; request = request->next) {
        if (connection->blocked)
            request->heard_ns = now;
        if (!is_received(request) || now - request->heard_ns <= limit_ms * CLOCK_NS_PER_MS)
            continue;
        rpc_fail(request, WIRE_CANCELLED, "nothing more of the request came for %llu ms",
                 (unsigned long long)limit_ms);
        requests_fail(connection, request);
        any = true;
    }
    return any;
}

static void look_after(struct connection *connection, uint64_t now) {
    struct reactor *reactor = connection->reactor;
    struct rpc_daemon *daemon = reactor->context.daemon;
    uint64_t stall_ms = *reactor->stall_ms, idle_ms = daemon->idle_ms;
    uint64_t last_ns = connection->receive_start_ns > connection->write_start_ns
                           ? connection->receive_start_ns
                           : connection->write_start_ns;
    if (is_to_send(connection) && now - connection->receive_start_ns > stall_ms * CLOCK_NS_PER_MS) {
        atomic_fetch_add(&daemon->connections_stalled, 1);
        close_late(connection, stall_ms,
                   connection->greeted ? "did not send the rest of a frame" : "did not say hello");
    } else if (idle_ms > 0 && is_idle(connection) && now - last_ns > idle_ms * CLOCK_NS_PER_MS) {
        close_late(connection, idle_ms, "asked for nothing");
    } else if (fail_late_requests(connection, now)) {
        connection_step(connection);
    }
}

static void on_watch(uv_timer_t *timer) {
    struct reactor *reactor = timer->data;
    uint64_t now = clock_now_ns();
    bool any = false;
    for (struct connection *connection = reactor->connections, *next; connection;
         connection = next) {
        next = connection->next;
        if (connection->closing)
            continue;
        look_after(connection, now);
        any |= !connection->closing && has_deadline(connection);
    }
    uv_timer_stop(timer);
    if (any)
        uv_timer_start(timer, on_watch, watch_ms(reactor), 0);
}

void deadlines_watch(struct connection *connection) {
    struct reactor *reactor = connection->reactor;
    if (!uv_is_active((uv_handle_t *)&reactor->watch) && has_deadline(connection))
        uv_timer_start(&reactor->watch, on_watch, watch_ms(reactor), 0);
}
