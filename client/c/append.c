/* Append: one state machine for the whole of it and for its parts. */
#include "client/c/client.h"

#include <string.h>

enum { ATTEMPTS = 3 };

enum stage {
    BEGIN,
    VALUES, /* the runs, layers and parts of this call */
    FLUSH,  /* of a call that leaves the append open */
    COMMIT, /* what is queued before it, too */
    ANSWER,
    REFUSED, /* the frame under way is finished first */
    REFUSED_CANCEL,
    ABORT,
    ABORT_SENT,
    ABORT_ANSWER,
    DONE,
};

/* ---- Stages: each moves the call's stage on, or returns what it waits for or failed with ---- */

/* Something came before COMMIT was sent: it can only be a refusal. The daemon reads on up to our
 * CANCEL and does not answer that. */
static int take_refusal(struct kvq_client *client) {
    ProtobufCMessage *reply;
    int error =
        kvq_read_answer(client, client->connections[0], &kvq__append_reply__descriptor, &reply);
    if (!error)
        return kvq_break(client, client->connections[0], KVQ_DAEMON_PROTOCOL,
                         "%s accepted an append before its end; the connection is closed",
                         client->address);
    if (client->connections[0]->state != KVQ_READY)
        return error;
    client->append.result = error;
    client->call.stage = REFUSED;
    return KVQ_OK;
}

/* Sends what is queued; the stage is then next, or REFUSED. */
static int send_queued(struct kvq_client *client, enum stage next) {
    struct kvq_connection *connection = client->connections[0];
    int error = kvq_send(client, connection, client->append.request_id);
    if (error == KVQ_AGAIN && kvq_frame_waits(connection))
        return take_refusal(client);
    if (!error)
        client->call.stage = next;
    return error;
}

static void queue_request(struct kvq_client *client) {
    struct kvq_append *append = &client->append;
    uint8_t control[KVQ_REQUEST_BYTES_MAX];
    Kvq__AppendRequest request = KVQ__APPEND_REQUEST__INIT;
    request.session = kvq_text(append->state->session);
    request.first = append->first;
    request.tokens = append->tokens;
    request.tail_tokens = append->state->tail_tokens;
    request.layout = (Kvq__Layout)append->layout;
    request.settle = append->options.settle;
    request.wait_ms = append->options.wait_ms;
    append->request_id = kvq_new_request_id(client);
    kvq_queue_control(client->connections[0], WIRE_APPEND, append->request_id, control,
                      protobuf_c_message_pack(&request.base, control));
}

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

static int begin(struct kvq_client *client) {
    struct kvq_append *append = &client->append;
    int error = kvq_connection_ready(client, client->connections[0]);
    if (!error)
        error = cut(client);
    if (error)
        return error;
    append->run = append->whole ? kvq_first_run(append) : (struct kvq_run){0};
    append->layer = 0;
    append->part = KVQ_K;
    queue_request(client);
    client->call.stage = VALUES;
    return KVQ_OK;
}

static int report_progress(struct kvq_client *client) {
    const struct kvq_append *append = &client->append;
    const struct kvq_append_options *options = &append->options;
    uint64_t sent_bytes = append->run.offset * kvq_append_token_bytes(&append->geometry);
    if (!append->whole || !options->progress || options->progress(options->context, sent_bytes))
        return KVQ_OK;
    client->call.stage = ABORT;
    client->append.result =
        kvq_fail(client, KVQ_CANCELLED, "the append was cancelled by its progress function");
    return KVQ_OK;
}

static int send_values(struct kvq_client *client) {
    struct kvq_append *append = &client->append;
    struct kvq_connection *connection = client->connections[0];
    if (append->run.tokens == 0) {
        client->call.stage = append->whole ? COMMIT : FLUSH;
        if (append->whole)
            kvq_queue_control(connection, WIRE_COMMIT, append->request_id, NULL, 0);
        return KVQ_OK;
    }
    if (kvq_queue_frame(connection, append))
        return kvq_append_go_on(append) ? report_progress(client) : KVQ_OK;
    if (kvq_step_is_long(client))
        return KVQ_AGAIN;
    client->call.moved_bytes += connection->channel.out_bytes;
    return send_queued(client, VALUES);
}

/* An error of the daemon's; its numbers go to the state. */
static int take_numbers(struct kvq_client *client, int error) {
    struct kvq_session_state *state = client->append.state;
    if (error == KVQ_WRONG_FIRST || error == KVQ_TAIL_MOVED) {
        state->tokens = client->error_tokens;
        if (client->error_tail_tokens < state->page_tokens)
            state->tail_tokens = client->error_tail_tokens;
    }
    return error;
}

