/* Embeddings of a session's tokens: puts, as many as there have to be, and deletes. */
#include "client/c/client.h"

#include <assert.h>
#include <string.h>

static_assert((int)KVQ_DIM_MAX == WIRE_DIM_MAX &&
                  (int)KVQ_LABEL_BYTES_MAX == WIRE_LABEL_BYTES_MAX &&
                  (int)KVQ_METADATA_BYTES_MAX == WIRE_METADATA_BYTES_MAX,
              "the protocol's limits are kvq.h's");

enum { PREPARE, SEND, RECEIVE };
enum { ENTRY_BYTES = 16, ALIGNMENT = 64, ROW_BYTES_MAX = 64 }; /* of a row with the daemon */

/* ---- What is sent ---- */

static size_t vector_bytes(const struct kvq_index_options *options) {
    return options->dim * kvq_dtype_bytes(options->dtype);
}

static size_t label_bytes(const struct kvq_entry *entry) {
    return entry->label ? strlen(entry->label) : 0;
}

static size_t aligned(size_t bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* How many of the entries from `first` on go together, and their strings' bytes. */
static size_t share(const struct kvq_index_options *options, size_t first, size_t *string_bytes) {
    size_t count = 0, bytes = ALIGNMENT * 2;
    *string_bytes = 0;
    for (; first + count < options->count; count++) {
        const struct kvq_entry *entry = &options->entries[first + count];
        size_t strings = label_bytes(entry) + entry->metadata_bytes;
        bytes += ROW_BYTES_MAX + strings + vector_bytes(options);
        if (bytes > WIRE_INDEX_BYTES_MAX)
            break;
        *string_bytes += strings;
    }
    return count;
}

static void put_number(char **at, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++)
        *(*at)++ = (char)(value >> (8 * i));
}

static void write_entries(const struct kvq_index_options *options, size_t first, size_t count,
                          char *to) {
    char *strings = to + count * ENTRY_BYTES;
    for (size_t i = 0; i < count; i++) {
        const struct kvq_entry *entry = &options->entries[first + i];
        size_t label = label_bytes(entry);
        put_number(&to, entry->first, 8);
        put_number(&to, entry->tokens, 4);
        put_number(&to, label, 2);
        put_number(&to, entry->metadata_bytes, 2);
        if (label > 0)
            memcpy(strings, entry->label, label);
        if (entry->metadata_bytes > 0)
            memcpy(strings + label, entry->metadata, entry->metadata_bytes);
        strings += label + entry->metadata_bytes;
    }
}

/* Those whose turn it is, in the client's memory. */
static int write_share(struct kvq_client *client) {
    struct kvq_index_call *call = &client->call.index;
    const struct kvq_index_options *options = &call->options;
    size_t string_bytes, row = vector_bytes(options);
    call->count = share(options, call->first, &string_bytes);
    size_t head = aligned(call->count * ENTRY_BYTES + string_bytes);
    call->byte_count = head + call->count * row;
    int error = kvq_provide(client, call->byte_count);
    if (error)
        return error;
    memset(client->attachment, 0, head);
    write_entries(options, call->first, call->count, client->attachment);
    memcpy(client->attachment + head, (const char *)options->vectors + call->first * row,
           call->count * row);
    return KVQ_OK;
}

static void queue(struct kvq_client *client) {
    struct kvq_index_call *call = &client->call.index;
    struct kvq_connection *connection = client->connections[0];
    uint8_t control[KVQ_REQUEST_BYTES_MAX];
    Kvq__IndexPutRequest request = KVQ__INDEX_PUT_REQUEST__INIT;
    request.session = kvq_text(call->session);
    request.dim = call->options.dim;
    request.dtype = (Kvq__Dtype)call->options.dtype;
    request.metric = (Kvq__Metric)call->options.metric;
    request.entries = (uint32_t)call->count;
    request.bytes = call->byte_count;
    request.if_version = call->options.if_version;
    request.wait_ms = kvq_memory_wait_ms(client, call->options.wait_ms);
    call->request_id = kvq_new_request_id(client);
    kvq_queue_control(connection, WIRE_INDEX_PUT, call->request_id, control,
                      protobuf_c_message_pack(&request.base, control));
    for (size_t offset = 0; offset < call->byte_count; offset += WIRE_INDEX_PIECE_BYTES) {
        size_t left = call->byte_count - offset;
        size_t count = left < WIRE_INDEX_PIECE_BYTES ? left : WIRE_INDEX_PIECE_BYTES;
        struct wire_data data = {
            .first = offset, .tokens = (uint32_t)count, .part = WIRE_PART_VECTORS};
        kvq_queue_data(connection, call->request_id, &data, client->attachment + offset, count);
    }
    kvq_queue_control(connection, WIRE_COMMIT, call->request_id, NULL, 0);
}

/* ---- Put ---- */

