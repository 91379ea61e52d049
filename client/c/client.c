#include "client/c/client.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 2, 0))) static void record(struct kvq_client *client,
                                                         const char *format, va_list arguments) {
    vsnprintf(client->message, sizeof client->message, format, arguments);
}

int kvq_fail(struct kvq_client *client, int error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    record(client, format, arguments);
    va_end(arguments);
    return error;
}

int kvq_break(struct kvq_client *client, int error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    record(client, format, arguments);
    va_end(arguments);
    kvq_channel_close(&client->channel);
    client->append.active = false;
    return error;
}

int kvq_check_channel(struct kvq_client *client, int error) {
    if (error == KVQ_DEADLINE)
        return kvq_break(client, error, "no answer from %s in time; the connection is closed",
                         client->address);
    if (error)
        return kvq_break(client, error, "the connection to %s broke", client->address);
    return KVQ_OK;
}

int kvq_begin_call(struct kvq_client *client, int64_t deadline_ms) {
    if (client->channel.socket < 0)
        return kvq_fail(client, KVQ_CONNECTION_LOST, "the connection to %s is gone; connect anew",
                        client->address);
    if (client->append.active)
        return kvq_fail(client, KVQ_ARGUMENT,
                        "an append is under way; commit or abort it before anything else");
    wire_arena_reset(&client->arena);
    kvq_channel_set_deadline(&client->channel, deadline_ms ? deadline_ms : client->deadline_ms);
    return KVQ_OK;
}

uint32_t kvq_new_request_id(struct kvq_client *client) {
    if (++client->next_request_id == 0)
        client->next_request_id = 1; /* 0 is the connection's own */
    return client->next_request_id;
}

int kvq_send_control(struct kvq_client *client, enum wire_type type, uint32_t request_id,
                     const ProtobufCMessage *message) {
    /* Names are checked before; what is left of a request is far below the limit. */
    size_t control_bytes = message ? protobuf_c_message_get_packed_size(message) : 0;
    struct wire_header header = {
        .type = (uint8_t)type,
        .request_id = request_id,
        .control_bytes = (uint32_t)control_bytes,
    };
    wire_header_write(client->control, &header);
    if (message)
        protobuf_c_message_pack(message, client->control + WIRE_HEADER_BYTES);
    struct iovec piece = {.iov_base = client->control,
                          .iov_len = WIRE_HEADER_BYTES + control_bytes};
    return kvq_channel_write(&client->channel, &piece, 1);
}

static int out_of_step(struct kvq_client *client, const char *what) {
    return kvq_break(client, KVQ_DAEMON_PROTOCOL, "%s sent %s; the connection is closed",
                     client->address, what);
}

int kvq_read_header(struct kvq_client *client, uint32_t request_id, struct wire_header *header) {
    uint8_t bytes[WIRE_HEADER_BYTES];
    int error = kvq_channel_read(&client->channel, bytes, sizeof bytes);
    if (error)
        return kvq_check_channel(client, error);
    if (wire_header_read(bytes, header))
        return out_of_step(client, "bytes that are not a frame of this protocol");
    bool ends_connection = header->type == WIRE_ERROR && header->request_id == 0;
    if (header->request_id != request_id && !ends_connection)
        return out_of_step(client, "an answer to nothing that was asked");
    return KVQ_OK;
}

static int daemon_failed(struct kvq_client *client, const struct wire_header *header,
                         const Kvq__ErrorReply *reply) {
    if (reply->code == 0 || reply->code >= KVQ_NO_MEMORY)
        return out_of_step(client, "an error without a number");
    int error = (int)reply->code;
    const char *sentence = reply->message[0] ? reply->message : kvq_error_sentence(error);
    client->error_tokens = reply->tokens;
    client->error_tail_tokens = reply->tail_tokens;
    if (header->request_id == 0 || error == KVQ_PROTOCOL || error == KVQ_VERSION)
        return kvq_break(client, error, "%s", sentence);
    return kvq_fail(client, error, "%s", sentence);
}

