/* INFO: what a session takes and how true it is. */
#include "daemon/rpc/messages.h"

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct store_name name;
    const Kvq__InfoRequest *message =
        rpc_unpack(request, &kvq__info_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    uint32_t code = messages_read_name(request, &message->session, &name);
    if (code)
        return code;
    request->session = store_find(request->context->daemon->store, name);
    return request->session ? WIRE_OK : rpc_fail(request, WIRE_MISS, NULL);
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct session_info info;
    if (info_read(request->session, &info) != STORE_OK) {
        rpc_fail(request, WIRE_MISS, NULL);
        return RPC_FAILED;
    }
    wire_arena_reset(&request->context->arena);
    const Kvq__SessionInfo *message =
        messages_write_info(&request->context->arena, request->session, &info, true);
    if (!message) {
        rpc_fail(request, WIRE_INTERNAL, NULL);
        return RPC_FAILED;
    }
    return rpc_reply(request, frame, &message->base);
}

static void end(struct rpc_request *request) {
    session_unref(request->session);
}

const struct rpc_operation rpc_info = {.name = "info", .begin = begin, .step = step, .end = end};