/* Cut anew by the numbers that came with the error, unless that was tried often enough. */
static int end_or_begin_anew(struct kvq_client *client, int error) {
    take_numbers(client, error);
    if (error != KVQ_TAIL_MOVED || !client->append.whole || ++client->append.attempts == ATTEMPTS)
        return error;
    client->call.sent = false;
    client->call.stage = BEGIN;
    return KVQ_OK;
}

static int take_answer(struct kvq_client *client) {
    struct kvq_connection *connection = client->connections[0];
    struct kvq_session_state *state = client->append.state;
    const Kvq__AppendReply *reply;
    int error = kvq_receive(client, connection, client->append.request_id);
    if (error)
        return error;
    error = kvq_read_answer(client, connection, &kvq__append_reply__descriptor,
                            (ProtobufCMessage **)&reply);
    if (error)
        return end_or_begin_anew(client, error);
    if (reply->tail_tokens >= state->page_tokens)
        return kvq_impossible(client, "a tail");
    state->version = reply->version;
    state->tokens = reply->tokens;
    state->tail_tokens = reply->tail_tokens;
    client->call.stage = DONE;
    return KVQ_OK;
}

static int queue_cancel(struct kvq_client *client, enum stage next) {
    kvq_queue_control(client->connections[0], WIRE_CANCEL, client->append.request_id, NULL, 0);
    client->call.stage = next;
    return KVQ_OK;
}

/* A connection that ends now changes nothing: the append was refused. */
static int send_refused(struct kvq_client *client) {
    int error = kvq_send(client, client->connections[0], 0);
    if (!error || error == KVQ_AGAIN)
        return error;
    error = take_numbers(client, client->append.result);
    return kvq_fail(client, error, "%s", kvq_error_sentence(error));
}

static int take_abort_answer(struct kvq_client *client) {
    struct kvq_connection *connection = client->connections[0];
    ProtobufCMessage *reply;
    int error = kvq_receive(client, connection, client->append.request_id);
    if (error)
        return error;
    error = kvq_read_answer(client, connection, &kvq__append_reply__descriptor, &reply);
    if (!error)
        return kvq_break(client, connection, KVQ_DAEMON_PROTOCOL,
                         "%s accepted an append that was cancelled; the connection is closed",
                         client->address);
    if (connection->state != KVQ_READY)
        return error;
    client->call.stage = DONE;
    return client->append.result;
}

static int run_stage(struct kvq_client *client) {
    int error;
    switch ((enum stage)client->call.stage) {
    case BEGIN:
        return begin(client);
    case VALUES:
        return send_values(client);
    case FLUSH:
        return send_queued(client, DONE);
    case COMMIT:
        error = send_queued(client, ANSWER);
        client->call.sent = client->call.stage == ANSWER;
        return error;
    case ANSWER:
        return take_answer(client);
    case REFUSED:
        error = send_refused(client);
        return error ? error : queue_cancel(client, REFUSED_CANCEL);
    case REFUSED_CANCEL:
        error = send_refused(client);
        return error ? error : end_or_begin_anew(client, client->append.result);
    case ABORT:
        return queue_cancel(client, ABORT_SENT);
    case ABORT_SENT:
        error = kvq_send(client, client->connections[0], client->append.request_id);
        client->call.stage = error ? ABORT_SENT : ABORT_ANSWER;
        return error;
    case ABORT_ANSWER:
        return take_abort_answer(client);
    case DONE:
        break;
    }
    return KVQ_OK;
}

static int step(struct kvq_client *client) {
    int error = KVQ_OK;
    while (!error && client->call.stage != DONE)
        error = run_stage(client);
    if (error && error != KVQ_AGAIN)
        client->append.active = false;
    return error;
}

static void leave(struct kvq_client *client) {
    struct kvq_connection *connection = client->connections[0];
    const uint32_t request_id = client->append.request_id;
    bool closed = client->call.stage == REFUSED || client->call.stage == REFUSED_CANCEL;
    client->append.active = false;
    if (client->call.stage == BEGIN && connection->state == KVQ_READY)
        return;
    if (!closed)
        return kvq_leave(connection, request_id);
    kvq_channel_disown_output(&connection->channel, connection->bounce);
    if (client->call.stage == REFUSED)
        queue_cancel(client, REFUSED_CANCEL);
}

/* ---- Calls ---- */

