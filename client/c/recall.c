/* Recall: a query with its numbers behind it, answered by hits, and by K and V of them. */
#include "client/c/client.h"

#include <assert.h>
#include <string.h>

static_assert((int)KVQ_RECALL_K_MAX == WIRE_RECALL_K_MAX &&
                  (int)KVQ_RECALL_SESSIONS_MAX == WIRE_RECALL_SESSIONS_MAX,
              "the protocol's limits are kvq.h's");

enum { PREPARE, SEND, RECEIVE };

/* ---- The request ---- */

/* A copy in the arena. */
static int copy(struct kvq_client *client, const char *text, size_t bytes_max,
                ProtobufCBinaryData *to) {
    size_t bytes = text ? strlen(text) : 0;
    if (bytes > bytes_max)
        return kvq_fail(client, KVQ_ARGUMENT, "%.40s... has more than %zu bytes", text, bytes_max);
    *to = (ProtobufCBinaryData){bytes, wire_arena_alloc(&client->arena, bytes + 1)};
    if (!to->data)
        return kvq_fail(client, KVQ_NO_MEMORY, "no memory");
    if (bytes > 0)
        memcpy(to->data, text, bytes);
    return KVQ_OK;
}

static int copy_strings(struct kvq_client *client, const struct kvq_recall_options *options,
                        Kvq__RecallRequest *request) {
    int error = copy(client, options->model, KVQ_MODEL_BYTES_MAX, &request->model);
    if (!error)
        error = copy(client, options->label, KVQ_LABEL_BYTES_MAX, &request->label);
    request->n_sessions = options->session_count;
    for (size_t i = 0; i < options->session_count && !error; i++) {
        error =
            kvq_check_name(client, "session's name", options->sessions[i], KVQ_SESSION_BYTES_MAX);
        if (!error)
            error =
                copy(client, options->sessions[i], KVQ_SESSION_BYTES_MAX, &request->sessions[i]);
    }
    return error;
}

/* What the request points to, in the arena. */
struct recall_message {
    Kvq__RecallRequest request;
    Kvq__Score min_score;
};

static int make_request(struct kvq_client *client, const struct kvq_recall_options *options) {
    struct kvq_recall_call *call = &client->call.recall;
    struct recall_message *message = wire_arena_alloc(&client->arena, sizeof *message);
    ProtobufCBinaryData *sessions =
        wire_arena_alloc(&client->arena, (options->session_count + 1) * sizeof *sessions);
    if (!message || !sessions)
        return kvq_fail(client, KVQ_NO_MEMORY, "no memory");
    Kvq__RecallRequest *request = call->request = &message->request;
    kvq__recall_request__init(request);
    kvq__score__init(&message->min_score);
    message->min_score.value = options->min_score;
    request->min_score = options->has_min_score ? &message->min_score : NULL;
    request->sessions = sessions;
    request->dim = options->dim;
    request->metric = (Kvq__Metric)options->metric;
    request->k = options->k;
    request->first = options->first;
    request->end = options->end;
    request->newer_than_ms = options->newer_than_ms;
    request->merge = options->merge;
    request->fetch = options->fetch;
    request->dtype = (Kvq__Dtype)options->dtype;
    request->first_layer = options->first_layer;
    request->end_layer = options->end_layer;
    return copy_strings(client, options, request);
}

static int queue(struct kvq_client *client) {
    struct kvq_recall_call *call = &client->call.recall;
    struct kvq_connection *connection = client->connections[0];
    call->request_id = kvq_new_request_id(client);
    int error = kvq_queue_with_ids(client, connection,
                                   &(struct kvq_ids_request){.type = WIRE_RECALL,
                                                             .request_id = call->request_id,
                                                             .message = &call->request->base});
    if (error)
        return error;
    struct wire_data data = {.tokens = call->request->dim, .part = WIRE_PART_VECTORS};
    kvq_queue_data(connection, call->request_id, &data, call->query,
                   call->request->dim * sizeof *call->query);
    kvq_queue_control(connection, WIRE_COMMIT, call->request_id, NULL, 0);
    return KVQ_OK;
}

