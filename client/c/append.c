/* Append: begin, parts, commit, and the whole of it in coding order. */
#include "client/c/client.h"
#include "client/c/rows.h"

#include <string.h>

/* Which tokens a DATA frame carries, counted from the append's first. */
struct run {
    uint64_t offset;
    uint32_t tokens;
};

static struct run first_run(const struct kvq_append_progress *append) {
    uint64_t tokens = append->run_tokens_first;
    return (struct run){0, (uint32_t)(append->tokens < tokens ? append->tokens : tokens)};
}

/* Of 0 tokens after the last. */
static struct run next_run(const struct kvq_append_progress *append, struct run run) {
    uint64_t offset = run.offset + run.tokens, left = append->tokens - offset;
    return (struct run){offset,
                        (uint32_t)(left < append->page_tokens ? left : append->page_tokens)};
}

static size_t dim_bytes(const struct kvq_geometry *geometry, enum kvq_part part) {
    uint32_t dim = part == KVQ_K ? geometry->head_dim_k : geometry->head_dim_v;
    return dim * kvq_dtype_bytes(geometry->dtype);
}

static uint64_t token_bytes(const struct kvq_geometry *geometry) {
    uint64_t row_bytes = dim_bytes(geometry, KVQ_K) + dim_bytes(geometry, KVQ_V);
    return geometry->layers * (uint64_t)geometry->heads * row_bytes;
}

/* Ends the append on this side for an error of the daemon's; its numbers go to the state. */
static int end_refused(struct kvq_client *client, int error) {
    struct kvq_session_state *state = client->append.state;
    if (error == KVQ_WRONG_FIRST || error == KVQ_TAIL_MOVED) {
        state->tokens = client->error_tokens;
        if (client->error_tail_tokens < state->page_tokens)
            state->tail_tokens = client->error_tail_tokens;
    }
    client->append.active = false;
    return error;
}

/* Something arrived before COMMIT was sent: it can only be a refusal. The daemon reads on up to our
 * CANCEL and does not answer that. */
static int take_refusal(struct kvq_client *client) {
    const uint32_t request_id = client->append.request_id;
    ProtobufCMessage *reply;
    int error = kvq_await_answer(client, request_id, &kvq__append_reply__descriptor, &reply);
    if (!error)
        return kvq_break(client, KVQ_DAEMON_PROTOCOL,
                         "%s accepted an append before its end; the connection is closed",
                         client->address);
    if (client->channel.socket < 0)
        return error;
    int lost = kvq_send_control(client, WIRE_CANCEL, request_id, NULL);
    if (lost)
        kvq_channel_close(&client->channel);
    return end_refused(client, error);
}

static int send_run(struct kvq_client *client, uint32_t layer, enum kvq_part part, char *values,
                    struct kvq_strides strides, struct run run) {
    const struct kvq_append_progress *append = &client->append;
    struct kvq_rows rows = kvq_rows_of(values + (ptrdiff_t)run.offset * strides.token,
                                       (enum kvq_layout)append->layout, strides, run.tokens,
                                       append->geometry.heads, dim_bytes(&append->geometry, part));
    size_t payload_bytes = rows.outer * rows.inner * rows.row_bytes;
    struct wire_header header = {.type = WIRE_DATA,
                                 .request_id = append->request_id,
                                 .control_bytes = WIRE_DATA_BYTES,
                                 .payload_bytes = (uint32_t)payload_bytes};
    struct wire_data data = {.first = append->first + run.offset,
                             .tokens = run.tokens,
                             .layer = layer,
                             .part = (uint8_t)part};
    uint8_t head[WIRE_HEADER_BYTES + WIRE_DATA_BYTES];
    wire_header_write(head, &header);
    wire_data_write(head + WIRE_HEADER_BYTES, &data);
    struct iovec pieces[1 + KVQ_PIECES_MAX] = {{.iov_base = head, .iov_len = sizeof head}};
    size_t count = 1;
    if (kvq_rows_are_few(&rows)) {
        count += kvq_rows_pieces(&rows, pieces + 1);
    } else {
        kvq_rows_gather(&rows, client->bounce);
        pieces[count++] = (struct iovec){.iov_base = client->bounce, .iov_len = payload_bytes};
    }
    int error = kvq_channel_write(&client->channel, pieces, count);
    if (error)
        return end_refused(client, kvq_lost_in_write(client, append->request_id, error));
    return client->channel.input_waits ? take_refusal(client) : KVQ_OK;
}

