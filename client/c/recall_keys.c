/* Recall by keys: each layer's queries, answered by ranges of tokens, and by K and V of them. */
#include "client/c/client.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static_assert((int)KVQ_RECALL_BLOCKS_MAX == WIRE_RECALL_BLOCKS_MAX &&
                  sizeof(struct kvq_recalled_range) == WIRE_RANGE_BYTES,
              "the protocol's limit and ranges are kvq.h's");

enum { PREPARE, SEND, RECEIVE };
enum { ALIGNMENT = 64 };

/* Where in the client's memory what a layer points to is. */
struct place {
    size_t ranges, values[2];
};

static uint32_t layers_of(const struct kvq_recall_keys_call *call) {
    return call->end_layer - call->options.first_layer;
}

static struct kvq_recalled_layer *layer_at(struct kvq_client *client, uint32_t i) {
    return (struct kvq_recalled_layer *)(void *)client->attachment + i;
}

static struct place *place_at(struct kvq_client *client, uint32_t i) {
    return (struct place *)(void *)layer_at(client, layers_of(&client->call.recall_keys)) + i;
}

/* ---- The request ---- */

static Kvq__RecallKeysRequest make_request(const struct kvq_recall_keys_call *call) {
    const struct kvq_recall_keys_options *options = &call->options;
    Kvq__RecallKeysRequest request = KVQ__RECALL_KEYS_REQUEST__INIT;
    request.session = kvq_text(call->session);
    request.model = kvq_text(call->model);
    request.first = options->first;
    request.end = options->end;
    request.first_layer = options->first_layer;
    request.end_layer = call->end_layer;
    request.query_heads = options->query_heads;
    request.k = options->k;
    request.if_version = options->if_version;
    request.fetch = options->fetch;
    request.dtype = (Kvq__Dtype)options->dtype;
    return request;
}

static size_t query_bytes(const struct kvq_recall_keys_call *call) {
    return (size_t)call->options.query_heads * call->geometry.head_dim_k * sizeof(float);
}

/* Of as many layers as fit a frame. */
static int queue_queries(struct kvq_client *client) {
    const struct kvq_recall_keys_call *call = &client->call.recall_keys;
    struct kvq_connection *connection = client->connections[0];
    const char *queries = (const char *)call->options.queries;
    uint32_t at_once = (uint32_t)(WIRE_PAYLOAD_BYTES_MAX / query_bytes(call)), count;
    for (uint32_t i = 0; i < layers_of(call); i += count) {
        count = layers_of(call) - i < at_once ? layers_of(call) - i : at_once;
        if (!kvq_channel_has_room(&connection->channel, 2))
            return kvq_fail(client, KVQ_ARGUMENT,
                            "queries: these are too many for one call; ask for fewer layers");
        struct wire_data data = {.tokens = count * call->options.query_heads,
                                 .layer = call->options.first_layer + i,
                                 .part = WIRE_PART_VECTORS};
        kvq_queue_data(connection, call->request_id, &data, queries + i * query_bytes(call),
                       count * query_bytes(call));
    }
    return KVQ_OK;
}

static int queue(struct kvq_client *client) {
    struct kvq_recall_keys_call *call = &client->call.recall_keys;
    struct kvq_connection *connection = client->connections[0];
    Kvq__RecallKeysRequest request = make_request(call);
    call->request_id = kvq_new_request_id(client);
    int error = kvq_queue_with_ids(client, connection,
                                   &(struct kvq_ids_request){.type = WIRE_RECALL_KEYS,
                                                             .request_id = call->request_id,
                                                             .message = &request.base});
    if (!error)
        error = queue_queries(client);
    if (!error)
        kvq_queue_control(connection, WIRE_COMMIT, call->request_id, NULL, 0);
    return error;
}

/* ---- The ranges ---- */

static int bad_frame(struct kvq_client *client) {
    return kvq_break(client, client->connections[0], KVQ_DAEMON_PROTOCOL,
                     "%s sent bytes that do not belong to this recall; the connection is closed",
                     client->address);
}

static int expect_ranges(struct kvq_client *client, uint32_t i, size_t bytes) {
    struct kvq_recall_keys_call *call = &client->call.recall_keys;
    size_t count = bytes / sizeof(struct kvq_recalled_range);
    if (call->has_all_ranges || layer_at(client, i)->count > 0 || count == 0 ||
        count * sizeof(struct kvq_recalled_range) != bytes || count > call->options.k)
        return bad_frame(client);
    int error = kvq_provide(client, call->bytes + bytes);
    if (error)
        return error;
    place_at(client, i)->ranges = call->bytes;
    layer_at(client, i)->count = count;
    client->connections[0]->channel.input[0] =
        (struct iovec){client->attachment + call->bytes, bytes};
    call->bytes += bytes;
    call->last_layer = i;
    return KVQ_OK;
}

