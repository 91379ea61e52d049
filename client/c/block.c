/* Blocks: a put is an append, and a get a fetch, with another request. */
#include "client/c/client.h"

#include <stdio.h>
#include <string.h>

/* ---- Requests ---- */

static int check_key(struct kvq_client *client, const struct kvq_key *key) {
    if (key->byte_count == 0 || key->byte_count > KVQ_BLOCK_KEY_BYTES_MAX)
        return kvq_fail(client, KVQ_ARGUMENT, "a block's key has 1 to %d bytes",
                        KVQ_BLOCK_KEY_BYTES_MAX);
    return KVQ_OK;
}

int kvq_keys_to_wire(struct kvq_client *client, const struct kvq_key *keys, size_t count,
                     ProtobufCBinaryData **wire) {
    if (count > KVQ_BLOCK_KEYS_MAX)
        return kvq_fail(client, KVQ_ARGUMENT, "a call takes at most %d keys", KVQ_BLOCK_KEYS_MAX);
    *wire = wire_arena_alloc(&client->arena, (count + 1) * sizeof **wire);
    for (size_t i = 0; *wire && i < count; i++) {
        int error = check_key(client, &keys[i]);
        uint8_t *copy = error ? NULL : wire_arena_alloc(&client->arena, keys[i].byte_count);
        if (!copy)
            return error ? error : kvq_fail(client, KVQ_NO_MEMORY, "no memory");
        memcpy(copy, keys[i].bytes, keys[i].byte_count);
        (*wire)[i] = (ProtobufCBinaryData){keys[i].byte_count, copy};
    }
    return *wire ? KVQ_OK : kvq_fail(client, KVQ_NO_MEMORY, "no memory");
}

static int queue(struct kvq_client *client, struct kvq_connection *connection, enum wire_type type,
                 uint32_t request_id, const ProtobufCMessage *message) {
    return kvq_queue_with_ids(
        client, connection,
        &(struct kvq_ids_request){.type = type, .request_id = request_id, .message = message});
}

/* ---- The blocks of a model ---- */

static int finish_blocks(struct kvq_client *client, const ProtobufCMessage *message) {
    struct kvq_blocks *blocks = client->call.request.result;
    const struct kvq_session_state *known = &client->call.request.state;
    uint32_t page_tokens = ((const Kvq__BlockControlReply *)message)->page_tokens;
    const struct kvq_geometry *geometry = &known->geometry;
    uint64_t widest =
        geometry->head_dim_k > geometry->head_dim_v ? geometry->head_dim_k : geometry->head_dim_v;
    unsigned __int128 page_bytes = (unsigned __int128)page_tokens * geometry->heads * widest *
                                   kvq_dtype_bytes(geometry->dtype);
    if (page_bytes == 0 || page_bytes > WIRE_PAYLOAD_BYTES_MAX)
        return kvq_impossible(client, "a page");
    blocks->page_tokens = page_tokens;
    return KVQ_OK;
}

static void fill(struct kvq_blocks *blocks, const struct kvq_blocks_options *options) {
    *blocks = (struct kvq_blocks){.geometry = *options->geometry,
                                  .has_level = options->has_level,
                                  .level = options->level,
                                  .min_snr_db = options->min_snr_db};
    snprintf(blocks->model, sizeof blocks->model, "%s", options->model);
    if (!options->policy)
        return;
    kvq_copy_options(&blocks->policy, sizeof blocks->policy, options->policy,
                     options->policy->size);
    blocks->policy.size = sizeof blocks->policy;
}

int kvq_blocks(struct kvq_client *client, const struct kvq_blocks_options *options,
               struct kvq_blocks *blocks) {
    struct kvq_blocks_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = kvq_begin_call(client, known.deadline_ms);
    if (!error)
        error = kvq_check_name(client, "model's fingerprint", known.model, KVQ_MODEL_BYTES_MAX);
    if (error)
        return error;
    if (!known.geometry)
        return kvq_fail(client, KVQ_ARGUMENT, "blocks are those of a geometry");
    fill(blocks, &known);
    client->call.request.state.geometry = *known.geometry;
    Kvq__BlockControlRequest request = KVQ__BLOCK_CONTROL_REQUEST__INIT;
    Kvq__Geometry geometry;
    Kvq__Rope rope;
    kvq_geometry_to_wire(known.geometry, &geometry, &rope);
    request.model = kvq_text(known.model);
    request.geometry = &geometry;
    return kvq_request(client, WIRE_BLOCK_CONTROL, true, &request.base,
                       &kvq__block_control_reply__descriptor, finish_blocks, blocks);
}

