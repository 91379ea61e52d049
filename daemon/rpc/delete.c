/* DELETE: no fetch that begins or goes on behind it finds a byte of the session; the reply comes
 * when what it held is free, and deleted on disk. */
#include "daemon/rpc/messages.h"

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct store_name name;
    const Kvq__DeleteRequest *message =
        rpc_unpack(request, &kvq__delete_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    uint32_t code = messages_read_name(request, &message->session, &name);
    if (code)
        return code;
    request->discard = (struct rpc_discard){0};
    int status = store_delete(request->context->daemon->store, name, &request->discard.discard);
    if (status != STORE_OK)
        return rpc_fail_store(request, status, NULL);
    request->irrevocable = true;
    rpc_changed(request);
    return WIRE_OK;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    Kvq__DeleteReply reply = KVQ__DELETE_REPLY__INIT;
    enum rpc_step status = rpc_discard_step(request);
    if (status != RPC_DONE)
        return status;
    reply.freed_bytes = request->discard.freed_bytes;
    return rpc_reply(request, frame, &reply.base);
}

const struct rpc_operation rpc_delete = {
    .name = "delete", .effect = RPC_CHANGES, .begin = begin, .step = step, .end = rpc_discard_end};
