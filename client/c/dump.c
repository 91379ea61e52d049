/* Dump and restore: a dump is a request with bytes before its answer, which a function of the
 * caller's gets; a restore one with bytes behind it. */
#include "client/c/client.h"

#include <stdlib.h>

enum { PREPARE, SEND, COMMIT, RECEIVE };
enum { FRAME_BYTES = 256 << 10, QUEUED_BYTES_FULL = 1 << 20 };

static void leave(struct kvq_client *client) {
    kvq_leave(client->connections[0], client->call.dump.request_id);
}

static int begin(struct kvq_client *client, const char *session, int64_t deadline_ms) {
    int error = kvq_begin_call(client, deadline_ms);
    if (!error)
        error = kvq_check_name(client, "session's name", session, KVQ_SESSION_BYTES_MAX);
    return error;
}

static void queue_request(struct kvq_client *client) {
    client->call.dump.request_id = kvq_queue_request(client, client->call.dump.type);
    client->call.dump.done_bytes = 0;
}

/* ---- Dump ---- */

/* Finds out where the payload of the frame at hand goes. */
static int expect_bytes(struct kvq_client *client) {
    struct kvq_connection *connection = client->connections[0];
    size_t count = connection->header.payload_bytes;
    struct wire_data data;
    if (wire_data_read(connection->control, &data) || data.part != WIRE_PART_BYTES ||
        data.first != client->call.dump.done_bytes || data.tokens != count)
        return kvq_break(client, connection, KVQ_DAEMON_PROTOCOL,
                         "%s sent bytes that do not belong to this dump; the connection is closed",
                         client->address);
    connection->channel.input[0] = (struct iovec){.iov_base = connection->bounce, .iov_len = count};
    return KVQ_OK;
}

/* Once the caller has some of it the call cannot begin anew. */
static int take_bytes(struct kvq_client *client) {
    struct kvq_dump_call *call = &client->call.dump;
    struct kvq_connection *connection = client->connections[0];
    size_t count = connection->header.payload_bytes;
    client->call.sent = true;
    client->call.safe = false;
    call->done_bytes += count;
    if (call->dump.write(call->dump.context, connection->bounce, count))
        return KVQ_OK;
    leave(client);
    return kvq_fail(client, KVQ_CANCELLED, "the dump was cancelled by its write function");
}

static int take_dump_answer(struct kvq_client *client) {
    const struct kvq_dump_call *call = &client->call.dump;
    ProtobufCMessage *message;
    int error =
        kvq_read_answer(client, client->connections[0], &kvq__dump_reply__descriptor, &message);
    if (error)
        return error;
    const Kvq__DumpReply *reply = (const Kvq__DumpReply *)message;
    if (reply->bytes != call->done_bytes)
        return kvq_impossible(client, "a dump");
    if (call->dumped)
        *call->dumped = (struct kvq_dump_result){reply->version, reply->tokens, reply->bytes};
    return KVQ_OK;
}

static int dump_step(struct kvq_client *client) {
    struct kvq_call *call = &client->call;
    struct kvq_connection *connection = client->connections[0];
    int error;
    if (call->stage == PREPARE) {
        if ((error = kvq_connection_ready(client, connection)))
            return error;
        queue_request(client);
        call->stage = SEND;
    }
    if (call->stage == SEND) {
        if ((error = kvq_send(client, connection, call->dump.request_id)))
            return error;
        call->stage = RECEIVE;
    }
    return kvq_receive_stream(client, &(struct kvq_stream){call->dump.request_id, expect_bytes,
                                                           take_bytes, take_dump_answer});
}

int kvq_dump(struct kvq_client *client, const char *session, const struct kvq_dump_options *options,
             struct kvq_dump_result *result) {
    struct kvq_dump_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = begin(client, session, known.deadline_ms);
    if (error)
        return error;
    if (!known.write)
        return kvq_fail(client, KVQ_ARGUMENT, "write: a dump has to go somewhere");
    client->call.dump = (struct kvq_dump_call){.type = WIRE_DUMP, .dump = known, .dumped = result};
    Kvq__DumpRequest request = KVQ__DUMP_REQUEST__INIT;
    request.session = kvq_text(session);
    request.if_version = known.if_version;
    if (known.tenant)
        request.tenant = (char *)known.tenant;
    return kvq_run_request(client, &request.base, true, dump_step, leave);
}

