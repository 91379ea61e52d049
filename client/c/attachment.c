/* Attachments: a put is a request with its bytes behind it, a get one with bytes before its answer.
 */
#include "client/c/client.h"

#include <assert.h>
#include <stdlib.h>

static_assert((int)KVQ_ATTACHMENT_NAME_BYTES_MAX == WIRE_ATTACHMENT_NAME_BYTES_MAX &&
                  (int)KVQ_ATTACHMENT_BYTES_MAX == WIRE_ATTACHMENT_BYTES_MAX &&
                  (int)KVQ_ATTACHMENTS_MAX == WIRE_ATTACHMENTS_MAX,
              "the protocol's limits are kvq.h's");
static_assert(2 * (WIRE_ATTACHMENT_BYTES_MAX / WIRE_ATTACHMENT_PIECE_BYTES + 1) <=
                      KVQ_OUTPUT_PIECES_MAX &&
                  (WIRE_ATTACHMENT_BYTES_MAX / WIRE_ATTACHMENT_PIECE_BYTES + 2) *
                              (WIRE_HEADER_BYTES + WIRE_DATA_BYTES) +
                          KVQ_REQUEST_BYTES_MAX <=
                      KVQ_HEADS_BYTES,
              "all of one can be queued");

enum { PREPARE, SEND, RECEIVE };

void kvq_drop_attachment(struct kvq_client *client) {
    free(client->attachment);
    client->attachment = NULL;
    client->attachment_capacity = 0;
}

static int begin(struct kvq_client *client, const char *session, const char *name,
                 int64_t deadline_ms) {
    int error = kvq_begin_call(client, deadline_ms);
    if (!error)
        error = kvq_check_name(client, "session's name", session, KVQ_SESSION_BYTES_MAX);
    if (!error)
        error = kvq_check_name(client, "attachment's name", name, KVQ_ATTACHMENT_NAME_BYTES_MAX);
    return error;
}

static void leave(struct kvq_client *client) {
    kvq_leave(client->connections[0], client->call.attachment.request_id);
}

static void queue_request(struct kvq_client *client) {
    client->call.attachment.request_id = kvq_queue_request(client, client->call.attachment.type);
}

/* ---- Put ---- */

static void queue_put(struct kvq_client *client) {
    const struct kvq_attachment_call *call = &client->call.attachment;
    queue_request(client);
    for (size_t offset = 0; offset < call->byte_count; offset += WIRE_ATTACHMENT_PIECE_BYTES) {
        size_t left = call->byte_count - offset;
        size_t count = left < WIRE_ATTACHMENT_PIECE_BYTES ? left : WIRE_ATTACHMENT_PIECE_BYTES;
        struct wire_data data = {
            .first = offset, .tokens = (uint32_t)count, .part = WIRE_PART_BYTES};
        kvq_queue_data(client->connections[0], call->request_id, &data, call->bytes + offset,
                       count);
    }
    kvq_queue_control(client->connections[0], WIRE_COMMIT, call->request_id, NULL, 0);
}

static int take_put_answer(struct kvq_client *client) {
    const struct kvq_attachment_call *call = &client->call.attachment;
    ProtobufCMessage *message;
    int error = kvq_receive_answer(client, client->connections[0], call->request_id,
                                   &kvq__attach_put_reply__descriptor, &message);
    if (error)
        return error;
    const Kvq__AttachPutReply *reply = (const Kvq__AttachPutReply *)message;
    if (call->result)
        *call->result = (struct kvq_attachment_result){reply->version, reply->stored_bytes};
    return KVQ_OK;
}

static int put_step(struct kvq_client *client) {
    struct kvq_call *call = &client->call;
    int error = KVQ_OK;
    if (call->stage == PREPARE) {
        if ((error = kvq_connection_ready(client, client->connections[0])))
            return error;
        queue_put(client);
        call->stage = SEND;
    }
    if (call->stage == SEND) {
        if ((error =
                 kvq_send_with_data(client, client->connections[0], call->attachment.request_id)))
            return error;
        call->stage = RECEIVE;
    }
    return take_put_answer(client);
}

