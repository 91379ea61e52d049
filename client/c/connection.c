#include "client/c/client.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kvq_connection *kvq_connection_new(void) {
    struct kvq_connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return NULL;
    kvq_channel_init(&connection->channel);
    connection->watched_events = -1;
    connection->control = malloc(WIRE_CONTROL_BYTES_MAX);
    connection->bounce = malloc(WIRE_PAYLOAD_BYTES_MAX);
    if (connection->control && connection->bounce)
        return connection;
    kvq_connection_free(connection);
    return NULL;
}

void kvq_connection_free(struct kvq_connection *connection) {
    if (!connection)
        return;
    kvq_channel_close(&connection->channel);
    free(connection->control);
    free(connection->bounce);
    free(connection);
}

void kvq_connection_close(struct kvq_connection *connection) {
    kvq_channel_close(&connection->channel);
    connection->state = KVQ_GONE;
    connection->stage = KVQ_BETWEEN_FRAMES;
    connection->watched_events = -1;
    connection->abandoned_count = 0;
    connection->has_left_append = false;
}

int kvq_break(struct kvq_client *client, struct kvq_connection *connection, int error,
              const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(client->message, sizeof client->message, format, arguments);
    va_end(arguments);
    kvq_connection_close(connection);
    return error;
}

/* Of a record of TLS, which is no frame: an alert, in most cases. */
static bool is_answered_by_tls(const struct kvq_connection *connection) {
    const uint8_t *header = connection->header_bytes;
    size_t got = connection->stage == KVQ_HEADER
                     ? WIRE_HEADER_BYTES - kvq_channel_missing_bytes(&connection->channel)
                     : 0;
    return !connection->channel.tls && got >= 2 && header[0] >= 0x14 && header[0] <= 0x17 &&
           header[1] == 3;
}

static int speaks_tls(struct kvq_client *client, struct kvq_connection *connection) {
    return kvq_break(client, connection, KVQ_CANNOT_CONNECT,
                     "cannot connect to %s: it speaks TLS, for which tls_ca (--tls-ca, "
                     "$KVQ_TLS_CA) is needed",
                     client->address);
}

int kvq_lost(struct kvq_client *client, struct kvq_connection *connection) {
    int error = KVQ_CONNECTION_LOST;
    const char *why =
        connection->channel.tls ? kvq_tls_stream_failure(connection->channel.tls, &error) : "";
    if (is_answered_by_tls(connection))
        return speaks_tls(client, connection);
    if (connection->state == KVQ_SECURING && !why[0])
        return kvq_break(client, connection, KVQ_CANNOT_CONNECT,
                         "cannot connect to %s: it hung up instead of speaking TLS",
                         client->address);
    if (why[0] && connection->state != KVQ_READY)
        return kvq_break(client, connection, error, "cannot connect to %s: %s", client->address,
                         why);
    if (!connection->channel.tls && client->host[0] && connection->state == KVQ_GREETING)
        why = "it said nothing; if it speaks TLS, tls_ca (--tls-ca, $KVQ_TLS_CA) is needed";
    return kvq_break(client, connection, KVQ_CONNECTION_LOST, "the connection to %s broke%s%s",
                     client->address, why[0] ? ": " : "", why);
}

static int out_of_step(struct kvq_client *client, struct kvq_connection *connection,
                       const char *what) {
    return kvq_break(client, connection, KVQ_DAEMON_PROTOCOL,
                     "%s sent %s; the connection is closed", client->address, what);
}

/* ---- Sending ---- */

void kvq_queue_control(struct kvq_connection *connection, enum wire_type type, uint32_t request_id,
                       const uint8_t *control, size_t control_bytes) {
    struct wire_header header = {
        .type = (uint8_t)type,
        .request_id = request_id,
        .control_bytes = (uint32_t)control_bytes,
    };
    uint8_t *head = kvq_channel_queue_head(&connection->channel, WIRE_HEADER_BYTES + control_bytes);
    if (!head) /* only where a daemon reads nothing while call after call is given up */
        return kvq_connection_close(connection);
    wire_header_write(head, &header);
    if (control_bytes > 0)
        memcpy(head + WIRE_HEADER_BYTES, control, control_bytes);
}

void kvq_queue_data_head(struct kvq_connection *connection, uint32_t request_id,
                         const struct wire_data *data, size_t payload_bytes) {
    struct wire_header header = {.type = WIRE_DATA,
                                 .request_id = request_id,
                                 .control_bytes = WIRE_DATA_BYTES,
                                 .payload_bytes = (uint32_t)payload_bytes};
    uint8_t *head =
        kvq_channel_queue_head(&connection->channel, WIRE_HEADER_BYTES + WIRE_DATA_BYTES);
    wire_header_write(head, &header);
    wire_data_write(head + WIRE_HEADER_BYTES, data);
}

