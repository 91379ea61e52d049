/* INDEX_PUT: take embeddings of a session's tokens, piece by piece, and let them be found.
 *
 * The happy path: begin -> data for each piece -> commit -> step until they are in their batch ->
 * step until that is on disk, where it is to be -> reply. Possible failure modes are: no such
 * session or not that version (refused, at begin or at the end), what is not the next piece, an
 * entry or a vector that cannot be (refused), a range that is not there (a miss), the memory limit
 * (waits, then refused), the disk (of a session that wants to be there: then it is in memory only),
 * the client gone or cancelling (end drops everything).
 */
#include "daemon/base/clock.h"
#include "daemon/rpc/messages.h"

static enum rpc_step go_on(struct rpc_request *request, int status) {
    const char *fault = batch_put_fault(request->append.index);
    if (status != STORE_INVALID && status != STORE_INCOMPLETE && !fault[0])
        return rpc_append_step(request, status);
    rpc_stop_waiting(request);
    if (status == STORE_INCOMPLETE)
        rpc_fail(request, WIRE_INCOMPLETE, "the entries were committed before all of them came");
    else if (fault[0])
        rpc_fail(request, status == STORE_MISS ? WIRE_MISS : WIRE_INVALID, "%s", fault);
    else
        rpc_fail(request, WIRE_INVALID, "a DATA frame is not the next %d bytes of the entries",
                 WIRE_INDEX_PIECE_BYTES);
    return RPC_FAILED;
}

static uint32_t read_request(struct rpc_request *request, const Kvq__IndexPutRequest *message,
                             struct batch_put_request *put) {
    uint32_t code = messages_read_name(request, &message->session, &put->session);
    if (code)
        return code;
    if (message->dim == 0 || message->dim > WIRE_DIM_MAX)
        return rpc_fail(request, WIRE_INVALID, "dim: embeddings have 1 to %d numbers",
                        WIRE_DIM_MAX);
    if (message->dtype != KVQ__DTYPE__DTYPE_F16 && message->dtype != KVQ__DTYPE__DTYPE_F32)
        return rpc_fail(request, WIRE_INVALID, "dtype: embeddings are f16 or f32");
    if (message->metric > KVQ__METRIC__METRIC_INNER_PRODUCT)
        return rpc_fail(request, WIRE_INVALID, "metric: cosine or inner product");
    if (message->entries == 0)
        return rpc_fail(request, WIRE_INVALID, "entries: there are none");
    if (message->bytes > WIRE_INDEX_BYTES_MAX)
        return rpc_fail(request, WIRE_TOO_LARGE, "at most %d bytes of entries come at a time",
                        WIRE_INDEX_BYTES_MAX);
    put->if_version = message->if_version;
    put->kind = (struct batch_kind){.dim = message->dim,
                                    .dtype = (enum batch_dtype)message->dtype,
                                    .metric = (enum batch_metric)message->metric};
    put->rows = message->entries;
    put->bytes = message->bytes;
    return WIRE_OK;
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct rpc_daemon *daemon = request->context->daemon;
    struct batch_put_request put = {0};
    const Kvq__IndexPutRequest *message =
        rpc_unpack(request, &kvq__index_put_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    uint32_t code = read_request(request, message, &put);
    if (code)
        return code;
    request->append = (struct rpc_append){.wait_ns = rpc_memory_wait_ns(request, message->wait_ms)};
    int status = batch_put_begin(daemon->store, &put, &request->append.index);
    return status == STORE_OK ? WIRE_OK : rpc_fail_store(request, status, NULL);
}

static int put(struct rpc_request *request, const struct wire_data *data, const void *payload,
               size_t payload_bytes) {
    if (data->part != WIRE_PART_VECTORS || data->layer != 0 || data->tokens != payload_bytes)
        return STORE_INVALID;
    return batch_put_piece(request->append.index, data->first, payload, payload_bytes);
}

static enum rpc_step data(struct rpc_request *request, const struct wire_data *data,
                          const void *payload, size_t payload_bytes) {
    return go_on(request, put(request, data, payload, payload_bytes));
}

static enum rpc_step step_put(struct rpc_request *request) {
    struct rpc_append *append = &request->append;
    struct rpc_daemon *daemon = request->context->daemon;
    int status = batch_put_step(append->index, &append->indexed);
    if (status == STORE_OK) {
        append->phase = APPEND_SAVING;
        request->irrevocable = true;
        atomic_fetch_add(&daemon->entries_deleted, append->indexed.replaced);
        atomic_fetch_add(&daemon->entries_put, append->indexed.put);
        rpc_changed(request);
    }
    return go_on(request, status);
}

static enum rpc_step commit(struct rpc_request *request) {
    request->append.phase = APPEND_COMMITTING;
    return RPC_MORE;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct rpc_append *append = &request->append;
    Kvq__IndexPutReply reply = KVQ__INDEX_PUT_REPLY__INIT;
    if (append->phase == APPEND_RECEIVING)
        return RPC_WAIT;
    if (append->phase == APPEND_COMMITTING)
        return step_put(request);
    enum rpc_step status =
        rpc_save_step(request, batch_put_session(append->index), append->indexed.point);
    if (status != RPC_DONE)
        return status;
    reply.version = append->indexed.version;
    reply.replaced = append->indexed.replaced;
    reply.entries = append->indexed.entries;
    return rpc_reply(request, frame, &reply.base);
}

static void end(struct rpc_request *request) {
    rpc_stop_waiting(request);
    batch_put_end(request->append.index);
}

const struct rpc_operation rpc_index_put = {.name = "index_put",
                                            .effect = RPC_ADDS,
                                            .begin = begin,
                                            .step = step,
                                            .data = data,
                                            .commit = commit,
                                            .end = end};
