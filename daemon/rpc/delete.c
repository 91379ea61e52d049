/* DELETE: no fetch that begins or goes on after the reply finds a byte of the session. */
#include "daemon/rpc/messages.h"

static uint64_t bytes_of(struct store *store, struct store_name name) {
    struct session_info info = {0};
    struct session *session = store_find(store, name);
    if (!session)
        return 0;
    int status = info_read(session, &info);
    session_unref(session);
    return status == STORE_OK ? info.stored_bytes : 0;
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct store *store = request->context->daemon->store;
    struct store_name name;
    const Kvq__DeleteRequest *message =
        rpc_unpack(request, &kvq__delete_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    uint32_t code = messages_read_name(request, &message->session, &name);
    if (code)
        return code;
    request->freed_bytes = bytes_of(store, name);
    int status = store_delete(store, name);
    return status == STORE_OK ? WIRE_OK : rpc_fail_store(request, status, NULL);
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    Kvq__DeleteReply reply = KVQ__DELETE_REPLY__INIT;
    reply.freed_bytes = request->freed_bytes;
    return rpc_reply(request, frame, &reply.base);
}

const struct rpc_operation rpc_delete = {.name = "delete", .begin = begin, .step = step};
