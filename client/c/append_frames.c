/* What an append sends: runs of tokens, a DATA frame for each layer's K and V of a run. */
#include "client/c/client.h"

/* What goes out together: small frames wake the daemon once. */
enum { QUEUED_BYTES_FULL = 64 << 10 };

struct kvq_run kvq_first_run(const struct kvq_append *append) {
    uint64_t tokens = append->run_tokens_first;
    return (struct kvq_run){0, (uint32_t)(append->tokens < tokens ? append->tokens : tokens)};
}

static struct kvq_run next_run(const struct kvq_append *append) {
    uint64_t offset = append->run.offset + append->run.tokens, left = append->tokens - offset;
    return (struct kvq_run){offset,
                            (uint32_t)(left < append->page_tokens ? left : append->page_tokens)};
}

uint64_t kvq_runs_of(const struct kvq_append *append) {
    uint64_t left = append->tokens - kvq_first_run(append).tokens;
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
static char *values_at(const struct kvq_append *append) {
    const struct kvq_source *source =
        append->part == KVQ_K ? &append->options.k : &append->options.v;
    if (!append->whole)
        return (char *)append->part_values;
    if (source->layers)
        return (char *)source->layers[append->layer];
    return (char *)source->block + (ptrdiff_t)append->layer * append->strides[append->part].layer;
}

/* Of kvq_append() run by run, layer by layer, K then V: the order in which the daemon codes. A part
 * is all runs of its layer. Returns whether a run of all layers has ended. */
bool kvq_append_go_on(struct kvq_append *append) {
    if (append->whole) {
        if (append->part == KVQ_K && append->geometry.head_dim_v > 0) {
            append->part = KVQ_V;
            return false;
        }
        append->part = KVQ_K;
        if (++append->layer < append->geometry.layers)
            return false;
        append->layer = 0;
    }
    append->run = next_run(append);
    return true;
}

static void queue_head(struct kvq_connection *connection, const struct kvq_append *append,
                       size_t payload_bytes) {
    struct wire_header header = {.type = WIRE_DATA,
                                 .request_id = append->request_id,
                                 .control_bytes = WIRE_DATA_BYTES,
                                 .payload_bytes = (uint32_t)payload_bytes};
    struct wire_data data = {.first = append->first + append->run.offset,
                             .tokens = append->run.tokens,
                             .layer = append->layer,
                             .part = (uint8_t)append->part};
    uint8_t *head =
        kvq_channel_queue_head(&connection->channel, WIRE_HEADER_BYTES + WIRE_DATA_BYTES);
    wire_header_write(head, &header);
    wire_data_write(head + WIRE_HEADER_BYTES, &data);
}

/* Queues the next frame, its values where they stand or, where they lie in too many rows, gathered.
 * Returns whether there was room. */
bool kvq_queue_frame(struct kvq_connection *connection, const struct kvq_append *append) {
    struct kvq_channel *channel = &connection->channel;
    struct kvq_strides strides = append->strides[append->part];
    struct kvq_rows rows = kvq_rows_of(
        values_at(append) + (ptrdiff_t)append->run.offset * strides.token, append->layout, strides,
        append->run.tokens, append->geometry.heads, kvq_dim_bytes(&append->geometry, append->part));
    size_t payload_bytes = rows.outer * rows.inner * rows.row_bytes;
    bool in_place = kvq_rows_are_few(&rows);
    size_t pieces = in_place ? rows.outer * rows.inner : 1;
    if (kvq_channel_drained(channel))
        connection->bounce_used = 0;
    if (channel->out_bytes >= QUEUED_BYTES_FULL || !kvq_channel_has_room(channel, pieces) ||
        (!in_place && payload_bytes > WIRE_PAYLOAD_BYTES_MAX - connection->bounce_used))
        return false;
    queue_head(connection, append, payload_bytes);
    if (in_place) {
        kvq_rows_pieces(&rows, kvq_channel_output_end(channel));
    } else {
        uint8_t *packed = connection->bounce + connection->bounce_used;
        kvq_rows_gather(&rows, packed);
        connection->bounce_used += payload_bytes;
        *kvq_channel_output_end(channel) =
            (struct iovec){.iov_base = packed, .iov_len = payload_bytes};
    }
    kvq_channel_queue(channel, pieces);
    return true;
}
