/* POLICY: how a session is kept, and what is to change of that. */
#include "daemon/rpc/messages.h"

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct store_name name;
    struct session_policy_change change;
    uint32_t code;
    const Kvq__PolicyRequest *message =
        rpc_unpack(request, &kvq__policy_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    if ((code = messages_read_name(request, &message->session, &name)) ||
        (code = messages_read_policy(request, message->policy, &change)))
        return code;
    int status = policy_change(request->context->daemon->store, name, &change, &request->state);
    if (status == STORE_INVALID)
        return messages_fail_policy(request, request->state.policy.level);
    return status == STORE_OK ? WIRE_OK : rpc_fail_store(request, status, NULL);
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct messages_policy policy;
    Kvq__PolicyReply reply = KVQ__POLICY_REPLY__INIT;
    messages_write_policy(&request->state.policy, &policy);
    reply.level = request->state.policy.level;
    reply.policy = &policy.policy;
    return rpc_reply(request, frame, &reply.base);
}

const struct rpc_operation rpc_policy = {
    .name = "policy", .effect = RPC_CHANGES, .begin = begin, .step = step};
