/* FORK: a new session that shares a session's first tokens; on disk before the reply if that one
 * wants to be. */
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
    struct store *store = request->context->daemon->store;
    int status = store_fork(store, &fork, &request->fork.state);
    if (status == STORE_WAIT)
        return RPC_LATER;
    if (status == STORE_BUSY)
        return rpc_fail_name(request);
    if (status != STORE_OK)
        return rpc_fail_store(request, status, NULL);
    request->fork.session = store_find(store, fork.target);
    request->irrevocable = true;
    rpc_changed(request);
    return WIRE_OK;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    const struct session_state *state = &request->fork.state;
    Kvq__ForkReply reply = KVQ__FORK_REPLY__INIT;
    enum rpc_step status = RPC_DONE;
    if (request->fork.session)
        status = rpc_save_step(request, request->fork.session,
                               (struct session_point){state->version, 0});
    if (status != RPC_DONE)
        return status;
    reply.version = state->version;
    reply.tokens = state->tokens;
    reply.tail_tokens = state->tail_tokens;
    return rpc_reply(request, frame, &reply.base);
}

static void end(struct rpc_request *request) {
    if (request->fork.session)
        session_unref(request->fork.session);
}

const struct rpc_operation rpc_fork = {
    .name = "fork", .effect = RPC_ADDS, .begin = begin, .step = step, .end = end};
