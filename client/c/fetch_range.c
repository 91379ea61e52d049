/* A range of tokens from one connection: every frame is checked against the request before its
 * payload goes to the caller's memory. */
#include "client/c/client.h"

enum { REQUEST, SEND, RECEIVE, DONE = KVQ_RANGE_DONE };

static size_t cursor_count(const struct kvq_fetch *fetch) {
    return 2 * (size_t)(fetch->end_layer - fetch->first_layer);
}

/* What the daemon is to know of the time that is left. */
static uint32_t within_ms(const struct kvq_client *client) {
    if (client->call.miss_ns == INT64_MAX)
        return 0;
    int64_t left = (client->call.miss_ns - kvq_now_ns()) / 1000000;
    return left < 1 ? 1 : left > UINT32_MAX ? UINT32_MAX : (uint32_t)left;
}

static int queue_request(struct kvq_client *client, struct kvq_connection *connection,
                         struct kvq_fetch_range *range) {
    const struct kvq_fetch *fetch = &client->call.fetch;
    uint8_t control[KVQ_REQUEST_BYTES_MAX];
    Kvq__FetchRequest request = KVQ__FETCH_REQUEST__INIT;
    request.session = kvq_text(fetch->session);
    request.model = kvq_text(fetch->model);
    request.first = range->first;
    request.end = range->end;
    request.first_layer = fetch->first_layer;
    request.end_layer = fetch->end_layer;
    request.skip_k = !fetch->parts[KVQ_K].wanted;
    request.skip_v = !fetch->parts[KVQ_V].wanted;
    request.dtype = (Kvq__Dtype)fetch->dtype;
    request.layout = (Kvq__Layout)fetch->layout;
    request.if_version = fetch->if_version;
    request.within_ms = within_ms(client);
    for (size_t i = 0; i < cursor_count(fetch); i++)
        range->cursors[i] = fetch->parts[i % 2].wanted ? range->first : range->end;
    range->request_id = kvq_new_request_id(client);
    if (fetch->space)
        return kvq_queue_block_get(client, connection, range->request_id);
    kvq_queue_control(connection, WIRE_FETCH, range->request_id, control,
                      protobuf_c_message_pack(&request.base, control));
    return KVQ_OK;
}

/* Where the frame begins what the cursor stands for, or a block behind one that is not there. */
static bool may_follow(const struct kvq_fetch *fetch, const struct wire_data *data,
                       uint64_t cursor) {
    if (!fetch->space)
        return data->first == cursor;
    uint64_t offset = data->first % fetch->block_tokens;
    return data->tokens <= fetch->block_tokens - offset &&
           (data->first == cursor || (data->first > cursor && offset == 0));
}

/* The cursor of the layer and part that the frame names; NULL where it is not one that was asked.
 */
static uint64_t *cursor_of(const struct kvq_fetch *fetch, const struct kvq_fetch_range *range,
                           uint32_t payload_bytes) {
    const struct wire_data *data = &range->data;
    if (data->layer < fetch->first_layer || data->layer >= fetch->end_layer || data->part > KVQ_V)
        return NULL;
    uint64_t *cursor = &range->cursors[2 * (size_t)(data->layer - fetch->first_layer) + data->part];
    if (data->tokens == 0 || data->tokens > fetch->page_tokens ||
        !may_follow(fetch, data, *cursor) || data->first > range->end ||
        data->tokens > range->end - data->first)
        return NULL;
    size_t token_bytes = fetch->heads * fetch->parts[data->part].dim_bytes;
    return payload_bytes == data->tokens * token_bytes ? cursor : NULL;
}

/* Of a block: its own memory, and how it lies there. */
static char *block_values(const struct kvq_fetch *fetch, const struct wire_data *data,
                          struct kvq_strides *strides) {
    struct kvq_fetch_block *block = &fetch->blocks[data->first / fetch->block_tokens];
    const struct kvq_target *target = &block->targets[data->part];
    struct kvq_strides given = {target->layer_stride, target->token_stride, target->head_stride};
    uint32_t layer = data->layer - fetch->first_layer;
    *strides = kvq_resolve_strides(given, fetch->block_tokens, fetch->heads,
                                   fetch->parts[data->part].dim_bytes);
    block->received_tokens += data->tokens;
    char *values = target->layers ? target->layers[layer]
                                  : (char *)target->block + (ptrdiff_t)layer * strides->layer;
    return values + (ptrdiff_t)(data->first % fetch->block_tokens) * strides->token;
}