static int check_blocks(struct kvq_client *client, const struct kvq_blocks *blocks) {
    if (blocks->page_tokens == 0)
        return kvq_fail(client, KVQ_ARGUMENT, "blocks was not filled by kvq_blocks");
    return KVQ_OK;
}

/* ---- Put ---- */

int kvq_queue_block_put(struct kvq_client *client, struct kvq_connection *connection,
                        uint32_t request_id) {
    const struct kvq_append *append = &client->append;
    const struct kvq_blocks *blocks = append->blocks;
    Kvq__BlockPutRequest request = KVQ__BLOCK_PUT_REQUEST__INIT;
    Kvq__Geometry geometry;
    Kvq__Rope rope;
    Kvq__Level level = KVQ__LEVEL__INIT;
    struct kvq_policy_message policy;
    kvq_geometry_to_wire(&blocks->geometry, &geometry, &rope);
    level.level = blocks->level;
    request.model = kvq_text(blocks->model);
    request.geometry = &geometry;
    request.key = append->block_keys[0];
    request.parent = append->block_keys[1];
    request.tokens = (uint32_t)append->tokens;
    request.first_position = append->first_position;
    request.level = blocks->has_level ? &level : NULL;
    request.min_snr_db = blocks->min_snr_db;
    request.policy = kvq_policy_to_wire(blocks->policy.size ? &blocks->policy : NULL, &policy);
    request.layout = (Kvq__Layout)append->layout;
    request.wait_ms = kvq_memory_wait_ms(client, append->options.wait_ms);
    return queue(client, connection, WIRE_BLOCK_PUT, request_id, &request.base);
}

/* ---- Get ---- */

int kvq_queue_block_get(struct kvq_client *client, struct kvq_connection *connection,
                        uint32_t request_id) {
    const struct kvq_fetch *fetch = &client->call.fetch;
    size_t count = (size_t)(fetch->end / fetch->block_tokens);
    Kvq__BlockGetRequest request = KVQ__BLOCK_GET_REQUEST__INIT;
    Kvq__Geometry geometry;
    Kvq__Rope rope;
    kvq_geometry_to_wire(&fetch->space->geometry, &geometry, &rope);
    request.model = kvq_text(fetch->space->model);
    request.geometry = &geometry;
    request.keys = fetch->keys;
    request.n_keys = count;
    request.tokens = fetch->block_tokens;
    request.first_layer = fetch->first_layer;
    request.end_layer = fetch->end_layer;
    request.skip_k = !fetch->parts[KVQ_K].wanted;
    request.skip_v = !fetch->parts[KVQ_V].wanted;
    request.dtype = (Kvq__Dtype)fetch->dtype;
    request.layout = (Kvq__Layout)fetch->layout;
    for (size_t i = 0; i < count; i++)
        fetch->blocks[i].received_tokens = 0;
    return queue(client, connection, WIRE_BLOCK_GET, request_id, &request.base);
}

static int take_targets(struct kvq_client *client, const struct kvq_block_get_options *options) {
    struct kvq_fetch *fetch = &client->call.fetch;
    int error = kvq_keys_to_wire(client, options->keys, options->count, &fetch->keys);
    if (error)
        return error;
    fetch->blocks = wire_arena_alloc(&client->arena, (options->count + 1) * sizeof *fetch->blocks);
    if (!fetch->blocks)
        return kvq_fail(client, KVQ_NO_MEMORY, "no memory");
    const struct kvq_target *const targets[] = {options->k, options->v};
    for (int part = KVQ_K; part <= KVQ_V; part++)
        for (size_t i = 0; targets[part] && i < options->count; i++)
            fetch->blocks[i].targets[part] = targets[part][i];
    return KVQ_OK;
}

