/* ATTACH_LIST: which attachments a session has, and what they take. */
#include "daemon/rpc/messages.h"

enum {
    FRAME_BYTES = WIRE_HEADER_BYTES + WIRE_ATTACHMENTS_MAX * (WIRE_ATTACHMENT_NAME_BYTES_MAX + 64)
};

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct store_name name;
    const Kvq__AttachListRequest *message =
        rpc_unpack(request, &kvq__attach_list_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    uint32_t code = messages_read_name(request, &message->session, &name);
    if (code)
        return code;
    request->frame_bytes = FRAME_BYTES;
    request->session = store_find(request->context->daemon->store, name);
    return request->session ? WIRE_OK : rpc_fail(request, WIRE_MISS, NULL);
}

/* What the reply points to. */
struct list_parts {
    Kvq__AttachmentInfo infos[ATTACHMENTS_MAX], *pointers[ATTACHMENTS_MAX];
};

static void write_info(struct attachment *attachment, Kvq__AttachmentInfo *info) {
    const struct attachment_spec *spec = &attachment->spec;
    kvq__attachment_info__init(info);
    info->name = (ProtobufCBinaryData){spec->name_bytes, (uint8_t *)spec->name};
    info->bytes = spec->bytes;
    info->stored_bytes = attachment_view(attachment).memory_bytes;
    info->tokens = spec->tokens;
}

/* With the session locked, and so are the names. */
static enum rpc_step reply(struct rpc_request *request, struct rpc_frame *frame) {
    const struct session *session = request->session;
    const struct attachment_set *set = session->attachments;
    struct list_parts parts;
    Kvq__AttachListReply reply = KVQ__ATTACH_LIST_REPLY__INIT;
    if (session->deleted) {
        rpc_fail(request, WIRE_MISS, NULL);
        return RPC_FAILED;
    }
    reply.version = session->version;
    reply.n_attachments = attachment_set_count(set);
    reply.attachments = parts.pointers;
    for (size_t i = 0; i < reply.n_attachments; i++) {
        write_info(set->attachments[i], &parts.infos[i]);
        parts.pointers[i] = &parts.infos[i];
    }
    return rpc_reply(request, frame, &reply.base);
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    pthread_mutex_lock(request->session->lock);
    enum rpc_step status = reply(request, frame);
    pthread_mutex_unlock(request->session->lock);
    return status;
}

static void end(struct rpc_request *request) {
    session_unref(request->session);
}

const struct rpc_operation rpc_attach_list = {
    .name = "attach_list", .begin = begin, .step = step, .end = end};