static char *target_values(const struct kvq_fetch *fetch, const struct wire_data *data,
                           struct kvq_strides *strides) {
    const struct kvq_fetch_part *part = &fetch->parts[data->part];
    if (fetch->space)
        return block_values(fetch, data, strides);
    *strides = part->strides;
    uint32_t layer = data->layer - fetch->first_layer;
    char *values = part->target.layers
                       ? part->target.layers[layer]
                       : (char *)part->target.block + (ptrdiff_t)layer * part->strides.layer;
    return values + (ptrdiff_t)(data->first - fetch->first) * part->strides.token;
}

/* Finds out where the payload of the frame at hand goes. */
static int expect_values(struct kvq_client *client, struct kvq_connection *connection,
                         struct kvq_fetch_range *range) {
    const struct kvq_fetch *fetch = &client->call.fetch;
    struct kvq_channel *channel = &connection->channel;
    const uint32_t payload_bytes = connection->header.payload_bytes;
    uint64_t *cursor = wire_data_read(connection->control, &range->data)
                           ? NULL
                           : cursor_of(fetch, range, payload_bytes);
    if (!cursor)
        return kvq_break(client, connection, KVQ_DAEMON_PROTOCOL,
                         "%s sent values that do not belong to this fetch (is the session another "
                         "one now?); the connection is closed",
                         client->address);
    const struct kvq_fetch_part *part = &fetch->parts[range->data.part];
    struct kvq_strides strides;
    char *values = target_values(fetch, &range->data, &strides);
    range->rows = kvq_rows_of(values, fetch->layout, strides, range->data.tokens, fetch->heads,
                              part->dim_bytes);
    range->in_place = kvq_rows_are_few(&range->rows);
    size_t count = 1;
    if (range->in_place)
        count = kvq_rows_pieces(&range->rows, channel->input);
    else
        channel->input[0] =
            (struct iovec){.iov_base = connection->bounce, .iov_len = payload_bytes};
    kvq_channel_expect_payload(channel, count);
    connection->stage = KVQ_PAYLOAD;
    *cursor = range->data.first + range->data.tokens;
    return KVQ_OK;
}

static int report_progress(struct kvq_client *client, uint32_t payload_bytes) {
    struct kvq_fetch *fetch = &client->call.fetch;
    fetch->received_bytes += payload_bytes;
    client->call.moved_bytes += payload_bytes;
    if (!fetch->progress || fetch->progress(fetch->context, fetch->received_bytes))
        return KVQ_OK;
    return kvq_fail(client, KVQ_CANCELLED, "the fetch was cancelled by its progress function");
}

static int receive_values(struct kvq_client *client, struct kvq_connection *connection,
                          struct kvq_fetch_range *range) {
    int error = kvq_receive_payload(client, connection);
    if (error)
        return error;
    if (!range->in_place)
        kvq_rows_scatter(&range->rows, connection->bounce);
    return report_progress(client, connection->header.payload_bytes);
}

static bool covered(const struct kvq_fetch *fetch, const struct kvq_fetch_range *range) {
    for (size_t i = 0; i < cursor_count(fetch); i++)
        if (range->cursors[i] != range->end)
            return false;
    return true;
}

static void fill_levels(Kvq__LevelTokens *const *levels, size_t count,
                        struct kvq_fetch_result *result) {
    for (size_t i = 0; i < count && i < KVQ_LEVELS; i++)
        result->levels[result->level_count++] =
            (struct kvq_level_tokens){levels[i]->level, levels[i]->tokens};
}

