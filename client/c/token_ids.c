/* Token ids and their salts on the way to the daemon. */
#include "client/c/client.h"

#include <assert.h>
#include <string.h>

static_assert((int)KVQ_SALT_BYTES_MAX == WIRE_SALT_BYTES_MAX, "the protocol's limits are kvq.h's");
static_assert((int)KVQ_SALTS_MAX == WIRE_SALTS_MAX, "the protocol's limits are kvq.h's");
static_assert((int)KVQ_MATCH_TOKENS_MAX == WIRE_MATCH_TOKENS_MAX,
              "the protocol's limits are kvq.h's");

enum { IDS_PER_FRAME = WIRE_PAYLOAD_BYTES_MAX / sizeof(uint32_t) };

int kvq_salts_to_wire(struct kvq_client *client, const struct kvq_salt *salts, size_t count,
                      Kvq__SaltRange ***ranges) {
    *ranges = NULL;
    if (count == 0)
        return KVQ_OK;
    if (count > KVQ_SALTS_MAX || !salts)
        return kvq_fail(client, KVQ_ARGUMENT, "a call takes at most %d salts", KVQ_SALTS_MAX);
    Kvq__SaltRange *messages = wire_arena_alloc(&client->arena, count * sizeof *messages);
    Kvq__SaltRange **pointers = wire_arena_alloc(&client->arena, count * sizeof(Kvq__SaltRange *));
    if (!messages || !pointers)
        return kvq_fail(client, KVQ_NO_MEMORY, "the salts take more memory than is set aside");
    for (size_t i = 0; i < count; i++) {
        size_t bytes = salts[i].byte_count;
        if (bytes > KVQ_SALT_BYTES_MAX)
            return kvq_fail(client, KVQ_ARGUMENT, "a salt has at most %d bytes",
                            KVQ_SALT_BYTES_MAX);
        uint8_t *copy = bytes > 0 ? wire_arena_alloc(&client->arena, bytes) : NULL;
        if (bytes > 0 && !copy)
            return kvq_fail(client, KVQ_NO_MEMORY, "the salts take more memory than is set aside");
        if (bytes > 0)
            memcpy(copy, salts[i].bytes, bytes);
        kvq__salt_range__init(&messages[i]);
        messages[i].first = salts[i].first;
        messages[i].tokens = salts[i].tokens;
        messages[i].salt = (ProtobufCBinaryData){bytes, copy};
        pointers[i] = &messages[i];
    }
    *ranges = pointers;
    return KVQ_OK;
}

/* One too large for the channel's own memory goes out of the bounce buffer. */
static void queue_message(struct kvq_connection *connection, const struct kvq_ids_request *request,
                          size_t bytes) {
    struct kvq_channel *channel = &connection->channel;
    struct wire_header header = {.type = (uint8_t)request->type,
                                 .request_id = request->request_id,
                                 .control_bytes = (uint32_t)bytes};
    protobuf_c_message_pack(request->message, connection->bounce);
    if (bytes <= KVQ_REQUEST_BYTES_MAX) {
        kvq_queue_control(connection, request->type, request->request_id, connection->bounce,
                          bytes);
        return;
    }
    connection->bounce_used = bytes;
    wire_header_write(kvq_channel_queue_head(channel, WIRE_HEADER_BYTES), &header);
    *kvq_channel_output_end(channel) =
        (struct iovec){.iov_base = connection->bounce, .iov_len = bytes};
    kvq_channel_queue(channel, 1);
}

int kvq_queue_with_ids(struct kvq_client *client, struct kvq_connection *connection,
                       const struct kvq_ids_request *request) {
    size_t bytes = protobuf_c_message_get_packed_size(request->message);
    if (bytes > WIRE_CONTROL_BYTES_MAX)
        return kvq_fail(client, KVQ_ARGUMENT, "the arguments take more bytes than a request has");
    queue_message(connection, request, bytes);
    for (uint64_t offset = 0; request->ids && offset < request->count; offset += IDS_PER_FRAME) {
        uint64_t left = request->count - offset;
        uint32_t count = (uint32_t)(left < IDS_PER_FRAME ? left : IDS_PER_FRAME);
        struct wire_data data = {
            .first = request->first + offset, .tokens = count, .part = WIRE_PART_TOKEN_IDS};
        kvq_queue_data(connection, request->request_id, &data, request->ids + offset,
                       count * sizeof *request->ids);
    }
    return KVQ_OK;
}
