/* Fetch: every frame is checked against the request before its payload goes to the caller's memory.
 */
#include "client/c/client.h"
#include "client/c/rows.h"

#include <stdlib.h>
#include <string.h>

/* One part as the caller wants it. */
struct part_target {
    bool wanted;
    struct kvq_target target;
    struct kvq_strides strides;
    size_t dim_bytes;
};

struct fetch {
    uint32_t request_id;
    uint64_t first, end;
    uint32_t first_layer, end_layer, heads, page_tokens;
    enum kvq_dtype dtype;
    enum kvq_layout layout;
    struct part_target parts[2];
    bool (*progress)(void *context, uint64_t bytes_received);
    void *context;
    uint64_t received_bytes;
    bool cancelled;
};

static struct part_target part_target(const struct fetch *fetch, const struct kvq_target *target,
                                      uint32_t head_dim) {
    struct kvq_strides given = {target->layer_stride, target->token_stride, target->head_stride};
    size_t dim_bytes = head_dim * kvq_dtype_bytes(fetch->dtype);
    return (struct part_target){
        .wanted = (target->layers || target->block) && head_dim > 0,
        .target = *target,
        .strides = kvq_resolve_strides(given, fetch->end - fetch->first, fetch->heads, dim_bytes),
        .dim_bytes = dim_bytes,
    };
}

static int fetch_init(struct kvq_client *client, const struct kvq_session_state *state,
                      const struct kvq_fetch_options *options, struct fetch *fetch) {
    const struct kvq_geometry *geometry = &state->geometry;
    *fetch = (struct fetch){
        .first = options->first,
        .end = options->end ? options->end : state->tokens,
        .first_layer = options->first_layer,
        .end_layer = options->end_layer ? options->end_layer : geometry->layers,
        .heads = geometry->heads,
        .page_tokens = state->page_tokens,
        .dtype = options->dtype ? options->dtype : geometry->dtype,
        .progress = options->progress,
        .context = options->context,
    };
    if (kvq_dtype_bytes(fetch->dtype) == 0 || geometry->heads == 0)
        return kvq_fail(client, KVQ_ARGUMENT, "state was not filled by kvq_open or kvq_find");
    if (fetch->first > fetch->end)
        return kvq_fail(client, KVQ_ARGUMENT, "the range of tokens ends before it begins");
    if (fetch->first_layer >= fetch->end_layer || fetch->end_layer > geometry->layers)
        return kvq_fail(client, KVQ_ARGUMENT, "layers %u to %u are not among the model's %u",
                        fetch->first_layer, fetch->end_layer, geometry->layers);
    fetch->parts[KVQ_K] = part_target(fetch, &options->k, geometry->head_dim_k);
    fetch->parts[KVQ_V] = part_target(fetch, &options->v, geometry->head_dim_v);
    if (!fetch->parts[KVQ_K].wanted && !fetch->parts[KVQ_V].wanted)
        return kvq_fail(client, KVQ_ARGUMENT, "neither K nor V is wanted, or the model has no V");
    const struct part_target *chosen = &fetch->parts[fetch->parts[KVQ_K].wanted ? KVQ_K : KVQ_V];
    fetch->layout = kvq_best_layout(chosen->strides, fetch->heads, chosen->dim_bytes);
    return KVQ_OK;
}

/* The next token expected of each layer and part. */
static int start_cursors(struct kvq_client *client, const struct fetch *fetch) {
    size_t count = 2 * (size_t)(fetch->end_layer - fetch->first_layer);
    if (count > client->cursor_count) {
        uint64_t *cursors = realloc(client->cursors, count * sizeof *cursors);
        if (!cursors)
            return kvq_fail(client, KVQ_NO_MEMORY, "no memory");
        client->cursors = cursors;
        client->cursor_count = count;
    }
    for (size_t i = 0; i < count; i++)
        client->cursors[i] = fetch->parts[i % 2].wanted ? fetch->first : fetch->end;
    return kvq_bounce(client) ? KVQ_OK : KVQ_NO_MEMORY;
}

static int send_request(struct kvq_client *client, const struct kvq_session_state *state,
                        const struct kvq_fetch_options *options, struct fetch *fetch) {
    Kvq__FetchRequest request = KVQ__FETCH_REQUEST__INIT;
    request.session.data = (uint8_t *)state->session;
    request.session.len = strlen(state->session);
    request.model.data = (uint8_t *)state->model;
    request.model.len = strlen(state->model);
    request.first = fetch->first;
    request.end = fetch->end;
    request.first_layer = fetch->first_layer;
    request.end_layer = fetch->end_layer;
    request.skip_k = !fetch->parts[KVQ_K].wanted;
    request.skip_v = !fetch->parts[KVQ_V].wanted;
    request.dtype = (Kvq__Dtype)fetch->dtype;
    request.layout = (Kvq__Layout)fetch->layout;
    request.if_version = options->if_version;
    fetch->request_id = kvq_new_request_id(client);
    int error = kvq_send_control(client, WIRE_FETCH, fetch->request_id, &request.base);
    return error ? kvq_lost_in_write(client, fetch->request_id, error) : KVQ_OK;
}

/* The cursor of the layer and part a frame names; NULL where the frame is not one that was asked.
 */
