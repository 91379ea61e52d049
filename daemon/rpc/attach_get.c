/* ATTACH_GET: send an attachment, a piece a step, and close with what it was. */
#include "daemon/rpc/messages.h"

enum {
    FRAME_BYTES = WIRE_HEADER_BYTES + WIRE_DATA_BYTES + WIRE_ATTACHMENT_PIECE_BYTES,
};

static uint32_t fail(struct rpc_request *request, int status) {
    struct attachment_get *get = &request->fetch.attachment;
    atomic_fetch_add(&request->context->daemon->attachment_misses, status == STORE_MISS);
    return status == STORE_MISS ? messages_fail_attachment(request, get->session != NULL)
                                : rpc_fail_store(request, status, NULL);
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct attachment_get *get = &request->fetch.attachment;
    struct attachment_key key;
    const Kvq__AttachGetRequest *message =
        rpc_unpack(request, &kvq__attach_get_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    struct messages_attachment wanted = {&message->session, &message->name, message->if_version};
    uint32_t code = messages_read_attachment(request, &wanted, &key);
    if (code)
        return code;
    request->fetch = (struct rpc_fetch){0};
    int status = attachment_get_begin(request->context->daemon->store, &key, get);
    if (status == STORE_OK) {
        request->frame_bytes = FRAME_BYTES;
        return WIRE_OK;
    }
    code = fail(request, status);
    attachment_get_end(get);
    return code;
}

static enum rpc_step reply(const struct rpc_request *request, struct rpc_frame *frame) {
    const struct attachment_get *get = &request->fetch.attachment;
    Kvq__AttachGetReply reply = KVQ__ATTACH_GET_REPLY__INIT;
    atomic_fetch_add(&request->context->daemon->attachment_hits, 1);
    reply.version = get->version;
    reply.bytes = get->attachment->spec.bytes;
    reply.tokens = get->attachment->spec.tokens;
    return rpc_reply(request, frame, &reply.base);
}

static void write_piece(const struct rpc_request *request, struct rpc_frame *frame, size_t bytes) {
    uint64_t piece = request->fetch.attachment.next_piece - 1;
    struct wire_data data = {.first = piece * WIRE_ATTACHMENT_PIECE_BYTES,
                             .tokens = (uint32_t)bytes,
                             .part = WIRE_PART_BYTES};
    rpc_write_data(request, frame, &data, bytes);
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct rpc_context *context = request->context;
    struct attachment_get *get = &request->fetch.attachment;
    size_t bytes;
    int status = attachment_get_next(context->daemon->store, get, rpc_payload(frame), &bytes,
                                     context->workspace);
    if (status == STORE_FULL)
        return rpc_wait_to_load(request);
    rpc_stop_loading(request);
    if (status == STORE_WAIT)
        return RPC_WAIT;
    if (status == STORE_OK)
        return reply(request, frame);
    if (status != STORE_MORE) {
        fail(request, status);
        return RPC_FAILED;
    }
    if (bytes > 0)
        write_piece(request, frame, bytes);
    return RPC_MORE;
}

static void end(struct rpc_request *request) {
    rpc_stop_loading(request);
    attachment_get_end(&request->fetch.attachment);
}

const struct rpc_operation rpc_attach_get = {
    .name = "attach_get", .begin = begin, .step = step, .end = end};