/* ---- The hits ---- */

static int bad_frame(struct kvq_client *client) {
    return kvq_break(client, client->connections[0], KVQ_DAEMON_PROTOCOL,
                     "%s sent bytes that do not belong to this recall; the connection is closed",
                     client->address);
}

static int no_memory(struct kvq_client *client) {
    return kvq_break(client, client->connections[0], KVQ_NO_MEMORY,
                     "no memory for what is recalled; the connection is closed");
}

static int expect_hits(struct kvq_client *client, size_t count) {
    struct kvq_recall_call *call = &client->call.recall;
    if (call->has_hits)
        return bad_frame(client);
    call->packed = wire_arena_alloc(&client->arena, count + 1);
    call->expects_hits = true;
    client->connections[0]->channel.input[0] = (struct iovec){call->packed, count};
    return call->packed ? KVQ_OK : no_memory(client);
}

static void read_hit(struct kvq_client *client, const Kvq__RecallHit *wire,
                     struct kvq_recall_hit *hit) {
    *hit = (struct kvq_recall_hit){.session = kvq_lend_string(client, &wire->session),
                                   .version = wire->version,
                                   .first = wire->first,
                                   .tokens = wire->tokens,
                                   .score = wire->score,
                                   .label = kvq_lend_string(client, &wire->label),
                                   .metadata = wire->metadata.data,
                                   .metadata_bytes = wire->metadata.len,
                                   .level = wire->level,
                                   .bytes = wire->bytes,
                                   .age_ms = wire->age_ms};
}

/* Room for K and V of so many tokens: the daemon has said of which shape. */
static int provide_values(struct kvq_client *client, const Kvq__RecallHits *message) {
    struct kvq_recall_call *call = &client->call.recall;
    struct kvq_recalled *recalled = call->recalled;
    kvq_geometry_from_wire(&recalled->geometry, message->geometry);
    const struct kvq_geometry *geometry = &recalled->geometry;
    uint32_t end = call->request->end_layer ? call->request->end_layer : geometry->layers;
    uint32_t dims[] = {geometry->head_dim_k, geometry->head_dim_v};
    recalled->dtype = call->request->dtype ? (enum kvq_dtype)call->request->dtype : geometry->dtype;
    recalled->layers = end > call->request->first_layer ? end - call->request->first_layer : 0;
    size_t dtype_bytes = kvq_dtype_bytes(recalled->dtype), bytes = 0;
    for (int part = KVQ_K; part <= KVQ_V; part++) {
        call->row_bytes[part] = (size_t)geometry->heads * dims[part] * dtype_bytes;
        call->part_offset[part] = bytes;
        size_t more;
        if (__builtin_mul_overflow(call->row_bytes[part] * recalled->layers, recalled->tokens,
                                   &more) ||
            __builtin_add_overflow(bytes, more, &bytes))
            return no_memory(client);
    }
    return kvq_provide(client, bytes);
}

static int take_hits(struct kvq_client *client, size_t bytes) {
    struct kvq_recall_call *call = &client->call.recall;
    struct kvq_recalled *recalled = call->recalled;
    Kvq__RecallHits *message =
        kvq__recall_hits__unpack(&client->arena.allocator, bytes, call->packed);
    if (!message || message->n_hits > call->request->k)
        return bad_frame(client);
    struct kvq_recall_hit *hits =
        wire_arena_alloc(&client->arena, (message->n_hits + 1) * sizeof *hits);
    if (!hits)
        return no_memory(client);
    for (size_t i = 0; i < message->n_hits; i++) {
        read_hit(client, message->hits[i], &hits[i]);
        recalled->tokens += hits[i].tokens;
    }
    recalled->hits = call->hits = hits;
    recalled->count = message->n_hits;
    call->has_hits = true;
    call->expects_hits = false;
    return message->geometry ? provide_values(client, message) : KVQ_OK;
}

/* ---- K and V ---- */