static uint64_t runs_of(const struct kvq_append_progress *append) {
    struct run run = first_run(append);
    uint64_t left = append->tokens - run.tokens;
    return 1 + left / append->page_tokens + (left % append->page_tokens != 0);
}

static int check_append(struct kvq_client *client, const struct kvq_append_progress *append) {
    uint64_t end;
    if (append->page_tokens == 0 || append->state->tail_tokens >= append->page_tokens)
        return kvq_fail(client, KVQ_ARGUMENT, "state was not filled by kvq_open or kvq_find");
    if (append->tokens == 0 || __builtin_add_overflow(append->first, append->tokens, &end))
        return kvq_fail(client, KVQ_ARGUMENT, "an append carries at least 1 token");
    if (runs_of(append) > client->append_runs_max)
        return kvq_fail(client, KVQ_ARGUMENT,
                        "%llu tokens are more than one append may carry (%llu)",
                        (unsigned long long)append->tokens,
                        (unsigned long long)append->state->append_tokens_max);
    return kvq_bounce(client) ? KVQ_OK : KVQ_NO_MEMORY;
}

static int begin(struct kvq_client *client, struct kvq_session_state *state,
                 const struct kvq_append_options *options, enum kvq_layout layout) {
    struct kvq_append_progress append = {
        .first = options->first == KVQ_AT_END ? state->tokens : options->first,
        .tokens = options->tokens,
        .run_tokens_first = state->page_tokens - state->tail_tokens,
        .page_tokens = state->page_tokens,
        .layout = layout,
        .deadline_ms = options->deadline_ms,
        .geometry = state->geometry,
        .state = state,
    };
    int error = check_append(client, &append);
    if (error)
        return error;
    Kvq__AppendRequest request = KVQ__APPEND_REQUEST__INIT;
    request.session.data = (uint8_t *)state->session;
    request.session.len = strlen(state->session);
    request.first = append.first;
    request.tokens = append.tokens;
    request.tail_tokens = state->tail_tokens;
    request.layout = (Kvq__Layout)layout;
    request.settle = options->settle;
    request.wait_ms = options->wait_ms;
    append.request_id = kvq_new_request_id(client);
    append.active = true;
    client->append = append;
    error = kvq_send_control(client, WIRE_APPEND, append.request_id, &request.base);
    return error ? end_refused(client, kvq_lost_in_write(client, append.request_id, error)) : 0;
}

static int commit(struct kvq_client *client) {
    const uint32_t request_id = client->append.request_id;
    struct kvq_session_state *state = client->append.state;
    int error = kvq_send_control(client, WIRE_COMMIT, request_id, NULL);
    if (error)
        return end_refused(client, kvq_lost_in_write(client, request_id, error));
    const Kvq__AppendReply *reply;
    error = kvq_await_answer(client, request_id, &kvq__append_reply__descriptor,
                             (ProtobufCMessage **)&reply);
    if (error)
        return end_refused(client, error);
    if (reply->tail_tokens >= state->page_tokens)
        return kvq_break(client, KVQ_DAEMON_PROTOCOL,
                         "%s reports a tail that cannot be; the connection is closed",
                         client->address);
    state->version = reply->version;
    state->tokens = reply->tokens;
    state->tail_tokens = reply->tail_tokens;
    client->append.active = false;
    return KVQ_OK;
}

static int cancel(struct kvq_client *client) {
    const uint32_t request_id = client->append.request_id;
    client->append.active = false;
    int error = kvq_send_control(client, WIRE_CANCEL, request_id, NULL);
    if (error)
        return kvq_check_channel(client, error);
    ProtobufCMessage *reply;
    error = kvq_await_answer(client, request_id, &kvq__append_reply__descriptor, &reply);
    if (!error)
        return kvq_break(client, KVQ_DAEMON_PROTOCOL,
                         "%s accepted an append that was cancelled; the connection is closed",
                         client->address);
    return client->channel.socket < 0 ? error : KVQ_OK;
}

static char *layer_values(const struct kvq_source *source, struct kvq_strides strides,
                          uint32_t layer) {
    if (source->layers)
        return (char *)source->layers[layer];
    return (char *)source->block + (ptrdiff_t)layer * strides.layer;
}