int kvq_attachment_put(struct kvq_client *client, const char *session,
                       const struct kvq_attachment_put_options *options,
                       struct kvq_attachment_result *result) {
    struct kvq_attachment_put_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = begin(client, session, known.name, known.deadline_ms);
    if (error)
        return error;
    if (known.byte_count > KVQ_ATTACHMENT_BYTES_MAX || (known.byte_count > 0 && !known.bytes))
        return kvq_fail(client, KVQ_ARGUMENT, "an attachment has at most %d bytes",
                        KVQ_ATTACHMENT_BYTES_MAX);
    client->call.attachment = (struct kvq_attachment_call){.type = WIRE_ATTACH_PUT,
                                                           .bytes = known.bytes,
                                                           .byte_count = known.byte_count,
                                                           .result = result};
    Kvq__AttachPutRequest request = KVQ__ATTACH_PUT_REQUEST__INIT;
    request.session = kvq_text(session);
    request.name = kvq_text(known.name);
    request.bytes = known.byte_count;
    request.if_version = known.if_version;
    request.wait_ms = kvq_memory_wait_ms(client, known.wait_ms);
    return kvq_run_request(client, &request.base, false, put_step, leave);
}

/* ---- Get ---- */

int kvq_provide(struct kvq_client *client, size_t bytes) {
    size_t capacity = 2 * client->attachment_capacity;
    if (bytes <= client->attachment_capacity)
        return KVQ_OK;
    if (capacity < bytes)
        capacity = bytes;
    char *grown = realloc(client->attachment, capacity);
    if (!grown)
        return kvq_break(client, client->connections[0], KVQ_NO_MEMORY,
                         "no memory for so many bytes; the connection is closed");
    client->attachment = grown;
    client->attachment_capacity = capacity;
    return KVQ_OK;
}

/* Finds out where the payload of the frame at hand goes. */
static int expect_piece(struct kvq_client *client) {
    struct kvq_attachment_call *call = &client->call.attachment;
    struct kvq_connection *connection = client->connections[0];
    size_t count = connection->header.payload_bytes;
    struct wire_data data;
    if (wire_data_read(connection->control, &data) || data.part != WIRE_PART_BYTES ||
        data.first != call->byte_count || data.tokens != count ||
        count > KVQ_ATTACHMENT_BYTES_MAX - call->byte_count)
        return kvq_break(client, connection, KVQ_DAEMON_PROTOCOL,
                         "%s sent bytes that do not belong to this attachment; the connection is "
                         "closed",
                         client->address);
    int error = kvq_provide(client, call->byte_count + count);
    if (error)
        return error;
    connection->channel.input[0] =
        (struct iovec){.iov_base = client->attachment + call->byte_count, .iov_len = count};
    return KVQ_OK;
}

static int take_piece(struct kvq_client *client) {
    client->call.attachment.byte_count += client->connections[0]->header.payload_bytes;
    return KVQ_OK;
}

static int take_get_answer(struct kvq_client *client) {
    const struct kvq_attachment_call *call = &client->call.attachment;
    ProtobufCMessage *message;
    int error = kvq_read_answer(client, client->connections[0], &kvq__attach_get_reply__descriptor,
                                &message);
    if (error)
        return error;
    const Kvq__AttachGetReply *reply = (const Kvq__AttachGetReply *)message;
    if (reply->bytes != call->byte_count)
        return kvq_impossible(client, "an attachment");
    *call->got = (struct kvq_attachment){.bytes = client->attachment ? client->attachment : "",
                                         .byte_count = call->byte_count,
                                         .version = reply->version,
                                         .tokens = reply->tokens};
    return KVQ_OK;
}