/* ---- Restore ---- */

static void queue_bytes(struct kvq_client *client) {
    struct kvq_dump_call *call = &client->call.dump;
    struct kvq_connection *connection = client->connections[0];
    const struct kvq_restore_options *options = &call->restore;
    while (call->done_bytes < options->byte_count &&
           connection->channel.out_bytes < QUEUED_BYTES_FULL &&
           kvq_channel_has_room(&connection->channel, 1)) {
        size_t left = options->byte_count - (size_t)call->done_bytes;
        size_t count = left < FRAME_BYTES ? left : FRAME_BYTES;
        struct wire_data data = {
            .first = call->done_bytes, .tokens = (uint32_t)count, .part = WIRE_PART_BYTES};
        kvq_queue_data(connection, call->request_id, &data,
                       (const char *)options->bytes + call->done_bytes, count);
        call->done_bytes += count;
    }
}

static void queue_commit(struct kvq_client *client) {
    kvq_queue_control(client->connections[0], WIRE_COMMIT, client->call.dump.request_id, NULL, 0);
    client->call.stage = COMMIT;
}

/* What comes before all is sent can only be a refusal: COMMIT ends what the daemon drops. */
static int send_bytes(struct kvq_client *client) {
    struct kvq_call *call = &client->call;
    struct kvq_connection *connection = client->connections[0];
    while (call->dump.done_bytes < call->dump.restore.byte_count) {
        queue_bytes(client);
        size_t queued_bytes = connection->channel.out_bytes;
        int error = kvq_send(client, connection, call->dump.request_id);
        if (error == KVQ_AGAIN && kvq_frame_waits(connection))
            break;
        if (error)
            return error;
        call->moved_bytes += queued_bytes;
        if (kvq_step_is_long(client))
            return KVQ_AGAIN;
    }
    queue_commit(client);
    return KVQ_OK;
}

static int take_restore_answer(struct kvq_client *client) {
    const struct kvq_dump_call *call = &client->call.dump;
    ProtobufCMessage *message;
    int error = kvq_receive_answer(client, client->connections[0], call->request_id,
                                   &kvq__restore_reply__descriptor, &message);
    if (error)
        return error;
    const Kvq__RestoreReply *reply = (const Kvq__RestoreReply *)message;
    if (call->restored)
        *call->restored =
            (struct kvq_restore_result){reply->version, reply->tokens, reply->tail_tokens};
    return KVQ_OK;
}

static int restore_step(struct kvq_client *client) {
    struct kvq_call *call = &client->call;
    struct kvq_connection *connection = client->connections[0];
    int error;
    if (call->stage == PREPARE) {
        if ((error = kvq_connection_ready(client, connection)))
            return error;
        queue_request(client);
        call->stage = SEND;
    }
    if (call->stage == SEND && (error = send_bytes(client)))
        return error;
    if (call->stage == COMMIT) {
        if ((error = kvq_send_with_data(client, connection, call->dump.request_id)))
            return error;
        call->stage = RECEIVE;
    }
    return take_restore_answer(client);
}

int kvq_restore(struct kvq_client *client, const char *session,
                const struct kvq_restore_options *options, struct kvq_restore_result *result) {
    struct kvq_restore_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = begin(client, session, known.deadline_ms);
    if (error)
        return error;
    if (known.byte_count > 0 && !known.bytes)
        return kvq_fail(client, KVQ_ARGUMENT, "bytes: there are none");
    client->call.dump =
        (struct kvq_dump_call){.type = WIRE_RESTORE, .restore = known, .restored = result};
    Kvq__RestoreRequest request = KVQ__RESTORE_REQUEST__INIT;
    request.session = kvq_text(session);
    request.replace = known.replace;
    if (known.tenant)
        request.tenant = (char *)known.tenant;
    request.wait_ms = kvq_memory_wait_ms(client, known.wait_ms);
    return kvq_run_request(client, &request.base, false, restore_step, leave);
}