static int take_answer(struct kvq_client *client) {
    struct kvq_index_call *call = &client->call.index;
    ProtobufCMessage *message;
    int error = kvq_receive_answer(client, client->connections[0], call->request_id,
                                   &kvq__index_put_reply__descriptor, &message);
    if (error)
        return error;
    const Kvq__IndexPutReply *reply = (const Kvq__IndexPutReply *)message;
    call->first += call->count;
    call->result.version = reply->version;
    call->result.changed += reply->replaced;
    call->result.entries = reply->entries;
    return KVQ_OK;
}

static int put_share(struct kvq_client *client) {
    struct kvq_call *call = &client->call;
    int error;
    if (call->stage == PREPARE) {
        if ((error = kvq_connection_ready(client, client->connections[0])) ||
            (error = write_share(client)))
            return error;
        queue(client);
        call->stage = SEND;
    }
    if (call->stage == SEND) {
        if ((error = kvq_send_with_data(client, client->connections[0], call->index.request_id)))
            return error;
        call->stage = RECEIVE;
    }
    return take_answer(client);
}

static int step(struct kvq_client *client) {
    struct kvq_index_call *call = &client->call.index;
    int error = KVQ_OK;
    while (!error && call->first < call->options.count) {
        error = put_share(client);
        if (!error)
            client->call.stage = PREPARE;
    }
    if (!error && call->wanted)
        *call->wanted = call->result;
    return error;
}

static void leave(struct kvq_client *client) {
    kvq_leave(client->connections[0], client->call.index.request_id);
}

static int check_entries(struct kvq_client *client, const struct kvq_index_options *options) {
    if (options->dim == 0 || options->dim > KVQ_DIM_MAX)
        return kvq_fail(client, KVQ_ARGUMENT, "dim: embeddings have 1 to %d numbers", KVQ_DIM_MAX);
    if (options->dtype != KVQ_F32 && options->dtype != KVQ_F16)
        return kvq_fail(client, KVQ_ARGUMENT, "dtype: embeddings are KVQ_F32 or KVQ_F16");
    if (options->count > 0 && (!options->entries || !options->vectors))
        return kvq_fail(client, KVQ_ARGUMENT, "entries or vectors: there are none");
    for (size_t i = 0; i < options->count; i++)
        if (label_bytes(&options->entries[i]) > KVQ_LABEL_BYTES_MAX ||
            options->entries[i].metadata_bytes > KVQ_METADATA_BYTES_MAX)
            return kvq_fail(client, KVQ_ARGUMENT,
                            "entry %zu: a label has at most %d bytes, metadata %d", i,
                            KVQ_LABEL_BYTES_MAX, KVQ_METADATA_BYTES_MAX);
    return KVQ_OK;
}

int kvq_index(struct kvq_client *client, const char *session,
              const struct kvq_index_options *options, struct kvq_index_result *result) {
    struct kvq_index_call *call = &client->call.index;
    struct kvq_index_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = kvq_begin_call(client, known.deadline_ms);
    if (!error)
        error = kvq_check_name(client, "session's name", session, KVQ_SESSION_BYTES_MAX);
    if (!error)
        error = check_entries(client, &known);
    if (error)
        return error;
    *call = (struct kvq_index_call){.options = known, .wanted = result};
    memcpy(call->session, session, strlen(session) + 1);
    client->call.safe = false;
    client->call.stage = PREPARE;
    return kvq_run_call(client, step, leave);
}

/* ---- Delete ---- */

static int finish_delete(struct kvq_client *client, const ProtobufCMessage *message) {
    const Kvq__IndexDeleteReply *reply = (const Kvq__IndexDeleteReply *)message;
    struct kvq_index_result *result = client->call.request.result;
    if (result)
        *result = (struct kvq_index_result){reply->version, reply->deleted, reply->entries};
    return KVQ_OK;
}

int kvq_unindex(struct kvq_client *client, const char *session,
                const struct kvq_unindex_options *options, struct kvq_index_result *result) {
    struct kvq_unindex_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = kvq_begin_call(client, known.deadline_ms);
    if (!error)
        error = kvq_check_name(client, "session's name", session, KVQ_SESSION_BYTES_MAX);
    if (error)
        return error;
    Kvq__IndexDeleteRequest *request = wire_arena_alloc(&client->arena, sizeof *request);
    ProtobufCBinaryData *labels =
        wire_arena_alloc(&client->arena, (known.label_count + 1) * sizeof *labels);
    if (!request || !labels)
        return kvq_fail(client, KVQ_NO_MEMORY, "no memory");
    kvq__index_delete_request__init(request);
    for (size_t i = 0; i < known.label_count; i++)
        labels[i] = kvq_text(known.labels[i]);
    request->session = kvq_text(session);
    request->labels = labels;
    request->n_labels = known.label_count;
    request->first = known.first;
    request->end = known.end;
    request->if_version = known.if_version;
    return kvq_request(client, WIRE_INDEX_DELETE, false, &request->base,
                       &kvq__index_delete_reply__descriptor, finish_delete, result);
}