static int get_step(struct kvq_client *client) {
    struct kvq_call *call = &client->call;
    int error;
    if (call->stage == PREPARE) {
        if ((error = kvq_connection_ready(client, client->connections[0])))
            return error;
        call->attachment.byte_count = 0;
        queue_request(client);
        call->stage = SEND;
    }
    if (call->stage == SEND) {
        if ((error = kvq_send(client, client->connections[0], call->attachment.request_id)))
            return error;
        call->stage = RECEIVE;
    }
    return kvq_receive_stream(client,
                              &(struct kvq_stream){call->attachment.request_id, expect_piece,
                                                   take_piece, take_get_answer});
}

int kvq_attachment_get(struct kvq_client *client, const char *session,
                       const struct kvq_attachment_options *options,
                       struct kvq_attachment *attachment) {
    struct kvq_attachment_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = begin(client, session, known.name, known.deadline_ms);
    if (error)
        return error;
    client->call.attachment =
        (struct kvq_attachment_call){.type = WIRE_ATTACH_GET, .got = attachment};
    Kvq__AttachGetRequest request = KVQ__ATTACH_GET_REQUEST__INIT;
    request.session = kvq_text(session);
    request.name = kvq_text(known.name);
    request.if_version = known.if_version;
    return kvq_run_request(client, &request.base, true, get_step, leave);
}

/* ---- Delete, list ---- */

static int finish_delete(struct kvq_client *client, const ProtobufCMessage *message) {
    const Kvq__AttachDeleteReply *reply = (const Kvq__AttachDeleteReply *)message;
    struct kvq_attachment_result *result = client->call.request.result;
    if (result)
        *result = (struct kvq_attachment_result){reply->version, reply->freed_bytes};
    return KVQ_OK;
}

int kvq_attachment_delete(struct kvq_client *client, const char *session,
                          const struct kvq_attachment_options *options,
                          struct kvq_attachment_result *result) {
    struct kvq_attachment_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = begin(client, session, known.name, known.deadline_ms);
    if (error)
        return error;
    Kvq__AttachDeleteRequest request = KVQ__ATTACH_DELETE_REQUEST__INIT;
    request.session = kvq_text(session);
    request.name = kvq_text(known.name);
    request.if_version = known.if_version;
    return kvq_request(client, WIRE_ATTACH_DELETE, false, &request.base,
                       &kvq__attach_delete_reply__descriptor, finish_delete, result);
}

static int finish_list(struct kvq_client *client, const ProtobufCMessage *message) {
    const Kvq__AttachListReply *reply = (const Kvq__AttachListReply *)message;
    size_t count = reply->n_attachments;
    struct kvq_attachment_info *infos =
        wire_arena_alloc(&client->arena, (count + 1) * sizeof *infos);
    if (!infos)
        return kvq_fail(client, KVQ_NO_MEMORY,
                        "the daemon's answer takes more memory than is set aside");
    for (size_t i = 0; i < count; i++)
        infos[i] = (struct kvq_attachment_info){
            .name = kvq_lend_string(client, &reply->attachments[i]->name),
            .bytes = reply->attachments[i]->bytes,
            .stored_bytes = reply->attachments[i]->stored_bytes,
            .tokens = reply->attachments[i]->tokens,
        };
    *(struct kvq_attachment_list *)client->call.request.result =
        (struct kvq_attachment_list){infos, count, reply->version};
    return KVQ_OK;
}

int kvq_attachment_list(struct kvq_client *client, const char *session,
                        struct kvq_attachment_list *list) {
    int error = kvq_begin_call(client, 0);
    if (!error)
        error = kvq_check_name(client, "session's name", session, KVQ_SESSION_BYTES_MAX);
    if (error)
        return error;
    Kvq__AttachListRequest request = KVQ__ATTACH_LIST_REQUEST__INIT;
    request.session = kvq_text(session);
    return kvq_request(client, WIRE_ATTACH_LIST, true, &request.base,
                       &kvq__attach_list_reply__descriptor, finish_list, list);
}
