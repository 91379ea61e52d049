/* ATTACH_DELETE: the reply comes when an attachment is gone, and would not come back from disk. */
#include "daemon/rpc/messages.h"

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct store *store = request->context->daemon->store;
    struct rpc_detach *detach = &request->detach;
    struct attachment_key key;
    const Kvq__AttachDeleteRequest *message =
        rpc_unpack(request, &kvq__attach_delete_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    struct messages_attachment wanted = {&message->session, &message->name, message->if_version};
    uint32_t code = messages_read_attachment(request, &wanted, &key);
    if (code)
        return code;
    *detach = (struct rpc_detach){.session = store_find(store, key.session)};
    if (!detach->session)
        return rpc_fail(request, WIRE_MISS, NULL);
    int status = attachment_delete(store, detach->session, &key, &detach->result);
    if (status != STORE_OK) {
        session_unref(detach->session);
        return status == STORE_MISS ? messages_fail_attachment(request, true)
                                    : rpc_fail_store(request, status, NULL);
    }
    request->irrevocable = true;
    rpc_changed(request);
    return WIRE_OK;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    const struct rpc_detach *detach = &request->detach;
    Kvq__AttachDeleteReply reply = KVQ__ATTACH_DELETE_REPLY__INIT;
    enum rpc_step status = rpc_save_step(request, detach->session, detach->result.point);
    if (status != RPC_DONE)
        return status;
    reply.version = detach->result.point.version;
    reply.freed_bytes = detach->result.bytes;
    return rpc_reply(request, frame, &reply.base);
}

static void end(struct rpc_request *request) {
    session_unref(request->detach.session);
}

const struct rpc_operation rpc_attach_delete = {
    .name = "attach_delete", .effect = RPC_CHANGES, .begin = begin, .step = step, .end = end};
