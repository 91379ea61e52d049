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

static void queue_request(struct kvq_client *client, struct kvq_connection *connection,
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
    kvq_queue_control(connection, WIRE_FETCH, range->request_id, control,
                      protobuf_c_message_pack(&request.base, control));
}

/* The cursor of the layer and part that the frame names; NULL where it is not one that was asked.
 */
static uint64_t *cursor_of(const struct kvq_fetch *fetch, const struct kvq_fetch_range *range,
                           uint32_t payload_bytes) {
    const struct wire_data *data = &range->data;
    if (data->layer < fetch->first_layer || data->layer >= fetch->end_layer || data->part > KVQ_V)
        return NULL;
    uint64_t *cursor = &range->cursors[2 * (size_t)(data->layer - fetch->first_layer) + data->part];
    if (data->tokens == 0 || data->tokens > fetch->page_tokens || data->first != *cursor ||
        data->tokens > range->end - *cursor)
        return NULL;
    size_t token_bytes = fetch->heads * fetch->parts[data->part].dim_bytes;
    return payload_bytes == data->tokens * token_bytes ? cursor : NULL;
}

static char *target_values(const struct kvq_fetch *fetch, const struct wire_data *data) {
    const struct kvq_fetch_part *part = &fetch->parts[data->part];
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
    range->rows = kvq_rows_of(target_values(fetch, &range->data), fetch->layout, part->strides,
                              range->data.tokens, fetch->heads, part->dim_bytes);
    range->in_place = kvq_rows_are_few(&range->rows);
    size_t count = 1;
    if (range->in_place)
        count = kvq_rows_pieces(&range->rows, channel->input);
    else
        channel->input[0] =
            (struct iovec){.iov_base = connection->bounce, .iov_len = payload_bytes};
    kvq_channel_expect_payload(channel, count);
    connection->stage = KVQ_PAYLOAD;
    *cursor += range->data.tokens;
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

static void fill_result(const Kvq__FetchReply *reply, struct kvq_fetch_result *result) {
    *result = (struct kvq_fetch_result){
        .version = reply->version,
        .tokens = reply->tokens,
        .bytes = reply->bytes,
        .k = kvq_loss_from_wire(reply->k),
        .v = kvq_loss_from_wire(reply->v),
    };
    for (size_t i = 0; i < reply->n_levels && i < KVQ_LEVELS; i++)
        result->levels[result->level_count++] =
            (struct kvq_level_tokens){reply->levels[i]->level, reply->levels[i]->tokens};
}

static int take_answer(struct kvq_client *client, struct kvq_connection *connection,
                       struct kvq_fetch_range *range) {
    const Kvq__FetchReply *reply;
    int error = kvq_read_answer(client, connection, &kvq__fetch_reply__descriptor,
                                (ProtobufCMessage **)&reply);
    range->stage = DONE; /* whatever it says: the daemon has closed the request */
    connection->busy = false;
    if (error)
        return error;
    if (!covered(&client->call.fetch, range))
        return kvq_break(client, connection, KVQ_DAEMON_PROTOCOL,
                         "%s sent less than was asked; the connection is closed", client->address);
    fill_result(reply, &range->result);
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
        queue_request(client, connection, range);
        range->stage = SEND;
    }
    if (range->stage == SEND) {
        if ((error = kvq_send(client, connection, range->request_id)))
            return error;
        range->stage = RECEIVE;
    }
    return range->stage == RECEIVE ? receive(client, connection, range) : KVQ_OK;
}
