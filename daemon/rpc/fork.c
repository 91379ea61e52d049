/* FORK: a new session that shares a session's first tokens. */
#include "daemon/rpc/messages.h"

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct fork_request fork = {0};
    uint32_t code;
    const Kvq__ForkRequest *message =
        rpc_unpack(request, &kvq__fork_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    if ((code = messages_read_name(request, &message->session, &fork.session)) ||
        (code = messages_read_name(request, &message->target, &fork.target)))
        return code;
    fork.tokens = message->tokens;
    fork.if_version = message->if_version;
    int status = store_fork(request->context->daemon->store, &fork, &request->state);
    if (status != STORE_OK)
        return rpc_fail_store(request, status, NULL);
    request->irrevocable = true;
    rpc_changed(request);
    return WIRE_OK;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    Kvq__ForkReply reply = KVQ__FORK_REPLY__INIT;
    reply.version = request->state.version;
    reply.tokens = request->state.tokens;
    reply.tail_tokens = request->state.tail_tokens;
    return rpc_reply(request, frame, &reply.base);
}

const struct rpc_operation rpc_fork = {
    .name = "fork", .effect = RPC_ADDS, .begin = begin, .step = step};
