/* TRUNCATE: only a session's first tokens stay; the reply comes when what the others held is free
 * and, where the session is on disk, they would not come back from there.
 */
#include "daemon/rpc/messages.h"

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct store *store = request->context->daemon->store;
    struct truncate_request truncate = {0};
    const Kvq__TruncateRequest *message =
        rpc_unpack(request, &kvq__truncate_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    uint32_t code = messages_read_name(request, &message->session, &truncate.session);
    if (code)
        return code;
    truncate.tokens = message->tokens;
    truncate.if_version = message->if_version;
    request->discard = (struct rpc_discard){0};
    int status =
        store_truncate(store, &truncate, &request->discard.state, &request->discard.discard);
    if (status == STORE_BUSY)
        return rpc_fail(request, WIRE_BUSY, "an append to the session is under way");
    if (status != STORE_OK)
        return rpc_fail_store(request, status, NULL);
    request->discard.session = store_find(store, truncate.session);
    request->irrevocable = true;
    rpc_changed(request);
    return WIRE_OK;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    const struct session_state *state = &request->discard.state;
    Kvq__TruncateReply reply = KVQ__TRUNCATE_REPLY__INIT;
    enum rpc_step status = rpc_discard_step(request);
    if (status == RPC_DONE && request->discard.session)
        status = rpc_save_step(request, request->discard.session,
                               (struct session_point){state->version, 0});
    if (status != RPC_DONE)
        return status;
    reply.version = state->version;
    reply.tokens = state->tokens;
    reply.tail_tokens = state->tail_tokens;
    return rpc_reply(request, frame, &reply.base);
}

static void end(struct rpc_request *request) {
    if (request->discard.session)
        session_unref(request->discard.session);
    rpc_discard_end(request);
}

const struct rpc_operation rpc_truncate = {
    .name = "truncate", .effect = RPC_CHANGES, .begin = begin, .step = step, .end = end};
