/* What an operator changes of a daemon that runs. */
#include "client/c/client.h"

static int finish(struct kvq_client *client, const ProtobufCMessage *message) {
    const Kvq__ControlReply *reply = (const Kvq__ControlReply *)message;
    struct kvq_control *control = client->call.request.result;
    if (control)
        *control = (struct kvq_control){.state = (enum kvq_state)reply->state,
                                        .limit_bytes = reply->limit_bytes,
                                        .used_bytes = reply->used_bytes};
    return KVQ_OK;
}

int kvq_control(struct kvq_client *client, const struct kvq_control_options *options,
                struct kvq_control *control) {
    struct kvq_control_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = kvq_begin_call(client, 0);
    if (error)
        return error;
    Kvq__ControlRequest request = KVQ__CONTROL_REQUEST__INIT;
    request.state = (Kvq__State)known.state;
    request.limit_bytes = known.limit_bytes;
    return kvq_request(client, WIRE_CONTROL, true, &request.base, &kvq__control_reply__descriptor,
                       finish, control);
}
