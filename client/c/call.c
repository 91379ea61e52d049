/* The engine: one call at a time, run to its end or as far as the sockets allow. */
#include "client/c/client.h"

#include <poll.h>
#include <sys/epoll.h>

/* Negative: none. */
static int64_t deadline_after(int64_t ms) {
    int64_t ns, deadline_ns;
    if (ms < 0 || __builtin_mul_overflow(ms, (int64_t)1000000, &ns) ||
        __builtin_add_overflow(kvq_now_ns(), ns, &deadline_ns))
        return INT64_MAX;
    return deadline_ns;
}

int kvq_begin_any_call(struct kvq_client *client, int64_t deadline_ms) {
    if (client->call.step)
        return kvq_fail(client, KVQ_ARGUMENT,
                        "a call is under way; kvq_step() or kvq_cancel() it before anything else");
    wire_arena_reset(&client->arena);
    kvq_drop_attachment(client);
    client->call.deadline_ns = deadline_after(deadline_ms ? deadline_ms : client->deadline_ms);
    client->call.miss_ns = INT64_MAX;
    client->call.connecting = false;
    client->call.safe = true;
    client->call.may_repeat = !client->no_reconnect;
    return KVQ_OK;
}

int kvq_begin_call(struct kvq_client *client, int64_t deadline_ms) {
    if (client->append.active)
        return kvq_fail(client, KVQ_ARGUMENT,
                        "an append is under way; commit or abort it before anything else");
    return kvq_begin_any_call(client, deadline_ms);
}

static void end_call(struct kvq_client *client) {
    client->call.step = NULL;
    for (size_t i = 0; i < KVQ_CONNECTIONS_MAX; i++)
        if (client->connections[i])
            client->connections[i]->busy = false;
}

/* ---- Time ---- */

/* When the call has to be looked at even if nothing arrives at its sockets. */
static int64_t next_time_ns(const struct kvq_client *client) {
    const struct kvq_call *call = &client->call;
    int64_t next = call->deadline_ns < call->miss_ns ? call->deadline_ns : call->miss_ns;
    for (size_t i = 0; i < KVQ_CONNECTIONS_MAX; i++) {
        const struct kvq_connection *connection = client->connections[i];
        if (connection && connection->busy && connection->retry_ns && connection->retry_ns < next)
            next = connection->retry_ns;
        if (connection && kvq_connection_can_go_on(connection))
            next = 0;
    }
    return next;
}

/* Milliseconds that poll() may wait, rounded up so that it never spins at the end; -1: for ever. */
static int left_ms(const struct kvq_client *client) {
    enum { POLL_MS_MAX = 3600 * 1000 };
    int64_t next = next_time_ns(client);
    if (next == INT64_MAX)
        return -1;
    int64_t left = next - kvq_now_ns();
    if (left <= 0)
        return 0;
    left = (left - 1) / 1000000 + 1;
    return left > POLL_MS_MAX ? POLL_MS_MAX : (int)left;
}

static int past_deadline(struct kvq_client *client) {
    int error = KVQ_DEADLINE;
    for (size_t i = 0; i < KVQ_CONNECTIONS_MAX; i++)
        if (client->connections[i] && client->connections[i]->busy)
            error =
                kvq_break(client, client->connections[i], error,
                          "no answer from %s in time; the connection is closed", client->address);
    client->append.active = false;
    return error;
}

/* KVQ_AGAIN while the call has time left. */
static int check_time(struct kvq_client *client) {
    const struct kvq_call *call = &client->call;
    if (call->deadline_ns == INT64_MAX && call->miss_ns == INT64_MAX)
        return KVQ_AGAIN;
    int64_t now = kvq_now_ns();
    if (now >= call->miss_ns) {
        call->leave(client);
        return kvq_fail(client, KVQ_MISS, "%s did not send it all in the time given",
                        client->address);
    }
    return now >= call->deadline_ns ? past_deadline(client) : KVQ_AGAIN;
}

uint32_t kvq_memory_wait_ms(const struct kvq_client *client, uint32_t wait_ms) {
    if (wait_ms || client->call.deadline_ns == INT64_MAX)
        return wait_ms;
    int64_t half_ms = (client->call.deadline_ns - kvq_now_ns()) / 2000000;
    if (half_ms >= client->append_wait_ms)
        return 0;
    return half_ms > 0 ? (uint32_t)half_ms : 1;
}

bool kvq_step_is_long(struct kvq_client *client) {
    return client->call.moved_bytes >= KVQ_STEP_BYTES_MAX;
}

/* ---- Answers in many frames ---- */

static int expect_payload(struct kvq_client *client, const struct kvq_stream *stream) {
    struct kvq_connection *connection = client->connections[0];
    int error = stream->expect(client);
    if (error)
        return error;
    kvq_channel_expect_payload(&connection->channel, 1);
    connection->stage = KVQ_PAYLOAD;
    return KVQ_OK;
}

static int take_payload(struct kvq_client *client, const struct kvq_stream *stream) {
    struct kvq_connection *connection = client->connections[0];
    int error = kvq_receive_payload(client, connection);
    if (error)
        return error;
    client->call.moved_bytes += connection->header.payload_bytes;
    return stream->take(client);
}

int kvq_receive_stream(struct kvq_client *client, const struct kvq_stream *stream) {
    struct kvq_connection *connection = client->connections[0];
    int error = KVQ_OK;
    while (!error) {
        if (connection->stage == KVQ_PAYLOAD)
            error = take_payload(client, stream);
        else if (kvq_step_is_long(client) && !kvq_channel_has_ahead(&connection->channel))
            return KVQ_AGAIN;
        else if ((error = kvq_receive(client, connection, stream->request_id)))
            return error;
        else if (connection->header.type != WIRE_DATA)
            return stream->finish(client);
        else
            error = expect_payload(client, stream);
    }
    return error;
}

