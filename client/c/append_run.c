/* An append is shared out to connections, and ended together. */
#include "client/c/client.h"

#include <sys/random.h>

enum { ATTEMPTS = 3 };

/* From where on one more connection is worth it: on two processors that daemon and client share, 16
 * MiB over two took 0.80 of the time over one at exact, 0.85 at fast8 and 0.67 at level 2; 64 MiB
 * 0.64, 0.68 and 0.58 (tests/bench/bench_transfer). */
enum { SHARE_BYTES_MIN = 4 << 20 };

enum { BEGIN, CONNECT, RUN }; /* stages of the call */

/* ---- Connections ---- */

static size_t count_shares(const struct kvq_client *client) {
    const struct kvq_append *append = &client->append;
    if (!append->whole || append->on_one_connection)
        return 1;
    return kvq_connections_worth(client, append->tokens, append->state->page_tokens,
                                 kvq_append_token_bytes(&append->geometry), SHARE_BYTES_MIN);
}

/* Connections from this one on are not used. */
static void do_without(struct kvq_client *client, size_t from) {
    for (size_t i = from; i < client->append.share_count; i++) {
        struct kvq_connection *connection = client->connections[i];
        if (connection && connection->state != KVQ_READY)
            kvq_connection_close(connection);
        if (connection)
            connection->busy = false;
    }
    client->append.share_count = from;
}

/* A further connection that is not to be had costs nothing: there are fewer then. */
static int connect_all(struct kvq_client *client) {
    int result = KVQ_OK;
    for (size_t i = 0; i < client->append.share_count; i++) {
        if (!client->connections[i])
            client->connections[i] = kvq_connection_new();
        struct kvq_connection *connection = client->connections[i];
        int error = connection ? kvq_connection_ready(client, connection) : KVQ_NO_MEMORY;
        if (!error)
            connection->busy = false; /* until the others are there, too */
        else if (error != KVQ_AGAIN)
            do_without(client, i > 0 ? i : 1);
        if (i == 0 || error == KVQ_AGAIN)
            result = error;
    }
    return result;
}

/* ---- Shares ---- */

/* The daemon's numbers, and limits, may have changed since the call was made. */
static int cut(struct kvq_client *client) {
    struct kvq_append *append = &client->append;
    const struct kvq_session_state *state = append->state;
    uint64_t end;
    append->first = append->options.first == KVQ_AT_END ? state->tokens : append->options.first;
    append->page_tokens = state->page_tokens;
    if (append->page_tokens == 0 || state->tail_tokens >= append->page_tokens)
        return kvq_fail(client, KVQ_ARGUMENT, "state was not filled by kvq_open or kvq_find");
    append->run_tokens_first = state->page_tokens - state->tail_tokens;
    if (append->tokens == 0 || __builtin_add_overflow(append->first, append->tokens, &end))
        return kvq_fail(client, KVQ_ARGUMENT, "an append carries at least 1 token");
    if (kvq_runs_of(append) > client->append_runs_max)
        return kvq_fail(
            client, KVQ_ARGUMENT, "%llu tokens are more than one append may carry (%llu)",
            (unsigned long long)append->tokens, (unsigned long long)state->append_tokens_max);
    return KVQ_OK;
}

/* The token with which share i begins, the first of a run: a run is sent on one connection. */
static uint64_t boundary(const struct kvq_append *append, size_t i) {
    uint64_t token = i * (append->tokens / append->share_count);
    if (i == append->share_count)
        return append->tokens;
    if (i == 0 || token <= append->run_tokens_first)
        return i == 0 ? 0 : append->run_tokens_first;
    return token - (token - append->run_tokens_first) % append->page_tokens;
}

/* The first of several sends the token ids. */
static int queue_request(struct kvq_client *client, size_t i) {
    struct kvq_append *append = &client->append;
    append->shares[i].request_id = kvq_new_request_id(client);
    if (append->blocks)
        return kvq_queue_block_put(client, client->connections[i], append->shares[i].request_id);
    Kvq__AppendRequest request = KVQ__APPEND_REQUEST__INIT;
    request.session = kvq_text(append->state->session);
    request.first = append->first;
    request.tokens = append->tokens;
    request.tail_tokens = append->state->tail_tokens;
    request.layout = (Kvq__Layout)append->layout;
    request.settle = append->options.settle;
    request.wait_ms = kvq_memory_wait_ms(client, append->options.wait_ms);
    if (append->share_count > 1) {
        request.group = (ProtobufCBinaryData){sizeof append->group, append->group};
        request.group_connections = (uint32_t)append->share_count;
    }
    request.token_ids = append->options.token_ids != NULL;
    request.salts = append->salts;
    request.n_salts = append->options.salt_count;
    return kvq_queue_with_ids(client, client->connections[i],
                              &(struct kvq_ids_request){
                                  .type = WIRE_APPEND,
                                  .request_id = append->shares[i].request_id,
                                  .message = &request.base,
                                  .ids = i == 0 ? append->options.token_ids : NULL,
                                  .first = append->first,
                                  .count = append->tokens,
                              });
}

static int begin_share(struct kvq_client *client, size_t i) {
    struct kvq_append *append = &client->append;
    struct kvq_append_share *share = &append->shares[i];
    *share = (struct kvq_append_share){
        .begin = boundary(append, i),
        .end = boundary(append, i + 1),
    };
    if (append->whole)
        share->run = kvq_run_at(append, share, share->begin);
    client->connections[i]->busy = true;
    return queue_request(client, i);
}

