/* POLICY: how a session is kept, and what is to change of that; on disk before the reply if the
 * session wants to be there. */
#include "daemon/rpc/messages.h"

static uint32_t change_policy(struct rpc_request *request,
                              const struct session_policy_change *change) {
    struct rpc_keeping *keeping = &request->keeping;
    struct store *store = request->context->daemon->store;
    int status = policy_change(store, keeping->session, change, &keeping->state);
    if (status == STORE_INVALID)
        return messages_fail_policy(request, keeping->state.policy.level);
    if (status != STORE_OK)
        return rpc_fail_store(request, status, NULL);
    keeping->point = rpc_point_of(keeping->session);
    keeping->changes = session_policy_changes(change);
    request->irrevocable = true;
    return WIRE_OK;
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct rpc_keeping *keeping = &request->keeping;
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
    *keeping = (struct rpc_keeping){.session = store_find(request->context->daemon->store, name)};
    if (!keeping->session)
        return rpc_fail(request, WIRE_MISS, NULL);
    if ((code = change_policy(request, &change)))
        session_unref(keeping->session);
    return code;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    const struct rpc_keeping *keeping = &request->keeping;
    struct messages_policy policy;
    Kvq__PolicyReply reply = KVQ__POLICY_REPLY__INIT;
    enum rpc_step status = rpc_save_step(request, keeping->session, keeping->point);
    if (status != RPC_DONE)
        return status;
    messages_write_policy(&keeping->state.policy, &policy);
    reply.level = keeping->state.policy.level;
    reply.policy = &policy.policy;
    return rpc_reply(request, frame, &reply.base);
}

/* Saved or not, since the client may be gone: what is owed is not heeded before it is. */
static void end(struct rpc_request *request) {
    if (request->keeping.changes)
        (void)policy_heed(request->context->daemon->store, request->keeping.session);
    session_unref(request->keeping.session);
}

const struct rpc_operation rpc_policy = {
    .name = "policy", .effect = RPC_CHANGES, .begin = begin, .step = step, .end = end};
