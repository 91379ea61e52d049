/* What an append sends: runs of tokens, a DATA frame for each layer's K and V of a run. */
#include "client/c/client.h"

/* What goes out together: small frames wake the daemon once. */
enum { QUEUED_BYTES_FULL = 64 << 10 };

struct kvq_run kvq_run_at(const struct kvq_append *append, const struct kvq_append_share *share,
                          uint64_t offset) {
    uint64_t left = share->end - offset;
    uint64_t tokens = offset == 0 ? append->run_tokens_first : append->page_tokens;
    return (struct kvq_run){offset, (uint32_t)(left < tokens ? left : tokens)};
}

uint64_t kvq_runs_of(const struct kvq_append *append) {
    uint64_t first = append->run_tokens_first;
    uint64_t left = append->tokens > first ? append->tokens - first : 0;
    return 1 + left / append->page_tokens + (left % append->page_tokens != 0);
}

size_t kvq_dim_bytes(const struct kvq_geometry *geometry, enum kvq_part part) {
    uint32_t dim = part == KVQ_K ? geometry->head_dim_k : geometry->head_dim_v;
    return dim * kvq_dtype_bytes(geometry->dtype);
}

uint64_t kvq_append_token_bytes(const struct kvq_geometry *geometry) {
    uint64_t row_bytes = kvq_dim_bytes(geometry, KVQ_K) + kvq_dim_bytes(geometry, KVQ_V);
    return geometry->layers * (uint64_t)geometry->heads * row_bytes;
}

/* The first token's values of the layer and part that come next. */
static char *values_at(const struct kvq_append *append, const struct kvq_append_share *share) {
    const struct kvq_source *source =
        share->part == KVQ_K ? &append->options.k : &append->options.v;
    if (!append->whole)
        return (char *)append->part_values;
    if (source->layers)
        return (char *)source->layers[share->layer];
    return (char *)source->block + (ptrdiff_t)share->layer * append->strides[share->part].layer;
}

/* Of kvq_append() run by run, layer by layer, K then V: the order in which the daemon codes. A part
 * is all runs of its layer. Returns whether a run of all layers has ended. */
bool kvq_append_go_on(const struct kvq_append *append, struct kvq_append_share *share) {
    if (append->whole) {
        if (share->part == KVQ_K && append->geometry.head_dim_v > 0) {
            share->part = KVQ_V;
            return false;
        }
        share->part = KVQ_K;
        if (++share->layer < append->geometry.layers)
            return false;
        share->layer = 0;
    }
    share->run = kvq_run_at(append, share, share->run.offset + share->run.tokens);
    return true;
}

/* Queues the next frame, its values where they stand or, where they lie in too many rows, gathered.
 * Returns whether there was room. */
bool kvq_queue_frame(struct kvq_connection *connection, const struct kvq_append *append,
                     const struct kvq_append_share *share) {
    struct kvq_channel *channel = &connection->channel;
    struct kvq_strides strides = append->strides[share->part];
    struct kvq_rows rows =
        kvq_rows_of(values_at(append, share) + (ptrdiff_t)share->run.offset * strides.token,
                    append->layout, strides, share->run.tokens, append->geometry.heads,
                    kvq_dim_bytes(&append->geometry, share->part));
    size_t payload_bytes = rows.outer * rows.inner * rows.row_bytes;
    bool in_place = kvq_rows_are_few(&rows);
    size_t pieces = in_place ? rows.outer * rows.inner : 1;
    if (kvq_channel_drained(channel))
        connection->bounce_used = 0;
    if (channel->out_bytes >= QUEUED_BYTES_FULL || !kvq_channel_has_room(channel, pieces) ||
        (!in_place && payload_bytes > WIRE_PAYLOAD_BYTES_MAX - connection->bounce_used))
        return false;
    struct wire_data data = {.first = append->first + share->run.offset,
                             .tokens = share->run.tokens,
                             .layer = share->layer,
                             .part = (uint8_t)share->part};
    if (in_place) {
        kvq_queue_data_head(connection, share->request_id, &data, payload_bytes);
        kvq_rows_pieces(&rows, kvq_channel_output_end(channel));
        kvq_channel_queue(channel, pieces);
    } else {
        uint8_t *packed = connection->bounce + connection->bounce_used;
        kvq_rows_gather(&rows, packed);
        connection->bounce_used += payload_bytes;
        kvq_queue_data(connection, share->request_id, &data, packed, payload_bytes);
    }
    return true;
}