static int run(struct kvq_client *client, enum stage stage) {
    client->call.stage = stage;
    client->call.fetch.range_count = 0;
    client->call.safe = false;
    client->connections[0]->busy = true;
    return kvq_run_call(client, step, leave);
}

static struct kvq_strides strides_of(const struct kvq_source *source,
                                     const struct kvq_geometry *geometry, uint64_t tokens,
                                     enum kvq_part part) {
    struct kvq_strides given = {source->layer_stride, source->token_stride, source->head_stride};
    return kvq_resolve_strides(given, tokens, geometry->heads, kvq_dim_bytes(geometry, part));
}

static bool given(const struct kvq_source *source) {
    return source->layers || source->block;
}

int kvq_append(struct kvq_client *client, struct kvq_session_state *state,
               const struct kvq_append_options *options) {
    struct kvq_append_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = kvq_begin_call(client, known.deadline_ms);
    if (error)
        return error;
    const struct kvq_geometry *geometry = &state->geometry;
    if (!given(&known.k) || (geometry->head_dim_v > 0 && !given(&known.v)))
        return kvq_fail(client, KVQ_ARGUMENT, "the geometry asks for values that are NULL");
    struct kvq_strides strides_k = strides_of(&known.k, geometry, known.tokens, KVQ_K);
    struct kvq_strides strides_v = strides_of(&known.v, geometry, known.tokens, KVQ_V);
    client->append = (struct kvq_append){
        .state = state,
        .geometry = *geometry,
        .tokens = known.tokens,
        .options = known,
        .strides = {[KVQ_K] = strides_k, [KVQ_V] = strides_v},
        .layout = kvq_best_layout(strides_k, geometry->heads, kvq_dim_bytes(geometry, KVQ_K)),
        .whole = true,
    };
    return run(client, BEGIN);
}

int kvq_append_begin(struct kvq_client *client, struct kvq_session_state *state,
                     const struct kvq_append_options *options) {
    struct kvq_append_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = kvq_begin_call(client, known.deadline_ms);
    if (error)
        return error;
    client->append = (struct kvq_append){
        .active = true, /* any failure ends that */
        .state = state,
        .geometry = state->geometry,
        .tokens = known.tokens,
        .options = known,
        .layout = KVQ_TOKENS_HEADS_DIM,
    };
    return run(client, BEGIN);
}

/* Opens a call that needs an append under way; it cannot begin anew on another connection. */
static int continue_append(struct kvq_client *client) {
    int error = kvq_begin_any_call(client, client->append.options.deadline_ms);
    if (error)
        return error;
    bool gone = client->connections[0]->state != KVQ_READY;
    if (client->append.active && !gone) {
        client->call.may_repeat = false;
        return KVQ_OK;
    }
    bool lost = client->append.active || (gone && client->no_reconnect);
    client->append.active = false;
    if (lost)
        return kvq_fail(client, KVQ_CONNECTION_LOST,
                        "the connection to %s is gone, and the append with it", client->address);
    return kvq_fail(client, KVQ_ARGUMENT, "no append is under way");
}

int kvq_append_part(struct kvq_client *client, uint32_t layer, enum kvq_part part,
                    const void *values, ptrdiff_t token_stride, ptrdiff_t head_stride) {
    int error = continue_append(client);
    if (error)
        return error;
    struct kvq_append *append = &client->append;
    const struct kvq_geometry *geometry = &append->geometry;
    if (layer >= geometry->layers || (part != KVQ_K && part != KVQ_V) ||
        kvq_dim_bytes(geometry, part) == 0 || !values)
        return kvq_fail(client, KVQ_ARGUMENT, "the geometry has no layer %u with this part", layer);
    struct kvq_strides strides = {.token = token_stride, .head = head_stride};
    append->strides[part] = kvq_resolve_strides(strides, append->tokens, geometry->heads,
                                                kvq_dim_bytes(geometry, part));
    append->run = kvq_first_run(append);
    append->layer = layer;
    append->part = part;
    append->part_values = values;
    return run(client, VALUES);
}

int kvq_append_commit(struct kvq_client *client) {
    int error = continue_append(client);
    if (error)
        return error;
    client->append.active = false;
    kvq_queue_control(client->connections[0], WIRE_COMMIT, client->append.request_id, NULL, 0);
    return run(client, COMMIT);
}

int kvq_append_abort(struct kvq_client *client) {
    if (!client->append.active)
        return KVQ_OK;
    int error = continue_append(client);
    if (error)
        return error;
    client->append.active = false;
    client->append.result = KVQ_OK;
    return run(client, ABORT);
}