void kvq_queue_data(struct kvq_connection *connection, uint32_t request_id,
                    const struct wire_data *data, const void *payload, size_t payload_bytes) {
    kvq_queue_data_head(connection, request_id, data, payload_bytes);
    *kvq_channel_output_end(&connection->channel) =
        (struct iovec){.iov_base = (void *)payload, .iov_len = payload_bytes};
    kvq_channel_queue(&connection->channel, 1);
}

/* Nobody reads any more: the daemon may have said why before it closed. Where this call had not
 * sent anything yet, it does not concern it. */
static int lost_in_send(struct kvq_client *client, struct kvq_connection *connection,
                        uint32_t request_id) {
    ProtobufCMessage *reply;
    if (!connection->channel.started)
        return kvq_lost(client, connection);
    int error = kvq_receive(client, connection, request_id);
    if (!error)
        error = kvq_read_answer(client, connection, &kvq__error_reply__descriptor, &reply);
    if (!error || error == KVQ_AGAIN)
        return kvq_lost(client, connection);
    kvq_connection_close(connection);
    return error;
}

int kvq_send(struct kvq_client *client, struct kvq_connection *connection, uint32_t request_id) {
    int error = kvq_channel_send(&connection->channel);
    if (error == KVQ_CONNECTION_LOST)
        return lost_in_send(client, connection, request_id);
    if (error == KVQ_AGAIN)
        error = kvq_receive(client, connection, request_id);
    else
        return error;
    return error ? error : KVQ_AGAIN;
}

int kvq_send_with_data(struct kvq_client *client, struct kvq_connection *connection,
                       uint32_t request_id) {
    int error = kvq_send(client, connection, request_id);
    if (!error)
        client->call.sent = true;
    return error == KVQ_AGAIN && kvq_frame_waits(connection) ? KVQ_OK : error;
}

/* ---- Receiving ---- */

static size_t find_abandoned(const struct kvq_connection *connection, uint32_t request_id) {
    size_t i = 0;
    while (i < connection->abandoned_count && connection->abandoned[i] != request_id)
        i++;
    return i;
}

static bool is_abandoned(const struct kvq_connection *connection) {
    return find_abandoned(connection, connection->header.request_id) < connection->abandoned_count;
}

static bool is_closing(const struct wire_header *header) {
    return header->type == WIRE_REPLY || header->type == WIRE_ERROR;
}

static int take_header(struct kvq_client *client, struct kvq_connection *connection,
                       uint32_t request_id) {
    struct wire_header *header = &connection->header;
    if (is_answered_by_tls(connection))
        return speaks_tls(client, connection);
    if (wire_header_read(connection->header_bytes, header))
        return out_of_step(client, connection, "bytes that are not a frame of this protocol");
    bool ends_connection = header->type == WIRE_ERROR && header->request_id == 0;
    bool expected = request_id != 0 && header->request_id == request_id;
    if (!expected && !ends_connection && !is_abandoned(connection))
        return out_of_step(client, connection, "an answer to nothing that was asked");
    kvq_channel_expect(&connection->channel, connection->control, header->control_bytes);
    connection->stage = KVQ_CONTROL;
    return KVQ_OK;
}

/* Into the control message that came before them, again and again: the bounce buffer may hold what
 * is still to be sent. */
static void drop_bytes(struct kvq_connection *connection, size_t bytes) {
    struct iovec *input = connection->channel.input;
    size_t count = 0;
    for (; bytes > 0; count++) {
        size_t piece = bytes < WIRE_CONTROL_BYTES_MAX ? bytes : WIRE_CONTROL_BYTES_MAX;
        input[count] = (struct iovec){.iov_base = connection->control, .iov_len = piece};
        bytes -= piece;
    }
    kvq_channel_expect_payload(&connection->channel, count);
    connection->stage = KVQ_DROPPING;
}

/* A frame that nobody waits for: its payload is read over. */
static void drop_frame(struct kvq_connection *connection) {
    const struct wire_header *header = &connection->header;
    size_t i = find_abandoned(connection, header->request_id);
    if (is_closing(header))
        connection->abandoned[i] = connection->abandoned[--connection->abandoned_count];
    drop_bytes(connection, header->payload_bytes);
}

/* One stage of the frame at hand, which is not complete. */
static int receive_stage(struct kvq_client *client, struct kvq_connection *connection,
                         uint32_t request_id) {
    if (connection->stage == KVQ_BETWEEN_FRAMES) {
        kvq_channel_expect(&connection->channel, connection->header_bytes, WIRE_HEADER_BYTES);
        connection->stage = KVQ_HEADER;
    }
    int error = kvq_channel_fill(&connection->channel);
    if (error == KVQ_CONNECTION_LOST)
        return kvq_lost(client, connection);
    if (error)
        return error;
    if (connection->stage == KVQ_HEADER)
        return take_header(client, connection, request_id);
    connection->stage = connection->stage == KVQ_CONTROL ? KVQ_FRAME : KVQ_BETWEEN_FRAMES;
    if (connection->stage == KVQ_FRAME && is_abandoned(connection))
        drop_frame(connection);
    return KVQ_OK;
}