static struct kvq_strides strides_of(const struct kvq_source *source,
                                     const struct kvq_geometry *geometry, uint64_t tokens,
                                     enum kvq_part part) {
    struct kvq_strides given = {source->layer_stride, source->token_stride, source->head_stride};
    return kvq_resolve_strides(given, tokens, geometry->heads, dim_bytes(geometry, part));
}

/* Run by run, layer by layer, K then V: the order in which the daemon codes. */
static int send_all(struct kvq_client *client, const struct kvq_append_options *options,
                    struct kvq_strides strides_k, struct kvq_strides strides_v) {
    const struct kvq_append_progress *append = &client->append;
    for (struct run run = first_run(append); run.tokens > 0; run = next_run(append, run)) {
        for (uint32_t layer = 0; layer < append->geometry.layers; layer++) {
            char *k = layer_values(&options->k, strides_k, layer);
            int error = send_run(client, layer, KVQ_K, k, strides_k, run);
            if (!error && append->geometry.head_dim_v > 0)
                error = send_run(client, layer, KVQ_V, layer_values(&options->v, strides_v, layer),
                                 strides_v, run);
            if (error)
                return error;
        }
        uint64_t sent_bytes = (run.offset + run.tokens) * token_bytes(&append->geometry);
        if (options->progress && !options->progress(options->context, sent_bytes)) {
            int error = cancel(client);
            return error ? error : kvq_fail(client, KVQ_CANCELLED, "the append was cancelled");
        }
    }
    return KVQ_OK;
}

static bool given(const struct kvq_source *source) {
    return source->layers || source->block;
}

int kvq_append(struct kvq_client *client, struct kvq_session_state *state,
               const struct kvq_append_options *options) {
    enum { ATTEMPTS = 3 };
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
    enum kvq_layout layout =
        kvq_best_layout(strides_k, geometry->heads, dim_bytes(geometry, KVQ_K));
    for (int attempt = 1;; attempt++) {
        error = begin(client, state, &known, layout);
        if (!error)
            error = send_all(client, &known, strides_k, strides_v);
        if (!error)
            error = commit(client);
        if (error != KVQ_TAIL_MOVED || attempt == ATTEMPTS)
            return error;
    }
}

int kvq_append_begin(struct kvq_client *client, struct kvq_session_state *state,
                     const struct kvq_append_options *options) {
    struct kvq_append_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = kvq_begin_call(client, known.deadline_ms);
    return error ? error : begin(client, state, &known, KVQ_TOKENS_HEADS_DIM);
}

/* Like kvq_begin_call(), of a call that needs an append under way. */
static int continue_append(struct kvq_client *client) {
    if (!client->append.active)
        return kvq_fail(client, client->channel.socket < 0 ? KVQ_CONNECTION_LOST : KVQ_ARGUMENT,
                        "no append is under way");
    int64_t deadline_ms = client->append.deadline_ms;
    wire_arena_reset(&client->arena);
    kvq_channel_set_deadline(&client->channel, deadline_ms ? deadline_ms : client->deadline_ms);
    return KVQ_OK;
}

int kvq_append_part(struct kvq_client *client, uint32_t layer, enum kvq_part part,
                    const void *values, ptrdiff_t token_stride, ptrdiff_t head_stride) {
    int error = continue_append(client);
    if (error)
        return error;
    const struct kvq_append_progress *append = &client->append;
    size_t row_bytes = dim_bytes(&append->geometry, part);
    if (layer >= append->geometry.layers || (part != KVQ_K && part != KVQ_V) || row_bytes == 0 ||
        !values)
        return kvq_fail(client, KVQ_ARGUMENT, "the geometry has no layer %u with this part", layer);
    struct kvq_strides strides = {.token = token_stride, .head = head_stride};
    strides = kvq_resolve_strides(strides, append->tokens, append->geometry.heads, row_bytes);
    for (struct run run = first_run(append); run.tokens > 0; run = next_run(append, run)) {
        error = send_run(client, layer, part, (char *)values, strides, run);
        if (error)
            return error;
    }
    return KVQ_OK;
}

int kvq_append_commit(struct kvq_client *client) {
    int error = continue_append(client);
    return error ? error : commit(client);
}

int kvq_append_abort(struct kvq_client *client) {
    if (!client->append.active)
        return KVQ_OK;
    int error = continue_append(client);
    return error ? error : cancel(client);
}
