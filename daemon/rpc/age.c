/* AGE: a session's level becomes coarser: on disk first, if the session is there, so that it comes
 * back. With settle the reply comes when the keeper has seen to it.
 */
#include "daemon/rpc/messages.h"

static uint32_t age(struct rpc_request *request, const Kvq__AgeRequest *message) {
    struct rpc_age *age = &request->age;
    struct session_info before;
    int status = policy_age(age->session, age->level, &before);
    if (status == STORE_INVALID)
        return rpc_fail(request, WIRE_INVALID, "the session is at level %d, which is coarser",
                        before.state.policy.level);
    age->point = rpc_point_of(age->session);
    age->stored_bytes_before = before.stored_bytes;
    age->settle = message->settle;
    return status == STORE_OK ? WIRE_OK : rpc_fail_store(request, status, NULL);
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct store_name name;
    const Kvq__AgeRequest *message =
        rpc_unpack(request, &kvq__age_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    uint32_t code = messages_read_name(request, &message->session, &name);
    if (code)
        return code;
    if ((code = messages_check_level(request, message->level)) ||
        (code = messages_read_tenant(request, message->tenant, &name)))
        return code;
    request->age = (struct rpc_age){.level = message->level,
                                    .session = store_find(request->context->daemon->store, name)};
    if (!request->age.session)
        return rpc_fail(request, WIRE_MISS, NULL);
    if ((code = age(request, message)))
        session_unref(request->age.session);
    return code;
}

static enum rpc_step save_and_heed(struct rpc_request *request) {
    struct rpc_age *age = &request->age;
    if (age->heeded)
        return RPC_DONE;
    enum rpc_step status = rpc_save_step(request, age->session, age->point);
    age->heeded = status == RPC_DONE;
    if (age->heeded)
        age->ticket = policy_heed(request->context->daemon->store, age->session);
    return status;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    const struct rpc_age *age = &request->age;
    struct session_info now;
    Kvq__AgeReply reply = KVQ__AGE_REPLY__INIT;
    enum rpc_step status = save_and_heed(request);
    if (status != RPC_DONE)
        return status;
    if (age->settle &&
        !keeper_has_done(&request->context->daemon->store->keeper, age->session, age->ticket))
        return RPC_WAIT;
    if (info_read(age->session, &now) != STORE_OK) {
        rpc_fail(request, WIRE_MISS, NULL);
        return RPC_FAILED;
    }
    reply.level = age->level;
    reply.stored_bytes_before = age->stored_bytes_before;
    reply.stored_bytes = now.stored_bytes;
    return rpc_reply(request, frame, &reply.base);
}

static void end(struct rpc_request *request) {
    if (!request->age.heeded)
        (void)policy_heed(request->context->daemon->store, request->age.session);
    session_unref(request->age.session);
}

const struct rpc_operation rpc_age = {
    .name = "age", .effect = RPC_CHANGES, .begin = begin, .step = step, .end = end};
