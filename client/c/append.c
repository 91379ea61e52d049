/* The calls of an append: the whole of it, and its parts. */
#include "client/c/client.h"

static struct kvq_strides strides_of(const struct kvq_source *source,
                                     const struct kvq_geometry *geometry, uint64_t tokens,
                                     enum kvq_part part) {
    struct kvq_strides given = {source->layer_stride, source->token_stride, source->head_stride};
    return kvq_resolve_strides(given, tokens, geometry->heads, kvq_dim_bytes(geometry, part));
}

static bool given(const struct kvq_source *source) {
    return source->layers || source->block;
}

static int begin(struct kvq_client *client, const struct kvq_append_options *options,
                 struct kvq_append_options *known, Kvq__SaltRange ***salts) {
    kvq_copy_options(known, sizeof *known, options, options->size);
    int error = kvq_begin_call(client, known->deadline_ms);
    if (!known->token_ids)
        known->salt_count = 0;
    return error ? error : kvq_salts_to_wire(client, known->salts, known->salt_count, salts);
}

int kvq_append(struct kvq_client *client, struct kvq_session_state *state,
               const struct kvq_append_options *options) {
    struct kvq_append_options known;
    Kvq__SaltRange **salts;
    int error = begin(client, options, &known, &salts);
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
        .salts = salts,
        .strides = {[KVQ_K] = strides_k, [KVQ_V] = strides_v},
        .layout = kvq_best_layout(strides_k, geometry->heads, kvq_dim_bytes(geometry, KVQ_K)),
        .whole = true,
    };
    return kvq_append_run(client);
}

static int check_block(struct kvq_client *client, const struct kvq_blocks *blocks,
                       const struct kvq_block_put_options *options) {
    if (blocks->page_tokens == 0)
        return kvq_fail(client, KVQ_ARGUMENT, "blocks was not filled by kvq_blocks");
    if (!given(&options->k) || (blocks->geometry.head_dim_v > 0 && !given(&options->v)))
        return kvq_fail(client, KVQ_ARGUMENT, "the geometry asks for values that are NULL");
    return KVQ_OK;
}

int kvq_block_put(struct kvq_client *client, const struct kvq_blocks *blocks,
                  const struct kvq_block_put_options *options) {
    struct kvq_block_put_options known;
    ProtobufCBinaryData *keys;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = kvq_begin_call(client, known.deadline_ms);
    if (!error)
        error = check_block(client, blocks, &known);
    const struct kvq_key given_keys[] = {known.key, known.parent};
    if (!error)
        error = kvq_keys_to_wire(client, given_keys, known.parent.byte_count > 0 ? 2 : 1, &keys);
    if (error)
        return error;
    const struct kvq_geometry *geometry = &blocks->geometry;
    struct kvq_strides strides_k = strides_of(&known.k, geometry, known.tokens, KVQ_K);
    client->append = (struct kvq_append){
        .state = &client->append.block_state,
        .geometry = *geometry,
        .tokens = known.tokens,
        .options = {.tokens = known.tokens, .k = known.k, .v = known.v, .wait_ms = known.wait_ms},
        .strides = {strides_k, strides_of(&known.v, geometry, known.tokens, KVQ_V)},
        .layout = kvq_best_layout(strides_k, geometry->heads, kvq_dim_bytes(geometry, KVQ_K)),
        .blocks = blocks,
        .block_keys = keys,
        .first_position = known.first_position,
        .block_state = {.geometry = *geometry,
                        .page_tokens = blocks->page_tokens,
                        .append_tokens_max =
                            client->append_runs_max * (uint64_t)blocks->page_tokens},
        .whole = true,
        .on_one_connection = true,
    };
    return kvq_append_run(client);
}

int kvq_append_begin(struct kvq_client *client, struct kvq_session_state *state,
                     const struct kvq_append_options *options) {
    struct kvq_append_options known;
    Kvq__SaltRange **salts;
    int error = begin(client, options, &known, &salts);
    if (error)
        return error;
    client->append = (struct kvq_append){
        .state = state,
        .geometry = state->geometry,
        .tokens = known.tokens,
        .options = known,
        .salts = salts,
        .layout = KVQ_TOKENS_HEADS_DIM,
    };
    return kvq_append_run(client);
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
    append->part_values = values;
    struct kvq_append_share *share = &append->shares[0];
    share->run = kvq_run_at(append, share, 0);
    share->layer = layer;
    share->part = part;
    return kvq_append_run_part(client, KVQ_SHARE_VALUES);
}

int kvq_append_commit(struct kvq_client *client) {
    int error = continue_append(client);
    if (error)
        return error;
    client->append.active = false;
    return kvq_append_run_part(client, KVQ_SHARE_COMMIT);
}

int kvq_append_abort(struct kvq_client *client) {
    if (!client->append.active)
        return KVQ_OK;
    int error = continue_append(client);
    if (error)
        return error;
    client->append.active = false;
    client->append.dropping = true;
    return kvq_append_run_part(client, KVQ_SHARE_ABORT);
}