int kvq_receive(struct kvq_client *client, struct kvq_connection *connection, uint32_t request_id) {
    int error = KVQ_OK;
    while (!error && connection->stage != KVQ_FRAME)
        error = receive_stage(client, connection, request_id);
    return error;
}

bool kvq_frame_waits(const struct kvq_connection *connection) {
    return connection->stage == KVQ_FRAME;
}

int kvq_receive_payload(struct kvq_client *client, struct kvq_connection *connection) {
    int error = kvq_channel_fill(&connection->channel);
    if (!error)
        connection->stage = KVQ_BETWEEN_FRAMES;
    return error == KVQ_CONNECTION_LOST ? kvq_lost(client, connection) : error;
}

static int daemon_failed(struct kvq_client *client, struct kvq_connection *connection,
                         const Kvq__ErrorReply *reply) {
    if (reply->code == 0 || reply->code >= KVQ_NO_MEMORY)
        return out_of_step(client, connection, "an error without a number");
    int error = (int)reply->code;
    const char *sentence = reply->message[0] ? reply->message : kvq_error_sentence(error);
    client->error_tokens = reply->tokens;
    client->error_tail_tokens = reply->tail_tokens;
    if (connection->header.request_id == 0 || error == KVQ_PROTOCOL || error == KVQ_VERSION ||
        error == KVQ_UNAUTHENTICATED)
        return kvq_break(client, connection, error, "%s", sentence);
    return kvq_fail(client, error, "%s", sentence);
}

int kvq_read_answer(struct kvq_client *client, struct kvq_connection *connection,
                    const ProtobufCMessageDescriptor *type, ProtobufCMessage **reply) {
    const struct wire_header *header = &connection->header;
    if (!is_closing(header))
        return out_of_step(client, connection, "a frame that answers nothing");
    connection->stage = KVQ_BETWEEN_FRAMES;
    if (header->type == WIRE_ERROR)
        type = &kvq__error_reply__descriptor;
    ProtobufCMessage *message = protobuf_c_message_unpack(
        type, &client->arena.allocator, header->control_bytes, connection->control);
    if (!message)
        return out_of_step(client, connection, "an answer that does not decode");
    if (header->type == WIRE_ERROR)
        return daemon_failed(client, connection, (const Kvq__ErrorReply *)message);
    *reply = message;
    return KVQ_OK;
}

int kvq_receive_answer(struct kvq_client *client, struct kvq_connection *connection,
                       uint32_t request_id, const ProtobufCMessageDescriptor *type,
                       ProtobufCMessage **reply) {
    int error = kvq_receive(client, connection, request_id);
    if (!error)
        error = kvq_read_answer(client, connection, type, reply);
    if (error != KVQ_AGAIN && connection->state == KVQ_READY)
        kvq_channel_disown_output(&connection->channel, connection->bounce);
    return error;
}

/* ---- Giving up ---- */

/* Whether anything may still come of the request. */
static bool abandon(struct kvq_connection *connection, uint32_t request_id) {
    bool at_hand = connection->header.request_id == request_id;
    if (connection->stage == KVQ_FRAME && at_hand && is_closing(&connection->header)) {
        connection->stage = KVQ_BETWEEN_FRAMES;
        return false;
    }
    if (connection->stage == KVQ_PAYLOAD) {
        drop_bytes(connection, kvq_channel_missing_bytes(&connection->channel));
    }
    connection->abandoned[connection->abandoned_count++] = request_id;
    if (connection->stage == KVQ_FRAME && at_hand)
        drop_frame(connection);
    return true;
}

void kvq_leave(struct kvq_connection *connection, uint32_t request_id) {
    bool sent = request_id != 0 && connection->channel.started;
    if (connection->state != KVQ_READY || connection->abandoned_count == KVQ_ABANDONED_MAX)
        return kvq_connection_close(connection);
    kvq_channel_disown_output(&connection->channel, connection->bounce);
    if (!sent || !abandon(connection, request_id))
        return;
    kvq_queue_control(connection, WIRE_CANCEL, request_id, NULL, 0);
    if (kvq_channel_send(&connection->channel) == KVQ_CONNECTION_LOST)
        kvq_connection_close(connection);
}

int kvq_forget(struct kvq_client *client, struct kvq_connection *connection) {
    int error = kvq_send(client, connection, 0);
    while (!error && connection->abandoned_count > 0)
        error = receive_stage(client, connection, 0);
    return error;
}

bool kvq_connection_can_go_on(const struct kvq_connection *connection) {
    return connection->busy && connection->stage != KVQ_FRAME &&
           kvq_channel_has_decrypted(&connection->channel);
}

short kvq_connection_events(const struct kvq_connection *connection) {
    if (!connection->busy || connection->state == KVQ_GONE)
        return 0;
    if (connection->state == KVQ_CONNECTING)
        return connection->retry_ns ? 0 : POLLOUT;
    short events = connection->stage == KVQ_FRAME ? 0 : POLLIN;
    return kvq_channel_drained(&connection->channel) ? events : events | POLLOUT;
}