static int expect_values(struct kvq_client *client, const struct wire_data *data, size_t count) {
    struct kvq_recall_call *call = &client->call.recall;
    const struct kvq_recalled *recalled = call->recalled;
    uint32_t layer = data->layer - call->request->first_layer;
    if (!call->has_hits || data->part > KVQ_V || data->layer < call->request->first_layer ||
        layer >= recalled->layers || data->first > recalled->tokens ||
        data->tokens > recalled->tokens - data->first ||
        count != data->tokens * call->row_bytes[data->part])
        return bad_frame(client);
    uint64_t row = layer * recalled->tokens + data->first;
    client->connections[0]->channel.input[0] = (struct iovec){
        client->attachment + call->part_offset[data->part] + row * call->row_bytes[data->part],
        count};
    return KVQ_OK;
}

static int expect(struct kvq_client *client) {
    struct kvq_connection *connection = client->connections[0];
    size_t count = connection->header.payload_bytes;
    struct wire_data data;
    if (wire_data_read(connection->control, &data))
        return bad_frame(client);
    return data.part == WIRE_PART_BYTES ? expect_hits(client, count)
                                        : expect_values(client, &data, count);
}

static int take(struct kvq_client *client) {
    return client->call.recall.expects_hits
               ? take_hits(client, client->connections[0]->header.payload_bytes)
               : KVQ_OK;
}

static int take_answer(struct kvq_client *client) {
    struct kvq_recall_call *call = &client->call.recall;
    struct kvq_recalled *recalled = call->recalled;
    ProtobufCMessage *message;
    int error =
        kvq_read_answer(client, client->connections[0], &kvq__recall_reply__descriptor, &message);
    if (error)
        return error;
    const Kvq__RecallReply *reply = (const Kvq__RecallReply *)message;
    if (!call->has_hits || (call->request->fetch && reply->n_fetched != recalled->count))
        return kvq_impossible(client, "what it recalled");
    for (size_t i = 0; i < recalled->count && call->request->fetch; i++)
        call->hits[i].fetched = reply->fetched[i];
    if (call->request->fetch && recalled->count > 0) {
        recalled->k = client->attachment + call->part_offset[KVQ_K];
        recalled->v = client->attachment + call->part_offset[KVQ_V];
    }
    return KVQ_OK;
}

static int step(struct kvq_client *client) {
    struct kvq_call *call = &client->call;
    int error;
    if (call->stage == PREPARE) {
        if ((error = kvq_connection_ready(client, client->connections[0])))
            return error;
        call->recall.has_hits = call->recall.expects_hits = false;
        *call->recall.recalled = (struct kvq_recalled){0};
        if ((error = queue(client)))
            return error;
        call->stage = SEND;
    }
    if (call->stage == SEND) {
        if ((error = kvq_send_with_data(client, client->connections[0], call->recall.request_id)))
            return error;
        call->stage = RECEIVE;
    }
    return kvq_receive_stream(
        client, &(struct kvq_stream){call->recall.request_id, expect, take, take_answer});
}

static void leave(struct kvq_client *client) {
    kvq_leave(client->connections[0], client->call.recall.request_id);
}

int kvq_recall(struct kvq_client *client, const struct kvq_recall_options *options,
               struct kvq_recalled *recalled) {
    struct kvq_recall_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = kvq_begin_call(client, known.deadline_ms);
    if (error)
        return error;
    if (known.dim == 0 || known.dim > KVQ_DIM_MAX || !known.query)
        return kvq_fail(client, KVQ_ARGUMENT, "dim: a query has 1 to %d numbers", KVQ_DIM_MAX);
    if (known.session_count > KVQ_RECALL_SESSIONS_MAX)
        return kvq_fail(client, KVQ_ARGUMENT, "sessions: at most %d", KVQ_RECALL_SESSIONS_MAX);
    client->call.recall = (struct kvq_recall_call){.query = known.query, .recalled = recalled};
    if ((error = make_request(client, &known)))
        return error;
    client->call.safe = true;
    client->call.stage = PREPARE;
    return kvq_run_call(client, step, leave);
}
