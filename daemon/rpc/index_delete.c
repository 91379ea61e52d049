/* INDEX_DELETE: the reply comes when the entries are gone, and would not come back from disk. */
#include "daemon/rpc/messages.h"

static uint32_t read_labels(struct rpc_request *request, const Kvq__IndexDeleteRequest *message,
                            struct batch_delete_request *wanted) {
    struct batch_text *labels =
        wire_arena_alloc(&request->context->arena, (message->n_labels + 1) * sizeof *labels);
    if (!labels)
        return rpc_fail(request, WIRE_TOO_LARGE, "too many labels at a time");
    for (size_t i = 0; i < message->n_labels; i++) {
        if (message->labels[i].len == 0)
            return rpc_fail(request, WIRE_INVALID, "labels: one is empty");
        labels[i] =
            (struct batch_text){(const char *)message->labels[i].data, message->labels[i].len};
    }
    wanted->labels = labels;
    wanted->label_count = message->n_labels;
    return WIRE_OK;
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct rpc_daemon *daemon = request->context->daemon;
    struct rpc_unindex *unindex = &request->unindex;
    struct store_name name;
    uint32_t code;
    const Kvq__IndexDeleteRequest *message =
        rpc_unpack(request, &kvq__index_delete_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    struct batch_delete_request wanted = {.if_version = message->if_version,
                                          .first = message->first,
                                          .end = message->end ? message->end : UINT64_MAX};
    if ((code = messages_read_name(request, &message->session, &name)) ||
        (code = read_labels(request, message, &wanted)))
        return code;
    if (wanted.first >= wanted.end)
        return rpc_fail(request, WIRE_INVALID, "the range of tokens ends before it begins");
    *unindex = (struct rpc_unindex){.session = store_find(daemon->store, name)};
    if (!unindex->session)
        return rpc_fail(request, WIRE_MISS, NULL);
    int status = batch_delete(daemon->store, unindex->session, &wanted, &unindex->result);
    if (status != STORE_OK) {
        session_unref(unindex->session);
        return rpc_fail_store(request, status, NULL);
    }
    request->irrevocable = true;
    atomic_fetch_add(&daemon->entries_deleted, unindex->result.deleted);
    rpc_changed(request);
    return WIRE_OK;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    const struct rpc_unindex *unindex = &request->unindex;
    Kvq__IndexDeleteReply reply = KVQ__INDEX_DELETE_REPLY__INIT;
    enum rpc_step status = rpc_save_step(request, unindex->session, unindex->result.point);
    if (status != RPC_DONE)
        return status;
    reply.version = unindex->result.point.version;
    reply.deleted = unindex->result.deleted;
    reply.entries = unindex->result.entries;
    return rpc_reply(request, frame, &reply.base);
}

static void end(struct rpc_request *request) {
    session_unref(request->unindex.session);
}

const struct rpc_operation rpc_index_delete = {
    .name = "index_delete", .effect = RPC_CHANGES, .begin = begin, .step = step, .end = end};