int kvq_read_answer(struct kvq_client *client, const struct wire_header *header,
                    const ProtobufCMessageDescriptor *type, ProtobufCMessage **reply) {
    if (header->type != WIRE_REPLY && header->type != WIRE_ERROR)
        return out_of_step(client, "a frame that answers nothing");
    int error = kvq_channel_read(&client->channel, client->control, header->control_bytes);
    if (error)
        return kvq_check_channel(client, error);
    if (header->type == WIRE_ERROR)
        type = &kvq__error_reply__descriptor;
    ProtobufCMessage *message = protobuf_c_message_unpack(type, &client->arena.allocator,
                                                          header->control_bytes, client->control);
    if (!message)
        return out_of_step(client, "an answer that does not decode");
    if (header->type == WIRE_ERROR)
        return daemon_failed(client, header, (const Kvq__ErrorReply *)message);
    *reply = message;
    return KVQ_OK;
}

int kvq_await_answer(struct kvq_client *client, uint32_t request_id,
                     const ProtobufCMessageDescriptor *type, ProtobufCMessage **reply) {
    struct wire_header header = {0};
    int error = kvq_read_header(client, request_id, &header);
    return error ? error : kvq_read_answer(client, &header, type, reply);
}

int kvq_request(struct kvq_client *client, enum wire_type type, const ProtobufCMessage *message,
                const ProtobufCMessageDescriptor *reply_type, ProtobufCMessage **reply) {
    uint32_t request_id = kvq_new_request_id(client);
    int error = kvq_send_control(client, type, request_id, message);
    if (error)
        return kvq_lost_in_write(client, request_id, error);
    return kvq_await_answer(client, request_id, reply_type, reply);
}

int kvq_lost_in_write(struct kvq_client *client, uint32_t request_id, int error) {
    struct wire_header header = {0};
    ProtobufCMessage *reply;
    if (error != KVQ_CONNECTION_LOST)
        return kvq_check_channel(client, error);
    error = kvq_read_header(client, request_id, &header);
    if (!error)
        error = kvq_read_answer(client, &header, &kvq__error_reply__descriptor, &reply);
    kvq_channel_close(&client->channel);
    client->append.active = false;
    return error ? error : kvq_check_channel(client, KVQ_CONNECTION_LOST);
}

void kvq_copy_options(void *options, size_t options_bytes, const void *given, size_t given_bytes) {
    size_t common = given_bytes < options_bytes ? given_bytes : options_bytes;
    memset(options, 0, options_bytes);
    memcpy(options, given, common);
}

int kvq_check_name(struct kvq_client *client, const char *what, const char *name,
                   size_t bytes_max) {
    if (!name || !name[0])
        return kvq_fail(client, KVQ_ARGUMENT, "the %s is empty", what);
    if (strnlen(name, bytes_max + 1) > bytes_max)
        return kvq_fail(client, KVQ_ARGUMENT, "the %s is longer than %zu bytes", what, bytes_max);
    return KVQ_OK;
}

const char *kvq_lend_string(struct kvq_client *client, const ProtobufCBinaryData *bytes) {
    char *copy = wire_arena_alloc(&client->arena, bytes->len + 1);
    if (!copy)
        return "";
    if (bytes->len)
        memcpy(copy, bytes->data, bytes->len);
    return copy;
}

uint8_t *kvq_bounce(struct kvq_client *client) {
    if (!client->bounce)
        client->bounce = malloc(WIRE_PAYLOAD_BYTES_MAX);
    if (!client->bounce)
        kvq_fail(client, KVQ_NO_MEMORY, "no memory");
    return client->bounce;
}

struct kvq_loss kvq_loss_from_wire(const Kvq__Loss *wire) {
    if (!wire)
        return (struct kvq_loss){0};
    return (struct kvq_loss){wire->error, wire->energy, wire->estimated};
}

int kvq_ping(struct kvq_client *client) {
    Kvq__PingRequest request = KVQ__PING_REQUEST__INIT;
    ProtobufCMessage *reply;
    int error = kvq_begin_call(client, 0);
    return error ? error
                 : kvq_request(client, WIRE_PING, &request.base, &kvq__ping_reply__descriptor,
                               &reply);
}

const char *kvq_client_message(const struct kvq_client *client) {
    return client->message;
}

const char *kvq_client_socket(const struct kvq_client *client) {
    return client->address;
}

bool kvq_client_connected(const struct kvq_client *client) {
    return client->channel.socket >= 0;
}
