#include "daemon/server/reactor.h"

#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/private_memory.h"
#include "daemon/server/connection.h"

enum {
    TICK_MS = 20,
    SHORTAGE_HASTE = 10, /* slow readers get so much less time while others lack buffers */
};

static void accept_inbox(struct reactor *reactor) {
    struct arrival arrivals[REACTOR_INBOX];
    uv_mutex_lock(&reactor->lock);
    size_t count = reactor->inbox_count;
    for (size_t i = 0; i < count; i++)
        arrivals[i] = reactor->inbox[i];
    reactor->inbox_count = 0;
    uv_mutex_unlock(&reactor->lock);
    for (size_t i = 0; i < count; i++)
        connection_new(reactor, arrivals[i]);
}

static void close_handles(struct reactor *reactor) {
    uv_mutex_lock(&reactor->lock);
    bool closed = reactor->closed;
    reactor->closed = true;
    uv_mutex_unlock(&reactor->lock);
    if (closed)
        return;
    uv_close((uv_handle_t *)&reactor->wake, NULL);
    uv_close((uv_handle_t *)&reactor->tick, NULL);
    uv_close((uv_handle_t *)&reactor->watch, NULL);
    uv_close((uv_handle_t *)&reactor->again, NULL);
    uv_close((uv_handle_t *)&reactor->polling, NULL);
    uv_close((uv_handle_t *)&reactor->polled, NULL);
}

static void step_waiting(struct reactor *reactor) {
    for (struct connection *connection = reactor->connections, *next;
         connection && reactor->waiting > 0; connection = next) {
        next = connection->next;
        if (connection->waiting)
            connection_step(connection);
    }
}

void reactor_end_if_idle(struct reactor *reactor) {
    if (reactor->draining && !reactor->connections)
        close_handles(reactor);
}

static void on_wake(uv_async_t *handle) {
    struct reactor *reactor = handle->data;
    accept_inbox(reactor);
    uv_mutex_lock(&reactor->lock);
    bool abandon = reactor->abandon;
    reactor->draining = reactor->drain;
    if (reactor->asked)
        uv_async_send(reactor->owner);
    reactor->asked = false;
    uv_mutex_unlock(&reactor->lock);
    if (!reactor->draining) {
        step_waiting(reactor);
        return;
    }
    for (struct connection *connection = reactor->connections, *next; connection;
         connection = next) {
        next = connection->next;
        if (abandon)
            connection_close(connection);
        else
            connection_step(connection);
    }
    reactor_end_if_idle(reactor);
}

static bool is_stalled(const struct connection *connection, uint64_t now, uint64_t limit_ns) {
    if (connection->writing && now - connection->write_start_ns > limit_ns)
        return true;
    return connection_holds_large(connection) && now - connection->receive_start_ns > limit_ns;
}

/* Closes those that are too slow with a frame, or left while they waited. True if others hold a
 * large buffer to receive one.
 */
static bool close_stalled(struct reactor *reactor) {
    uint64_t now = clock_now_ns(), limit_ns = *reactor->stall_ms * CLOCK_NS_PER_MS;
    bool receiving = false;
    if (lease_is_short(reactor->leases))
        limit_ns /= SHORTAGE_HASTE;
    for (struct connection *connection = reactor->connections, *next; connection;
         connection = next) {
        next = connection->next;
        if (is_stalled(connection, now, limit_ns)) {
            atomic_fetch_add(&reactor->context.daemon->connections_stalled, 1);
            connection_log(connection, LOG_LEVEL_INFO, NULL,
                           "a client took more than %llu ms for a frame; its connection is closed",
                           (unsigned long long)(limit_ns / CLOCK_NS_PER_MS));
            connection_close(connection);
        } else if (connection_is_abandoned(connection)) {
            connection_close(connection);
        }
        receiving |= connection_holds_large(connection);
    }
    return receiving;
}

static void on_tick(uv_timer_t *handle) {
    struct reactor *reactor = handle->data;
    bool receiving = close_stalled(reactor);
    step_waiting(reactor);
    if (reactor->waiting == 0 && reactor->writing == 0 && !receiving)
        uv_timer_stop(handle);
}