static int share_out(struct kvq_client *client) {
    struct kvq_append *append = &client->append;
    int error = cut(client);
    if (error)
        return error;
    if (append->share_count > 1 &&
        getrandom(append->group, sizeof append->group, 0) != sizeof append->group)
        do_without(client, 1);
    kvq_use_connections(client, append->share_count);
    for (size_t i = 0; i < append->share_count && !error; i++)
        error = begin_share(client, i);
    return error;
}

/* ---- Running ---- */

static void begin(struct kvq_client *client) {
    struct kvq_append *append = &client->append;
    append->active = !append->whole;
    append->failure = (struct kvq_append_failure){0};
    append->visible = false;
    append->share_count = count_shares(client);
    client->call.stage = CONNECT;
}

/* KVQ_OK once all shares rest or are closed. */
static int step_shares(struct kvq_client *client) {
    int result = KVQ_OK;
    for (size_t i = 0; i < client->append.share_count; i++)
        if (kvq_append_share_step(client, &client->append.shares[i]) == KVQ_AGAIN)
            result = KVQ_AGAIN;
    return result;
}

/* COMMIT waits until all have sent their values: as long as none is sent, all can begin anew. */
static bool commit_all(struct kvq_append *append) {
    if (!append->whole || append->shares[0].stage != KVQ_SHARE_SENT)
        return false;
    for (size_t i = 0; i < append->share_count; i++)
        append->shares[i].stage = KVQ_SHARE_COMMIT;
    return true;
}

static int run_shares(struct kvq_client *client) {
    struct kvq_append *append = &client->append;
    for (;;) {
        bool had_failed = append->failure.error;
        int result = step_shares(client);
        bool fails_now = append->failure.error && !had_failed; /* those before it do not know yet */
        if (!fails_now && (result || append->failure.error || !commit_all(append)))
            return result;
    }
}

/* The daemon's numbers go to the state. */
static void take_numbers(const struct kvq_append *append) {
    const struct kvq_append_failure *failure = &append->failure;
    struct kvq_session_state *state = append->state;
    if (failure->error != KVQ_WRONG_FIRST && failure->error != KVQ_TAIL_MOVED)
        return;
    state->tokens = failure->tokens;
    if (failure->tail_tokens < state->page_tokens)
        state->tail_tokens = failure->tail_tokens;
}

/* Where nothing was done: cut anew by the numbers that came with the error, or without the further
 * connections, one of which broke or came too late. */
static bool begins_anew(struct kvq_client *client) {
    struct kvq_append *append = &client->append;
    int error = append->failure.error;
    if (!append->whole || client->connections[0]->state != KVQ_READY)
        return false;
    if (error == KVQ_TAIL_MOVED)
        return ++append->attempts < ATTEMPTS;
    bool broke = error == KVQ_CONNECTION_LOST && !client->call.sent;
    append->on_one_connection = append->share_count > 1 && (broke || error == KVQ_INCOMPLETE);
    return append->on_one_connection;
}

static int fail(struct kvq_client *client) {
    const struct kvq_append *append = &client->append;
    if (append->dropping && client->connections[0]->state == KVQ_READY)
        return KVQ_OK;
    take_numbers(append);
    if (!begins_anew(client))
        return kvq_fail(client, append->failure.error, "%s", append->failure.message);
    client->call.sent = false;
    client->call.stage = BEGIN;
    return KVQ_OK;
}

/* Once one connection was told so the append is visible, whatever became of the others. */
static int finish(struct kvq_client *client) {
    struct kvq_append *append = &client->append;
    if (append->shares[0].stage == KVQ_SHARE_SENT)
        return KVQ_OK; /* of a part: the append goes on */
    append->active = false;
    if (!append->visible || append->failure.error == KVQ_DAEMON_PROTOCOL)
        return fail(client);
    append->state->version = append->answer.version;
    append->state->tokens = append->answer.tokens;
    append->state->tail_tokens = append->answer.tail_tokens;
    return KVQ_OK;
}

static int step(struct kvq_client *client) {
    int error;
    do {
        error = KVQ_OK;
        if (client->call.stage == BEGIN)
            begin(client);
        if (client->call.stage == CONNECT) {
            error = connect_all(client);
            if (!error)
                error = share_out(client);
            client->call.stage = error ? CONNECT : RUN;
        }
        if (!error)
            error = run_shares(client);
        if (!error)
            error = finish(client);
    } while (!error && client->call.stage == BEGIN);
    if (error && error != KVQ_AGAIN)
        client->append.active = false;
    return error;
}

static void leave(struct kvq_client *client) {
    struct kvq_append *append = &client->append;
    append->active = false;
    if (client->call.stage != RUN)
        return do_without(client, 0);
    for (size_t i = 0; i < append->share_count; i++)
        kvq_append_share_leave(client, &append->shares[i]);
}

int kvq_append_run(struct kvq_client *client) {
    client->call.stage = BEGIN;
    client->call.safe = false;
    return kvq_run_call(client, step, leave);
}

int kvq_append_run_part(struct kvq_client *client, enum kvq_share_stage stage) {
    client->append.shares[0].stage = stage;
    client->connections[0]->busy = true;
    client->call.stage = RUN;
    client->call.safe = false;
    return kvq_run_call(client, step, leave);
}
