/* ATTACH_PUT: take a blob under a name, piece by piece, and let it be found at COMMIT.
 *
 * The happy path: begin -> data for each piece -> commit -> step until it is on disk, where it is
 * to be -> reply. Possible failure modes are: no such session or not that version (refused, at
 * begin or at COMMIT), too many attachments (refused), what is not the next piece (refused), the
 * memory limit (waits, then refused), the disk (of a session that wants to be there: then it is in
 * memory only), the client gone or cancelling (end drops everything).
 */
#include "daemon/base/clock.h"
#include "daemon/rpc/messages.h"

static uint32_t fail_too_many(struct rpc_request *request) {
    return rpc_fail(request, WIRE_UNSUPPORTED, "a session has at most %d attachments",
                    WIRE_ATTACHMENTS_MAX);
}

static enum rpc_step go_on(struct rpc_request *request, int status) {
    if (status != STORE_UNSUPPORTED && status != STORE_INCOMPLETE && status != STORE_INVALID)
        return rpc_append_step(request, status);
    rpc_stop_waiting(request);
    if (status == STORE_UNSUPPORTED)
        fail_too_many(request);
    else if (status == STORE_INCOMPLETE)
        rpc_fail(request, WIRE_INCOMPLETE, "the attachment was committed before all of it came");
    else
        rpc_fail(request, WIRE_INVALID, "a DATA frame is not the attachment's next %d bytes",
                 WIRE_ATTACHMENT_PIECE_BYTES);
    return RPC_FAILED;
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct rpc_daemon *daemon = request->context->daemon;
    struct attachment_key key;
    const Kvq__AttachPutRequest *message =
        rpc_unpack(request, &kvq__attach_put_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    struct messages_attachment wanted = {&message->session, &message->name, message->if_version};
    uint32_t code = messages_read_attachment(request, &wanted, &key);
    if (code)
        return code;
    if (message->bytes > WIRE_ATTACHMENT_BYTES_MAX)
        return rpc_fail(request, WIRE_TOO_LARGE, "an attachment has at most %d bytes",
                        WIRE_ATTACHMENT_BYTES_MAX);
    request->append = (struct rpc_append){.wait_ns = rpc_memory_wait_ns(request, message->wait_ms)};
    int status =
        attachment_put_begin(daemon->store, &key, message->bytes, &request->append.attachment);
    if (status == STORE_OK)
        return WIRE_OK;
    return status == STORE_UNSUPPORTED ? fail_too_many(request)
                                       : rpc_fail_store(request, status, NULL);
}

static int put(struct rpc_request *request, const struct wire_data *data, const void *payload,
               size_t payload_bytes) {
    if (data->part != WIRE_PART_BYTES || data->layer != 0 || data->tokens != payload_bytes)
        return STORE_INVALID;
    return attachment_put_piece(request->append.attachment, data->first, payload, payload_bytes,
                                request->context->workspace);
}

static enum rpc_step data(struct rpc_request *request, const struct wire_data *data,
                          const void *payload, size_t payload_bytes) {
    return go_on(request, put(request, data, payload, payload_bytes));
}

static enum rpc_step commit(struct rpc_request *request) {
    struct rpc_append *append = &request->append;
    int status = attachment_put_commit(append->attachment, &append->attached);
    if (status == STORE_OK) {
        request->irrevocable = true;
        atomic_fetch_add(&request->context->daemon->attachments_put, 1);
        rpc_changed(request);
    }
    return go_on(request, status);
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct rpc_append *append = &request->append;
    Kvq__AttachPutReply reply = KVQ__ATTACH_PUT_REPLY__INIT;
    enum rpc_step status =
        rpc_save_step(request, attachment_put_session(append->attachment), append->attached.point);
    if (status != RPC_DONE)
        return status;
    reply.version = append->attached.point.version;
    reply.stored_bytes = append->attached.bytes;
    return rpc_reply(request, frame, &reply.base);
}

static void end(struct rpc_request *request) {
    rpc_stop_waiting(request);
    attachment_put_end(request->append.attachment);
}

const struct rpc_operation rpc_attach_put = {.name = "attach_put",
                                             .effect = RPC_ADDS,
                                             .begin = begin,
                                             .step = step,
                                             .data = data,
                                             .commit = commit,
                                             .end = end};
