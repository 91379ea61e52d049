/* Requests that are answered by one frame. */
#include "client/c/client.h"

enum { PREPARE, SEND, RECEIVE };

static int queue(struct kvq_client *client, struct kvq_connection *connection) {
    const struct kvq_request *request = &client->call.request;
    if (request->large)
        return kvq_queue_with_ids(client, connection,
                                  &(struct kvq_ids_request){.type = request->type,
                                                            .request_id = request->request_id,
                                                            .message = request->large});
    kvq_queue_control(connection, request->type, request->request_id, request->control,
                      request->control_bytes);
    return KVQ_OK;
}

static int step(struct kvq_client *client) {
    struct kvq_call *call = &client->call;
    struct kvq_request *request = &call->request;
    struct kvq_connection *connection = client->connections[0];
    int error;
    if (call->stage == PREPARE) {
        if ((error = kvq_connection_ready(client, connection)))
            return error;
        request->request_id = kvq_new_request_id(client);
        if ((error = queue(client, connection)))
            return error;
        call->stage = SEND;
    }
    if (call->stage == SEND) {
        if ((error = kvq_send(client, connection, request->request_id)))
            return error;
        call->sent = true;
        call->stage = RECEIVE;
    }
    ProtobufCMessage *reply;
    error =
        kvq_receive_answer(client, connection, request->request_id, request->reply_type, &reply);
    return error || !request->finish ? error : request->finish(client, reply);
}

static void leave(struct kvq_client *client) {
    kvq_leave(client->connections[0], client->call.request.request_id);
}

int kvq_request(struct kvq_client *client, enum wire_type type, bool safe,
                const ProtobufCMessage *message, const ProtobufCMessageDescriptor *reply_type,
                int (*finish)(struct kvq_client *client, const ProtobufCMessage *reply),
                void *result) {
    struct kvq_request *request = &client->call.request;
    size_t control_bytes = protobuf_c_message_get_packed_size(message);
    request->large = control_bytes > sizeof request->control ? message : NULL;
    if (!request->large)
        protobuf_c_message_pack(message, request->control);
    request->type = type;
    request->request_id = 0;
    request->control_bytes = control_bytes;
    request->reply_type = reply_type;
    request->finish = finish;
    request->result = result;
    client->call.safe = safe;
    client->call.stage = PREPARE;
    return kvq_run_call(client, step, leave);
}

int kvq_run_request(struct kvq_client *client, const ProtobufCMessage *message, bool safe,
                    int (*step)(struct kvq_client *client),
                    void (*give_up)(struct kvq_client *client)) {
    struct kvq_request *request = &client->call.request;
    request->control_bytes = protobuf_c_message_pack(message, request->control);
    client->call.safe = safe;
    client->call.stage = PREPARE;
    return kvq_run_call(client, step, give_up);
}

uint32_t kvq_queue_request(struct kvq_client *client, enum wire_type type) {
    const struct kvq_request *request = &client->call.request;
    uint32_t id = kvq_new_request_id(client);
    kvq_queue_control(client->connections[0], type, id, request->control, request->control_bytes);
    return id;
}

int kvq_impossible(struct kvq_client *client, const char *what) {
    return kvq_break(client, client->connections[0], KVQ_DAEMON_PROTOCOL,
                     "%s reports %s that cannot be; the connection is closed", client->address,
                     what);
}

int kvq_ping(struct kvq_client *client) {
    Kvq__PingRequest request = KVQ__PING_REQUEST__INIT;
    int error = kvq_begin_call(client, 0);
    return error ? error
                 : kvq_request(client, WIRE_PING, true, &request.base, &kvq__ping_reply__descriptor,
                               NULL, NULL);
}
