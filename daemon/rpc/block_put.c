/* BLOCK_PUT: take a block's tokens, and let it be found at COMMIT.
 *
 * The happy path: begin -> data for each page, layer and part -> commit -> step until it is there
 * -> reply. Possible failure modes are: there is such a block, or it is just being put (refused at
 * begin), a part that is none (refused), the memory limit (waits, then refused), the chain deleted
 * meanwhile (a miss), the client gone or cancelling (end drops everything).
 */
#include "daemon/base/clock.h"
#include "daemon/rpc/messages.h"

static uint32_t read_request(struct rpc_request *request, const Kvq__BlockPutRequest *message,
                             struct messages_block_space *space, struct block_put_request *put) {
    struct messages_blocks blocks = {message->model, message->geometry, &message->key, 1};
    struct messages_quality quality = {message->level, message->min_snr_db, message->policy};
    uint32_t code;
    if ((code = messages_read_blocks(request, &blocks, space)) ||
        (code = messages_read_quality(request, &quality, &put->policy)))
        return code;
    if (message->parent.len > WIRE_BLOCK_KEY_BYTES_MAX)
        return rpc_fail(request, WIRE_INVALID, "a parent's key is at most %d bytes",
                        WIRE_BLOCK_KEY_BYTES_MAX);
    if (message->layout > KVQ__LAYOUT__LAYOUT_HEADS_TOKENS_DIM)
        return rpc_fail(request, WIRE_INVALID, "layout is none of Layout");
    put->key = messages_block_key(space, 0);
    put->parent = (const char *)message->parent.data;
    put->parent_bytes = message->parent.len;
    put->tokens = message->tokens;
    put->first_position = message->first_position;
    put->heads_first = message->layout == KVQ__LAYOUT__LAYOUT_HEADS_TOKENS_DIM;
    return WIRE_OK;
}

static uint32_t fail_begin(struct rpc_request *request, int status) {
    switch (status) {
    case STORE_EXISTS:
        return rpc_fail(request, WIRE_EXISTS, "there is a block of this key");
    case STORE_BUSY:
        return rpc_fail(request, WIRE_BUSY, "the block is just being put");
    case STORE_UNSUPPORTED:
        return rpc_fail(request, WIRE_UNSUPPORTED,
                        "a block has at most %d pages, and a page of all layers is at most an "
                        "eighth of the memory limit",
                        WIRE_APPEND_RUNS_MAX);
    case STORE_INVALID:
        return rpc_fail(request, WIRE_INVALID, "a block has at least 1 token");
    default:
        return rpc_fail_store(request, status, NULL);
    }
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct rpc_daemon *daemon = request->context->daemon;
    struct block_put_request put = {.runs_max = WIRE_APPEND_RUNS_MAX};
    struct messages_block_space space;
    const Kvq__BlockPutRequest *message =
        rpc_unpack(request, &kvq__block_put_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    uint32_t code = read_request(request, message, &space, &put);
    if (code)
        return code;
    request->append = (struct rpc_append){.wait_ns = rpc_memory_wait_ns(request, message->wait_ms)};
    int status = block_put_begin(daemon->store, &put, &request->append.block);
    return status == STORE_OK ? WIRE_OK : fail_begin(request, status);
}

static enum rpc_step data(struct rpc_request *request, const struct wire_data *data,
                          const void *payload, size_t payload_bytes) {
    struct append_part part = rpc_append_part(data, payload, payload_bytes);
    int status = data->part > WIRE_PART_V
                     ? STORE_INVALID
                     : block_put_part(request->append.block, &part, request->context->workspace);
    if (status != STORE_INVALID)
        return rpc_append_step(request, status);
    rpc_stop_waiting(request);
    rpc_fail(request, WIRE_INVALID,
             "a DATA frame is not a page's tokens of one layer and part of this block");
    return RPC_FAILED;
}

static enum rpc_step commit(struct rpc_request *request) {
    int status = block_put_commit(request->append.block, request->context->workspace);
    if (status == STORE_OK) {
        request->append.phase = APPEND_SETTLING;
        request->irrevocable = true;
        atomic_fetch_add(&request->context->daemon->blocks_put, 1);
        rpc_changed(request);
    }
    return rpc_append_step(request, status);
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    Kvq__BlockPutReply message = KVQ__BLOCK_PUT_REPLY__INIT;
    if (request->append.phase == APPEND_RECEIVING)
        return commit(request);
    return rpc_reply(request, frame, &message.base);
}

static void end(struct rpc_request *request) {
    rpc_stop_waiting(request);
    block_put_end(request->append.block);
}

const struct rpc_operation rpc_block_put = {.name = "block_put",
                                            .effect = RPC_ADDS,
                                            .begin = begin,
                                            .step = step,
                                            .data = data,
                                            .commit = commit,
                                            .end = end};
