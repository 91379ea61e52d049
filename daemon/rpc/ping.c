/* PING: are you there? */
#include "daemon/rpc/messages.h"

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    return rpc_unpack(request, &kvq__ping_request__descriptor, control, control_bytes)
               ? WIRE_OK
               : request->fault.code;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    Kvq__PingReply reply = KVQ__PING_REPLY__INIT;
    return rpc_reply(request, frame, &reply.base);
}

const struct rpc_operation rpc_ping = {.name = "ping", .begin = begin, .step = step};
