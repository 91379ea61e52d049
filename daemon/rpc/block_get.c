/* BLOCK_GET: send the blocks that are there, one behind the other, and close with which they were.
 */
#include "daemon/rpc/messages.h"

static uint32_t read_wanted(struct rpc_request *request, const Kvq__BlockGetRequest *message,
                            struct block_get_request *get) {
    uint32_t layers = get->geometry->layers, end = message->end_layer ? message->end_layer : layers;
    if (message->layout > KVQ__LAYOUT__LAYOUT_HEADS_TOKENS_DIM ||
        message->dtype > KVQ__DTYPE__DTYPE_Q4_0)
        return rpc_fail(request, WIRE_INVALID, "layout or dtype is none of its kind");
    if (message->tokens == 0 || message->first_layer >= end || end > layers ||
        (message->skip_k && message->skip_v))
        return rpc_fail(request, WIRE_INVALID, "no tokens or layers, or neither K nor V");
    get->tokens = message->tokens;
    get->fetch = (struct fetch_request){
        .first_layer = message->first_layer,
        .end_layer = end,
        .skip_k = message->skip_k,
        .skip_v = message->skip_v,
        .heads_first = message->layout == KVQ__LAYOUT__LAYOUT_HEADS_TOKENS_DIM,
        .dtype = (enum page_dtype)message->dtype,
    };
    return WIRE_OK;
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct rpc_daemon *daemon = request->context->daemon;
    struct messages_block_space space;
    const Kvq__BlockGetRequest *message =
        rpc_unpack(request, &kvq__block_get_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    struct messages_blocks blocks = {message->model, message->geometry, message->keys,
                                     message->n_keys};
    uint32_t code = messages_read_blocks(request, &blocks, &space);
    if (code)
        return code;
    struct block_get_request get = {.model = space.model,
                                    .geometry = &space.geometry,
                                    .keys = space.keys,
                                    .key_count = message->n_keys};
    if ((code = read_wanted(request, message, &get)))
        return code;
    request->fetch.waits_for = NULL;
    int status = block_get_begin(daemon->store, &get, &request->fetch.blocks);
    if (status != STORE_OK)
        return rpc_fail_store(request, status, NULL);
    rpc_hold_pieces(request, block_get_piece_bytes_max(request->fetch.blocks));
    return WIRE_OK;
}

static void count(struct rpc_daemon *daemon, const struct block_get *get) {
    atomic_fetch_add(&daemon->blocks_asked, get->key_count);
    atomic_fetch_add(&daemon->block_hits, get->hits);
    atomic_fetch_add(&daemon->fetched_tokens, get->hits * get->tokens);
    atomic_fetch_add(&daemon->fetched_bytes, get->sent_bytes);
}

static enum rpc_step reply(const struct rpc_request *request, struct rpc_frame *frame) {
    const struct block_get *get = request->fetch.blocks;
    Kvq__BlockGetReply message = KVQ__BLOCK_GET_REPLY__INIT;
    protobuf_c_boolean hits[BLOCK_KEYS_MAX];
    struct messages_levels levels;
    Kvq__Loss k, v;
    for (size_t i = 0; i < get->key_count; i++)
        hits[i] = get->keys[i].is_hit;
    messages_write_loss(&get->loss[PAGE_K], &k);
    messages_write_loss(&get->loss[PAGE_V], &v);
    message.hits = hits;
    message.n_hits = get->key_count;
    message.bytes = get->sent_bytes;
    message.n_levels = messages_write_levels(get->level_tokens, &levels);
    message.levels = levels.pointers;
    message.k = &k;
    message.v = &v;
    return rpc_reply(request, frame, &message.base);
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct block_get *get = request->fetch.blocks;
    struct fetch_room room = rpc_room_of(request, frame);
    struct fetch_piece pieces[GEOMETRY_PARTS];
    size_t count_pieces = 0;
    int status = block_get_next(get, &room, request->context->workspace, pieces, &count_pieces);
    if (status == STORE_FULL)
        return rpc_wait_to_load(request);
    rpc_stop_loading(request);
    if (status == STORE_WAIT)
        return RPC_WAIT;
    if (status == STORE_OK) {
        count(request->context->daemon, get);
        return reply(request, frame);
    }
    if (status == STORE_UNSUPPORTED)
        rpc_fail(request, WIRE_UNSUPPORTED,
                 "dtype: values are given in the block's own, or as f16, bf16 or f32");
    else if (status != STORE_MORE)
        rpc_fail_store(request, status, NULL);
    if (status != STORE_MORE)
        return RPC_FAILED;
    rpc_write_pieces(request, frame, pieces, count_pieces);
    return RPC_MORE;
}

static void end(struct rpc_request *request) {
    rpc_stop_loading(request);
    block_get_end(request->fetch.blocks);
}

const struct rpc_operation rpc_block_get = {
    .name = "block_get", .begin = begin, .step = step, .end = end};