/* When they are there. */
static void count_tokens(struct kvq_client *client) {
    struct kvq_recall_keys_call *call = &client->call.recall_keys;
    struct kvq_recalled_layer *layer = layer_at(client, call->last_layer);
    const struct kvq_recalled_range *ranges =
        (const void *)(client->attachment + place_at(client, call->last_layer)->ranges);
    layer->tokens = 0;
    for (size_t i = 0; i < layer->count; i++)
        layer->tokens += ranges[i].tokens;
}

/* ---- K and V ---- */

/* Places for all of them, behind the ranges. */
static int provide_values(struct kvq_client *client) {
    struct kvq_recall_keys_call *call = &client->call.recall_keys;
    size_t bytes = (call->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    for (uint32_t i = 0; i < layers_of(call); i++)
        for (int part = KVQ_K; part <= KVQ_V; part++) {
            size_t more;
            place_at(client, i)->values[part] = bytes;
            if (__builtin_mul_overflow(layer_at(client, i)->tokens, call->row_bytes[part], &more) ||
                __builtin_add_overflow(bytes, more, &bytes))
                return bad_frame(client);
        }
    call->has_all_ranges = true;
    call->bytes = bytes;
    return kvq_provide(client, bytes);
}

static int expect_values(struct kvq_client *client, const struct wire_data *data, uint32_t i,
                         size_t bytes) {
    struct kvq_recall_keys_call *call = &client->call.recall_keys;
    int error = call->has_all_ranges ? KVQ_OK : provide_values(client);
    if (error)
        return error;
    uint64_t tokens = layer_at(client, i)->tokens;
    if (!call->options.fetch || data->part > KVQ_V || data->first > tokens ||
        data->tokens > tokens - data->first || bytes != data->tokens * call->row_bytes[data->part])
        return bad_frame(client);
    client->connections[0]->channel.input[0] =
        (struct iovec){client->attachment + place_at(client, i)->values[data->part] +
                           data->first * call->row_bytes[data->part],
                       bytes};
    return KVQ_OK;
}

static int expect(struct kvq_client *client) {
    const struct kvq_recall_keys_call *call = &client->call.recall_keys;
    struct kvq_connection *connection = client->connections[0];
    size_t bytes = connection->header.payload_bytes;
    struct wire_data data;
    if (wire_data_read(connection->control, &data) || data.layer < call->options.first_layer ||
        data.layer >= call->end_layer)
        return bad_frame(client);
    uint32_t i = data.layer - call->options.first_layer;
    return data.part == WIRE_PART_BYTES ? expect_ranges(client, i, bytes)
                                        : expect_values(client, &data, i, bytes);
}

static int take(struct kvq_client *client) {
    if (!client->call.recall_keys.has_all_ranges)
        count_tokens(client);
    return KVQ_OK;
}

/* ---- The answer ---- */

/* Nothing is moved any more: pointers to it stay. */
static void point(struct kvq_client *client, struct kvq_recalled_keys *recalled) {
    const struct kvq_recall_keys_call *call = &client->call.recall_keys;
    for (uint32_t i = 0; i < layers_of(call); i++) {
        struct kvq_recalled_layer *layer = layer_at(client, i);
        const struct place *place = place_at(client, i);
        layer->ranges = (const void *)(client->attachment + place->ranges);
        if (!call->options.fetch)
            continue;
        layer->k = client->attachment + place->values[KVQ_K];
        if (call->row_bytes[KVQ_V] > 0)
            layer->v = client->attachment + place->values[KVQ_V];
    }
    recalled->layers = layer_at(client, 0);
    recalled->layer_count = layers_of(call);
}

static int take_answer(struct kvq_client *client) {
    struct kvq_recall_keys_call *call = &client->call.recall_keys;
    struct kvq_recalled_keys *recalled = call->recalled;
    ProtobufCMessage *message;
    int error = kvq_read_answer(client, client->connections[0], &kvq__recall_keys_reply__descriptor,
                                &message);
    if (!error && !call->has_all_ranges)
        error = provide_values(client);
    if (error)
        return error;
    const Kvq__RecallKeysReply *reply = (const Kvq__RecallKeysReply *)message;
    uint64_t tokens = 0, bytes = 0;
    for (uint32_t i = 0; i < layers_of(call); i++) {
        tokens += layer_at(client, i)->tokens;
        bytes += layer_at(client, i)->tokens * (call->row_bytes[KVQ_K] + call->row_bytes[KVQ_V]);
    }
    if (reply->tokens != tokens || (call->options.fetch && reply->bytes != bytes))
        return kvq_impossible(client, "what it recalled");
    *recalled = (struct kvq_recalled_keys){.version = reply->version,
                                           .tokens = tokens,
                                           .bytes = reply->bytes,
                                           .dtype = call->options.dtype ? call->options.dtype
                                                                        : call->geometry.dtype};
    point(client, recalled);
    return KVQ_OK;
}

/* Layers without ranges, as long as none has come. */
static int prepare(struct kvq_client *client) {
    struct kvq_recall_keys_call *call = &client->call.recall_keys;
    size_t bytes = layers_of(call) * (sizeof(struct kvq_recalled_layer) + sizeof(struct place));
    int error = kvq_connection_ready(client, client->connections[0]);
    if (!error)
        error = kvq_provide(client, bytes);
    if (error)
        return error;
    memset(client->attachment, 0, bytes);
    call->bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    call->has_all_ranges = false;
    return queue(client);
}

static int step(struct kvq_client *client) {
    struct kvq_call *call = &client->call;
    int error;
    if (call->stage == PREPARE) {
        if ((error = prepare(client)))
            return error;
        call->stage = SEND;
    }
    if (call->stage == SEND) {
        if ((error =
                 kvq_send_with_data(client, client->connections[0], call->recall_keys.request_id)))
            return error;
        call->stage = RECEIVE;
    }
    return kvq_receive_stream(
        client, &(struct kvq_stream){call->recall_keys.request_id, expect, take, take_answer});
}

static void leave(struct kvq_client *client) {
    kvq_leave(client->connections[0], client->call.recall_keys.request_id);
}

static int check(struct kvq_client *client, const struct kvq_recall_keys_call *call) {
    const struct kvq_geometry *geometry = &call->geometry;
    if (geometry->heads == 0 || geometry->head_dim_k == 0)
        return kvq_fail(client, KVQ_ARGUMENT, "state was not filled by kvq_open or kvq_find");
    if (call->options.first_layer >= call->end_layer || call->end_layer > geometry->layers)
        return kvq_fail(client, KVQ_ARGUMENT, "layers %u to %u are not among the model's %u",
                        call->options.first_layer, call->end_layer, geometry->layers);
    if (!call->options.queries || call->options.query_heads == 0 ||
        query_bytes(call) > WIRE_PAYLOAD_BYTES_MAX)
        return kvq_fail(client, KVQ_ARGUMENT,
                        "queries: of each layer 1 to 262,144 values are taken");
    if (kvq_dtype_bytes(call->options.dtype ? call->options.dtype : geometry->dtype) == 0)
        return kvq_fail(client, KVQ_ARGUMENT, "dtype is none");
    return KVQ_OK;
}

int kvq_recall_keys(struct kvq_client *client, const struct kvq_session_state *state,
                    const struct kvq_recall_keys_options *options,
                    struct kvq_recalled_keys *recalled) {
    struct kvq_recall_keys_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = kvq_begin_call(client, known.deadline_ms);
    if (error)
        return error;
    struct kvq_recall_keys_call *call = &client->call.recall_keys;
    *call = (struct kvq_recall_keys_call){
        .options = known, .geometry = state->geometry, .recalled = recalled};
    call->end_layer = known.end_layer ? known.end_layer : state->geometry.layers;
    snprintf(call->session, sizeof call->session, "%s", state->session);
    snprintf(call->model, sizeof call->model, "%s", state->model);
    if ((error = check(client, call)))
        return error;
    size_t dtype_bytes = kvq_dtype_bytes(known.dtype ? known.dtype : state->geometry.dtype);
    call->row_bytes[KVQ_K] =
        (size_t)state->geometry.heads * state->geometry.head_dim_k * dtype_bytes;
    call->row_bytes[KVQ_V] =
        (size_t)state->geometry.heads * state->geometry.head_dim_v * dtype_bytes;
    client->call.safe = true;
    client->call.stage = PREPARE;
    return kvq_run_call(client, step, leave);
}