/* ---- Running ---- */

/* A lost connection: once more from the beginning, where the daemon cannot have done the call, or
 * doing it twice does no harm. */
static bool repeat(struct kvq_client *client) {
    struct kvq_call *call = &client->call;
    if (!call->may_repeat || (call->sent && !call->safe))
        return false;
    call->may_repeat = false;
    call->sent = false;
    call->stage = 0;
    return true;
}

/* A non-blocking client's sockets are told apart by nobody but its epoll. */
static int watch(struct kvq_client *client, struct kvq_connection *connection) {
    short events = kvq_connection_events(connection);
    int handle = connection->channel.socket;
    if (handle < 0 || connection->watched_events == events)
        return KVQ_OK;
    struct epoll_event event = {.events = (events & POLLIN ? (uint32_t)EPOLLIN : 0) |
                                          (events & POLLOUT ? (uint32_t)EPOLLOUT : 0)};
    int operation = connection->watched_events < 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (epoll_ctl(client->watcher, operation, handle, &event))
        return kvq_break(client, connection, KVQ_NO_MEMORY, "a socket cannot be waited for");
    connection->watched_events = events;
    return KVQ_OK;
}

static int watch_all(struct kvq_client *client) {
    int error = KVQ_OK;
    for (size_t i = 0; !error && i < KVQ_CONNECTIONS_MAX; i++)
        if (client->connections[i])
            error = watch(client, client->connections[i]);
    return error;
}

/* An append over several connections that was given up keeps its session busy until the daemon has
 * answered on each of them: no call is to find it so. */
static int forget_left_appends(struct kvq_client *client) {
    int result = KVQ_OK;
    for (size_t i = 1; i < KVQ_CONNECTIONS_MAX; i++) {
        struct kvq_connection *connection = client->connections[i];
        if (!connection || !connection->has_left_append)
            continue;
        int error = kvq_forget(client, connection);
        connection->busy = connection->has_left_append = error == KVQ_AGAIN;
        result = error == KVQ_AGAIN ? error : result;
    }
    return result;
}

static int advance(struct kvq_client *client) {
    int error;
    client->call.moved_bytes = 0;
    do
        error = forget_left_appends(client) ? KVQ_AGAIN : client->call.step(client);
    while (error == KVQ_CONNECTION_LOST && repeat(client));
    if (error == KVQ_AGAIN)
        error = check_time(client);
    if (error == KVQ_AGAIN && client->non_blocking && watch_all(client)) {
        client->call.leave(client);
        error = KVQ_NO_MEMORY;
    }
    if (error != KVQ_AGAIN)
        end_call(client);
    return error;
}

static void wait_for_sockets(const struct kvq_client *client) {
    struct pollfd pollers[KVQ_CONNECTIONS_MAX];
    nfds_t count = 0;
    for (size_t i = 0; i < KVQ_CONNECTIONS_MAX; i++) {
        const struct kvq_connection *connection = client->connections[i];
        short events = connection ? kvq_connection_events(connection) : 0;
        if (events)
            pollers[count++] = (struct pollfd){.fd = connection->channel.socket, .events = events};
    }
    (void)poll(pollers, count, left_ms(client)); /* whatever it says, the next step finds out */
}

/* A read may sleep in the socket where that is the only one to wait for, and long enough. */
static void set_patience(struct kvq_client *client) {
    bool alone = client->call.connection_count == 1;
    client->connections[0]->channel.patient_until_ns =
        alone ? next_time_ns(client) - KVQ_CHANNEL_PATIENCE_MS * (int64_t)1000000 : 0;
}

void kvq_use_connections(struct kvq_client *client, size_t count) {
    client->call.connection_count = count;
    if (count > 1)
        client->connections[0]->channel.patient_until_ns = 0;
}

int kvq_run_call(struct kvq_client *client, int (*step)(struct kvq_client *client),
                 void (*leave)(struct kvq_client *client)) {
    struct kvq_call *call = &client->call;
    call->step = step;
    call->leave = leave;
    call->sent = false;
    call->connection_count = 1;
    if (client->non_blocking)
        return advance(client);
    for (;;) {
        set_patience(client);
        int error = advance(client);
        if (error != KVQ_AGAIN)
            return error;
        if (!kvq_step_is_long(client))
            wait_for_sockets(client);
    }
}

/* ---- What a program with a loop of its own calls ---- */

int kvq_step(struct kvq_client *client) {
    if (!client->call.step)
        return kvq_fail(client, KVQ_ARGUMENT, "no call is under way");
    return advance(client);
}

int kvq_cancel(struct kvq_client *client) {
    if (!client->call.step)
        return KVQ_OK;
    client->call.leave(client);
    client->append.active = false;
    end_call(client);
    return kvq_fail(client, KVQ_CANCELLED, "the call was cancelled");
}

int kvq_client_fd(const struct kvq_client *client) {
    return client->watcher;
}

short kvq_client_events(const struct kvq_client *client) {
    short events = 0;
    for (size_t i = 0; client->call.step && i < KVQ_CONNECTIONS_MAX; i++)
        if (client->connections[i])
            events |= kvq_connection_events(client->connections[i]);
    return events ? POLLIN : 0; /* of the epoll, whatever its sockets wait for */
}

int kvq_client_timeout_ms(const struct kvq_client *client) {
    return client->call.step ? left_ms(client) : -1;
}
