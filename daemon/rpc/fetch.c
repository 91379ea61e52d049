/* FETCH: send a range of tokens and layers, a page's tokens a step, and close with what it was. */
#include "daemon/rpc/messages.h"

static uint32_t read_request(struct rpc_request *request, const Kvq__FetchRequest *message,
                             struct fetch_request *fetch) {
    uint32_t code;
    if ((code = messages_read_name(request, &message->session, &fetch->session)) ||
        (code = messages_read_model(request, &message->model, &fetch->model)))
        return code;
    if (message->layout > KVQ__LAYOUT__LAYOUT_HEADS_TOKENS_DIM ||
        message->dtype > KVQ__DTYPE__DTYPE_F32)
        return rpc_fail(request, WIRE_INVALID, "layout or dtype is none of its kind");
    fetch->first = message->first;
    fetch->end = message->end;
    fetch->first_layer = message->first_layer;
    fetch->end_layer = message->end_layer;
    fetch->skip_k = message->skip_k;
    fetch->skip_v = message->skip_v;
    fetch->dtype = (enum page_dtype)message->dtype;
    fetch->heads_first = message->layout == KVQ__LAYOUT__LAYOUT_HEADS_TOKENS_DIM;
    fetch->if_version = message->if_version;
    return WIRE_OK;
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct fetch_request fetch = {0};
    const Kvq__FetchRequest *message =
        rpc_unpack(request, &kvq__fetch_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    uint32_t code = read_request(request, message, &fetch);
    if (code)
        return code;
    int status = fetch_begin(request->context->daemon->store, &fetch, &request->fetch);
    if (status == STORE_INVALID)
        return rpc_fail(request, WIRE_INVALID, "an empty or reversed range of tokens or layers");
    if (status != STORE_OK)
        return rpc_fail_store(request, status, NULL);
    size_t frame_bytes =
        WIRE_HEADER_BYTES + WIRE_DATA_BYTES + fetch_piece_bytes_max(&request->fetch);
    if (frame_bytes > request->frame_bytes)
        request->frame_bytes = frame_bytes;
    return WIRE_OK;
}

static enum rpc_step reply(const struct rpc_request *request, struct rpc_frame *frame) {
    const struct fetch *fetch = &request->fetch;
    Kvq__FetchReply message = KVQ__FETCH_REPLY__INIT;
    Kvq__LevelTokens levels[FETCH_LEVELS], *pointers[FETCH_LEVELS];
    Kvq__Loss k, v;
    for (int i = 0; i < FETCH_LEVELS; i++) {
        if (fetch->level_tokens[i] == 0)
            continue;
        Kvq__LevelTokens *level = &levels[message.n_levels];
        kvq__level_tokens__init(level);
        level->level = i + PAGE_LEVEL_MIN;
        level->tokens = fetch->level_tokens[i];
        pointers[message.n_levels++] = level;
    }
    messages_write_loss(&fetch->loss[PAGE_K], &k);
    messages_write_loss(&fetch->loss[PAGE_V], &v);
    message.version = fetch->version;
    message.tokens = fetch->end - fetch->first;
    message.bytes = fetch->sent_bytes;
    message.levels = pointers;
    message.k = &k;
    message.v = &v;
    return rpc_reply(request, frame, &message.base);
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct rpc_context *context = request->context;
    struct fetch_piece piece;
    int status = fetch_next(context->daemon->store, &request->fetch, rpc_payload(frame),
                            context->workspace, &piece);
    if (status == STORE_OK)
        return reply(request, frame);
    if (status != STORE_MORE) {
        rpc_fail_store(request, status, NULL);
        return RPC_FAILED;
    }
    struct wire_data data = {.first = piece.first,
                             .tokens = piece.tokens,
                             .layer = piece.layer,
                             .part = piece.part == PAGE_V};
    rpc_write_data(request, frame, &data, piece.bytes);
    return RPC_MORE;
}

const struct rpc_operation rpc_fetch = {.name = "fetch", .begin = begin, .step = step};