static uint64_t *cursor_of(struct kvq_client *client, const struct fetch *fetch,
                           const struct wire_header *header, const struct wire_data *data) {
    if (data->layer < fetch->first_layer || data->layer >= fetch->end_layer || data->part > KVQ_V)
        return NULL;
    uint64_t *cursor =
        &client->cursors[2 * (size_t)(data->layer - fetch->first_layer) + data->part];
    if (data->tokens == 0 || data->tokens > fetch->page_tokens || data->first != *cursor ||
        data->tokens > fetch->end - *cursor)
        return NULL;
    size_t token_bytes = fetch->heads * fetch->parts[data->part].dim_bytes;
    return header->payload_bytes == data->tokens * token_bytes ? cursor : NULL;
}

static char *target_values(const struct fetch *fetch, const struct wire_data *data) {
    const struct part_target *part = &fetch->parts[data->part];
    uint32_t layer = data->layer - fetch->first_layer;
    char *values = part->target.layers
                       ? part->target.layers[layer]
                       : (char *)part->target.block + (ptrdiff_t)layer * part->strides.layer;
    return values + (ptrdiff_t)(data->first - fetch->first) * part->strides.token;
}

static int read_payload(struct kvq_client *client, const struct fetch *fetch,
                        const struct wire_header *header, const struct wire_data *data) {
    const struct part_target *part = &fetch->parts[data->part];
    struct kvq_rows rows = kvq_rows_of(target_values(fetch, data), fetch->layout, part->strides,
                                       data->tokens, fetch->heads, part->dim_bytes);
    struct iovec pieces[KVQ_PIECES_MAX + 1];
    bool in_place = kvq_rows_are_few(&rows);
    size_t count = 1;
    if (in_place)
        count = kvq_rows_pieces(&rows, pieces);
    else
        pieces[0] = (struct iovec){.iov_base = client->bounce, .iov_len = header->payload_bytes};
    int error = kvq_channel_read_pieces(&client->channel, pieces, count, true);
    if (!error && !in_place)
        kvq_rows_scatter(&rows, client->bounce);
    return error;
}

/* After the CANCEL frames go on to arrive, and are taken, until the daemon closes the fetch. */
static int report_progress(struct kvq_client *client, struct fetch *fetch, uint32_t payload_bytes) {
    fetch->received_bytes += payload_bytes;
    if (!fetch->progress || fetch->cancelled ||
        fetch->progress(fetch->context, fetch->received_bytes))
        return KVQ_OK;
    fetch->cancelled = true;
    return kvq_send_control(client, WIRE_CANCEL, fetch->request_id, NULL);
}

static int read_data(struct kvq_client *client, struct fetch *fetch,
                     const struct wire_header *header) {
    uint8_t bytes[WIRE_DATA_BYTES];
    struct wire_data data;
    int error = kvq_channel_read(&client->channel, bytes, sizeof bytes);
    if (error)
        return kvq_check_channel(client, error);
    uint64_t *cursor =
        wire_data_read(bytes, &data) ? NULL : cursor_of(client, fetch, header, &data);
    if (!cursor)
        return kvq_break(client, KVQ_DAEMON_PROTOCOL,
                         "%s sent values that do not belong to this fetch (is the session another "
                         "one now?); the connection is closed",
                         client->address);
    error = read_payload(client, fetch, header, &data);
    *cursor += data.tokens;
    if (!error)
        error = report_progress(client, fetch, header->payload_bytes);
    return kvq_check_channel(client, error);
}

static bool covered(const struct kvq_client *client, const struct fetch *fetch) {
    size_t count = 2 * (size_t)(fetch->end_layer - fetch->first_layer);
    for (size_t i = 0; i < count; i++)
        if (client->cursors[i] != fetch->end)
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

static int receive(struct kvq_client *client, struct fetch *fetch,
                   struct kvq_fetch_result *result) {
    struct wire_header header = {0};
    int error;
    do {
        error = kvq_read_header(client, fetch->request_id, &header);
        if (!error && header.type == WIRE_DATA)
            error = read_data(client, fetch, &header);
    } while (!error && header.type == WIRE_DATA);
    const Kvq__FetchReply *reply;
    if (!error)
        error = kvq_read_answer(client, &header, &kvq__fetch_reply__descriptor,
                                (ProtobufCMessage **)&reply);
    if (error)
        return error;
    if (fetch->cancelled) /* the whole answer was on its way already */
        return kvq_fail(client, KVQ_CANCELLED, "the fetch was cancelled");
    if (!covered(client, fetch))
        return kvq_break(client, KVQ_DAEMON_PROTOCOL,
                         "%s sent less than was asked; the connection is closed", client->address);
    if (result)
        fill_result(reply, result);
    return KVQ_OK;
}

int kvq_fetch(struct kvq_client *client, const struct kvq_session_state *state,
              const struct kvq_fetch_options *options, struct kvq_fetch_result *result) {
    struct kvq_fetch_options known;
    struct fetch fetch;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = kvq_begin_call(client, known.deadline_ms);
    if (!error)
        error = fetch_init(client, state, &known, &fetch);
    if (error)
        return error;
    if (fetch.first == fetch.end) {
        if (result)
            *result = (struct kvq_fetch_result){.version = state->version};
        return KVQ_OK;
    }
    error = start_cursors(client, &fetch);
    if (!error)
        error = send_request(client, state, &known, &fetch);
    return error ? error : receive(client, &fetch, result);
}