static void on_again(uv_idle_t *handle) {
    struct reactor *reactor = handle->data;
    struct connection *connection;
    while ((connection = turns_next(&reactor->turns)))
        connection_step(connection);
    if (reactor->turns.listed == 0)
        uv_idle_stop(handle);
}

/* The loop goes to wait for its sockets: until now it has not looked at them. */
static void on_polling(uv_prepare_t *handle) {
    struct reactor *reactor = handle->data;
    uint64_t since_ns = atomic_load_explicit(&reactor->busy_since_ns, memory_order_relaxed);
    if (since_ns > 0)
        histogram_add(&reactor->lag, &histogram_seconds, clock_now_ns() - since_ns);
    atomic_store_explicit(&reactor->busy_since_ns, 0, memory_order_relaxed);
}

static void on_polled(uv_check_t *handle) {
    struct reactor *reactor = handle->data;
    turns_begin_round(&reactor->turns);
    atomic_store_explicit(&reactor->busy_since_ns, clock_now_ns(), memory_order_relaxed);
}

uint64_t reactor_busy_ns(const struct reactor *reactor) {
    uint64_t since_ns = atomic_load_explicit(&reactor->busy_since_ns, memory_order_relaxed);
    uint64_t now = clock_now_ns();
    return since_ns > 0 && now > since_ns ? now - since_ns : 0;
}

static void run(void *argument) {
    struct reactor *reactor = argument;
    pthread_setname_np(pthread_self(), "reactor");
    uv_run(&reactor->loop, UV_RUN_DEFAULT);
    uv_mutex_lock(&reactor->lock);
    reactor->ended = true;
    uv_async_send(reactor->owner); /* locked: who has seen `ended` may close that loop */
    uv_mutex_unlock(&reactor->lock);
}

static int init_handles(struct reactor *reactor) {
    int status = uv_async_init(&reactor->loop, &reactor->wake, on_wake);
    uv_timer_init(&reactor->loop, &reactor->tick);
    uv_timer_init(&reactor->loop, &reactor->watch);
    uv_idle_init(&reactor->loop, &reactor->again);
    uv_prepare_init(&reactor->loop, &reactor->polling);
    uv_check_init(&reactor->loop, &reactor->polled);
    reactor->wake.data = reactor->tick.data = reactor->watch.data = reactor->again.data = reactor;
    reactor->polling.data = reactor->polled.data = reactor;
    uv_prepare_start(&reactor->polling, on_polling);
    uv_check_start(&reactor->polled, on_polled);
    return status;
}

static void keep_request(struct reactor *reactor, struct rpc_request *request) {
    request->next = reactor->spare_requests;
    reactor->spare_requests = request;
}

static void divide_memory(struct reactor *reactor) {
    char *arena = reactor->memory + PAGE_WORKSPACE_BYTES;
    reactor->context.workspace = reactor->memory;
    wire_arena_init(&reactor->context.arena, arena, RPC_ARENA_BYTES);
    reactor->context.pages = (struct page_cache){
        .memory = reactor->memory + REACTOR_BYTES,
        .bytes = reactor->context.daemon->page_cache_bytes,
    };
    reactor->requests = (struct rpc_request *)(void *)(arena + RPC_ARENA_BYTES);
    for (int i = 0; i < REACTOR_REQUESTS; i++)
        keep_request(reactor, &reactor->requests[i]);
}

int reactor_init(struct reactor *reactor, struct rpc_daemon *daemon, struct lease_pool *leases,
                 const _Atomic uint64_t *stall_ms, uv_async_t *owner) {
    *reactor = (struct reactor){
        .leases = leases, .owner = owner, .stall_ms = stall_ms, .context = {.daemon = daemon}};
    reactor->memory = private_memory_new(REACTOR_BYTES + daemon->page_cache_bytes);
    turns_init(&reactor->turns);
    uv_mutex_init(&reactor->lock);
    int status = reactor->memory ? uv_loop_init(&reactor->loop) : UV_ENOMEM;
    if (status == 0)
        status = init_handles(reactor);
    if (status == 0)
        divide_memory(reactor);
    return status;
}