/* Whether a hit is there in full. */
static bool holds(const struct kvq_fetch *fetch, const struct kvq_fetch_block *block) {
    uint64_t parts = (uint64_t)fetch->parts[KVQ_K].wanted + fetch->parts[KVQ_V].wanted;
    return block->received_tokens ==
           parts * (fetch->end_layer - fetch->first_layer) * fetch->block_tokens;
}

static int take_hits(struct kvq_client *client, struct kvq_connection *connection,
                     const Kvq__BlockGetReply *reply, struct kvq_fetch_result *result) {
    const struct kvq_fetch *fetch = &client->call.fetch;
    size_t count = (size_t)(fetch->end / fetch->block_tokens);
    bool agrees = reply->n_hits == count;
    *result = (struct kvq_fetch_result){.bytes = reply->bytes,
                                        .k = kvq_loss_from_wire(reply->k),
                                        .v = kvq_loss_from_wire(reply->v)};
    for (size_t i = 0; agrees && i < count; i++) {
        fetch->hits[i] = reply->hits[i];
        agrees = !reply->hits[i] || holds(fetch, &fetch->blocks[i]);
        result->tokens += reply->hits[i] ? fetch->block_tokens : 0;
    }
    if (!agrees)
        return kvq_break(client, connection, KVQ_DAEMON_PROTOCOL,
                         "%s did not send what it says is there; the connection is closed",
                         client->address);
    fill_levels(reply->levels, reply->n_levels, result);
    return KVQ_OK;
}

static void fill_result(const Kvq__FetchReply *reply, struct kvq_fetch_result *result) {
    *result = (struct kvq_fetch_result){
        .version = reply->version,
        .tokens = reply->tokens,
        .bytes = reply->bytes,
        .k = kvq_loss_from_wire(reply->k),
        .v = kvq_loss_from_wire(reply->v),
    };
    fill_levels(reply->levels, reply->n_levels, result);
}

static int take_answer(struct kvq_client *client, struct kvq_connection *connection,
                       struct kvq_fetch_range *range) {
    ProtobufCMessage *reply;
    bool blocks = client->call.fetch.space != NULL;
    int error = kvq_read_answer(
        client, connection,
        blocks ? &kvq__block_get_reply__descriptor : &kvq__fetch_reply__descriptor, &reply);
    range->stage = DONE; /* whatever it says: the daemon has closed the request */
    connection->busy = false;
    if (error)
        return error;
    if (blocks)
        return take_hits(client, connection, (const Kvq__BlockGetReply *)reply, &range->result);
    if (!covered(&client->call.fetch, range))
        return kvq_break(client, connection, KVQ_DAEMON_PROTOCOL,
                         "%s sent less than was asked; the connection is closed", client->address);
    fill_result((const Kvq__FetchReply *)reply, &range->result);
    return KVQ_OK;
}

/* Frames up to the answer. What arrived ahead of its time is used before anybody waits. */
static int receive(struct kvq_client *client, struct kvq_connection *connection,
                   struct kvq_fetch_range *range) {
    int error = KVQ_OK;
    while (!error && range->stage != DONE) {
        if (connection->stage == KVQ_PAYLOAD)
            error = receive_values(client, connection, range);
        else if (kvq_step_is_long(client) && !kvq_channel_has_ahead(&connection->channel))
            return KVQ_AGAIN;
        else if (!(error = kvq_receive(client, connection, range->request_id)))
            error = connection->header.type == WIRE_DATA ? expect_values(client, connection, range)
                                                         : take_answer(client, connection, range);
    }
    return error;
}

int kvq_fetch_range_step(struct kvq_client *client, struct kvq_connection *connection,
                         struct kvq_fetch_range *range) {
    int error;
    if (range->stage == REQUEST) {
        if ((error = kvq_connection_ready(client, connection)))
            return error;
        if ((error = queue_request(client, connection, range)))
            return error;
        range->stage = SEND;
    }
    if (range->stage == SEND) {
        if ((error = kvq_send(client, connection, range->request_id)))
            return error;
        range->stage = RECEIVE;
    }
    return range->stage == RECEIVE ? receive(client, connection, range) : KVQ_OK;
}