static int get_init(struct kvq_client *client, const struct kvq_blocks *blocks,
                    const struct kvq_block_get_options *options) {
    struct kvq_fetch *fetch = &client->call.fetch;
    const struct kvq_geometry *geometry = &blocks->geometry;
    enum kvq_dtype dtype = options->dtype ? options->dtype : geometry->dtype;
    *fetch = (struct kvq_fetch){
        .end = options->count * (uint64_t)options->tokens,
        .first_layer = options->first_layer,
        .end_layer = options->end_layer ? options->end_layer : geometry->layers,
        .heads = geometry->heads,
        .page_tokens = blocks->page_tokens,
        .dtype = dtype,
        .parts = {{.wanted = options->k != NULL,
                   .dim_bytes = geometry->head_dim_k * kvq_dtype_bytes(dtype)},
                  {.wanted = options->v != NULL && geometry->head_dim_v > 0,
                   .dim_bytes = geometry->head_dim_v * kvq_dtype_bytes(dtype)}},
        .space = blocks,
        .block_tokens = options->tokens,
        .on_one_connection = true,
    };
    if (options->tokens == 0 || kvq_dtype_bytes(dtype) == 0 ||
        fetch->first_layer >= fetch->end_layer || fetch->end_layer > geometry->layers ||
        (!fetch->parts[KVQ_K].wanted && !fetch->parts[KVQ_V].wanted))
        return kvq_fail(client, KVQ_ARGUMENT,
                        "no tokens, layers or dtype of the model's, or neither K nor V");
    return take_targets(client, options);
}

static enum kvq_layout layout_of(const struct kvq_fetch *fetch) {
    enum kvq_part part = fetch->parts[KVQ_K].wanted ? KVQ_K : KVQ_V;
    const struct kvq_target *target = &fetch->blocks[0].targets[part];
    struct kvq_strides given = {target->layer_stride, target->token_stride, target->head_stride};
    size_t dim_bytes = fetch->parts[part].dim_bytes;
    struct kvq_strides strides =
        kvq_resolve_strides(given, fetch->block_tokens, fetch->heads, dim_bytes);
    return kvq_best_layout(strides, fetch->heads, dim_bytes);
}

int kvq_block_get(struct kvq_client *client, const struct kvq_blocks *blocks,
                  const struct kvq_block_get_options *options, bool *hits,
                  struct kvq_fetch_result *result) {
    struct kvq_block_get_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = kvq_begin_call(client, known.deadline_ms);
    if (!error)
        error = check_blocks(client, blocks);
    if (!error)
        error = get_init(client, blocks, &known);
    if (error)
        return error;
    if (result)
        *result = (struct kvq_fetch_result){0};
    if (known.count == 0)
        return KVQ_OK;
    struct kvq_fetch *fetch = &client->call.fetch;
    fetch->layout = layout_of(fetch);
    fetch->hits = hits;
    fetch->result = result;
    return kvq_fetch_run(client);
}

/* ---- What else there is to do with them ---- */

static int finish_control(struct kvq_client *client, const ProtobufCMessage *message) {
    const Kvq__BlockControlReply *reply = (const Kvq__BlockControlReply *)message;
    uint32_t *tokens = client->call.request.result;
    if (reply->n_tokens != client->call.request.after_id)
        return kvq_impossible(client, "blocks");
    for (size_t i = 0; i < reply->n_tokens; i++)
        tokens[i] = reply->tokens[i];
    return KVQ_OK;
}

/* What a large request points to stays in the arena until it is sent. */
struct control_message {
    Kvq__BlockControlRequest request;
    Kvq__Geometry geometry;
    Kvq__Rope rope;
};

int kvq_block_control(struct kvq_client *client, const struct kvq_blocks *blocks,
                      const struct kvq_block_control_options *options, uint32_t *tokens) {
    struct kvq_block_control_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = kvq_begin_call(client, known.deadline_ms);
    if (!error)
        error = check_blocks(client, blocks);
    if (error)
        return error;
    struct control_message *message = wire_arena_alloc(&client->arena, sizeof *message);
    if (!message)
        return kvq_fail(client, KVQ_NO_MEMORY, "no memory");
    Kvq__BlockControlRequest *request = &message->request;
    kvq__block_control_request__init(request);
    if ((error = kvq_keys_to_wire(client, known.keys, known.count, &request->keys)))
        return error;
    kvq_geometry_to_wire(&blocks->geometry, &message->geometry, &message->rope);
    request->n_keys = known.count;
    request->model = kvq_text(blocks->model);
    request->geometry = &message->geometry;
    request->action = (Kvq__BlockAction)known.action;
    request->lease_ms = known.lease_ms;
    client->call.request.after_id = known.count;
    return kvq_request(client, WIRE_BLOCK_CONTROL, known.action != KVQ_BLOCK_DELETE, &request->base,
                       &kvq__block_control_reply__descriptor, finish_control, tokens);
}