int reactor_start(struct reactor *reactor, struct rpc_daemon *daemon, struct lease_pool *leases,
                  const _Atomic uint64_t *stall_ms, uv_async_t *owner) {
    int status = reactor_init(reactor, daemon, leases, stall_ms, owner);
    if (status == 0)
        status = uv_thread_create(&reactor->thread, run, reactor);
    reactor->started = status == 0;
    if (status < 0)
        log_error("a reactor could not be started: %s", uv_strerror(status));
    return status < 0 ? -1 : 0;
}

bool reactor_give(struct reactor *reactor, struct arrival arrival) {
    uv_mutex_lock(&reactor->lock);
    bool taken = reactor->inbox_count < REACTOR_INBOX && !reactor->drain;
    if (taken)
        reactor->inbox[reactor->inbox_count++] = arrival;
    uv_mutex_unlock(&reactor->lock);
    if (taken)
        reactor_wake(reactor);
    return taken;
}

void reactor_wake(struct reactor *reactor) {
    uv_mutex_lock(&reactor->lock);
    if (!reactor->closed)
        uv_async_send(&reactor->wake);
    uv_mutex_unlock(&reactor->lock);
}

void reactor_drain(struct reactor *reactor, bool abandon) {
    uv_mutex_lock(&reactor->lock);
    reactor->drain = true;
    reactor->abandon = abandon;
    uv_mutex_unlock(&reactor->lock);
    reactor_wake(reactor);
}

void reactor_ask(struct reactor *reactor) {
    uv_mutex_lock(&reactor->lock);
    reactor->asked = true;
    uv_mutex_unlock(&reactor->lock);
    reactor_wake(reactor);
}

bool reactor_has_answered(struct reactor *reactor) {
    uv_mutex_lock(&reactor->lock);
    bool answered = !reactor->asked || reactor->closed;
    uv_mutex_unlock(&reactor->lock);
    return answered;
}

bool reactor_has_ended(struct reactor *reactor) {
    uv_mutex_lock(&reactor->lock);
    bool ended = reactor->ended;
    uv_mutex_unlock(&reactor->lock);
    return ended;
}

int reactor_join(struct reactor *reactor) {
    if (!reactor->started)
        return 0;
    uv_thread_join(&reactor->thread);
    private_memory_free(reactor->memory, REACTOR_BYTES + reactor->context.daemon->page_cache_bytes);
    return uv_loop_close(&reactor->loop);
}

void reactor_deinit(struct reactor *reactor) {
    uv_mutex_destroy(&reactor->lock);
}

struct rpc_request *reactor_take_request(struct reactor *reactor) {
    struct rpc_request *request = reactor->spare_requests;
    struct budget *budget = reactor->context.daemon->budget;
    if (request)
        reactor->spare_requests = request->next;
    else if (budget_reserve(budget, sizeof *request) && !(request = malloc(sizeof *request)))
        budget_release(budget, sizeof *request);
    if (!request)
        return NULL;
    *request =
        (struct rpc_request){.context = &reactor->context, .frame_bytes = RPC_SMALL_FRAME_BYTES};
    atomic_fetch_add_explicit(&reactor->context.in_flight, 1, memory_order_relaxed);
    return request;
}

void reactor_return_request(struct reactor *reactor, struct rpc_request *request) {
    atomic_fetch_sub_explicit(&reactor->context.in_flight, 1, memory_order_relaxed);
    if (request >= reactor->requests && request < reactor->requests + REACTOR_REQUESTS) {
        keep_request(reactor, request);
        return;
    }
    free(request);
    budget_release(reactor->context.daemon->budget, sizeof *request);
}

void reactor_step_again(struct reactor *reactor, struct connection *connection) {
    turns_list(&reactor->turns, connection);
    uv_idle_start(&reactor->again, on_again);
}

void reactor_forget(struct reactor *reactor, struct connection *connection) {
    turns_unlist(&reactor->turns, connection);
}

void reactor_start_tick(struct reactor *reactor) {
    if (!uv_is_active((uv_handle_t *)&reactor->tick))
        uv_timer_start(&reactor->tick, on_tick, TICK_MS, TICK_MS);
}
