/* FETCH: send a range of tokens and layers, a layer's K and V of a page's tokens a step, and close
 * with what it was. */
#include "daemon/base/clock.h"
#include "daemon/rpc/messages.h"

enum { DATA_HEAD_BYTES = WIRE_HEADER_BYTES + WIRE_DATA_BYTES };

static uint32_t read_request(struct rpc_request *request, const Kvq__FetchRequest *message,
                             struct fetch_request *fetch) {
    uint32_t code;
    if ((code = messages_read_name(request, &message->session, &fetch->session)) ||
        (code = messages_read_model(request, &message->model, &fetch->model)))
        return code;
    if (message->layout > KVQ__LAYOUT__LAYOUT_HEADS_TOKENS_DIM ||
        message->dtype > KVQ__DTYPE__DTYPE_Q4_0)
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

void rpc_hold_pieces(struct rpc_request *request, size_t piece_bytes_max) {
    size_t one = DATA_HEAD_BYTES + piece_bytes_max;
    size_t both = GEOMETRY_PARTS * one;
    size_t bytes = both <= RPC_BUFFER_BYTES - RPC_FRAME_START ? both : one;
    if (bytes > request->frame_bytes)
        request->frame_bytes = bytes;
}

/* Says how many of the session's tokens there are. */
static uint32_t fail_miss(struct rpc_request *request, enum rpc_miss why) {
    uint64_t available = request->fetch.fetch.available;
    atomic_fetch_add(&request->context->daemon->fetch_misses[why], 1);
    request->fault.tokens = available;
    if (why == RPC_MISS_LATE)
        return rpc_fail(request, WIRE_MISS, "not all of it could be sent within within_ms");
    if (available == 0)
        return rpc_fail(request, WIRE_MISS, NULL);
    return rpc_fail(request, WIRE_MISS, "of the session the first %llu tokens are there",
                    (unsigned long long)available);
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
    request->fetch = (struct rpc_fetch){0};
    request->fetch.deadline_ns =
        message->within_ms ? clock_now_ns() + message->within_ms * CLOCK_NS_PER_MS : 0;
    int status = fetch_begin(request->context->daemon->store, &fetch, &request->fetch.fetch);
    if (status == STORE_INVALID)
        return rpc_fail(request, WIRE_INVALID, "an empty or reversed range of tokens or layers");
    if (status == STORE_UNSUPPORTED)
        return rpc_fail(request, WIRE_UNSUPPORTED,
                        "dtype: values are given in the session's own, or as f16, bf16 or f32");
    if (status == STORE_MISS)
        return fail_miss(request,
                         request->fetch.fetch.available > 0 ? RPC_MISS_SHORT : RPC_MISS_ABSENT);
    if (status != STORE_OK)
        return rpc_fail_store(request, status, NULL);
    rpc_hold_pieces(request, fetch_piece_bytes_max(&request->fetch.fetch));
    return WIRE_OK;
}

static void count_hit(const struct rpc_request *request) {
    struct rpc_daemon *daemon = request->context->daemon;
    const struct fetch *fetch = &request->fetch.fetch;
    atomic_fetch_add(&daemon->fetch_hits, 1);
    atomic_fetch_add(&daemon->disk_hits, request->fetch.from_disk);
    atomic_fetch_add(&daemon->fetched_tokens, fetch->end - fetch->first);
    atomic_fetch_add(&daemon->fetched_bytes, fetch->sent_bytes);
}

static enum rpc_step reply(const struct rpc_request *request, struct rpc_frame *frame) {
    const struct fetch *fetch = &request->fetch.fetch;
    Kvq__FetchReply message = KVQ__FETCH_REPLY__INIT;
    struct messages_levels levels;
    Kvq__Loss k, v;
    message.n_levels = messages_write_levels(fetch->level_tokens, &levels);
    messages_write_loss(&fetch->loss[PAGE_K], &k);
    messages_write_loss(&fetch->loss[PAGE_V], &v);
    message.version = fetch->version;
    message.tokens = fetch->end - fetch->first;
    message.bytes = fetch->sent_bytes;
    message.levels = levels.pointers;
    message.k = &k;
    message.v = &v;
    return rpc_reply(request, frame, &message.base);
}

static bool is_late(const struct rpc_fetch *fetch) {
    return fetch->deadline_ns != 0 && !fetch_is_done(&fetch->fetch) &&
           clock_now_ns() > fetch->deadline_ns;
}

void rpc_stop_loading(struct rpc_request *request) {
    rpc_stop_awaiting(&request->fetch.waits_for);
}

/* A chunk is to come from disk, and there is no memory for it: others make room, or it is refused
 * as an append is. */
enum rpc_step rpc_wait_to_load(struct rpc_request *request) {
    struct rpc_daemon *daemon = request->context->daemon;
    struct rpc_fetch *fetch = &request->fetch;
    uint64_t now = clock_now_ns();
    if (rpc_await_memory(request, &fetch->waits_for))
        fetch->memory_deadline_ns = now + daemon->append_wait_ms * CLOCK_NS_PER_MS;
    if (now < fetch->memory_deadline_ns)
        return RPC_WAIT;
    rpc_fail_full(request);
    return RPC_FAILED;
}

/* Behind what the frame has already: the values are where they belong. */
static void write_piece(const struct rpc_request *request, struct rpc_frame *frame,
                        const struct fetch_piece *piece) {
    struct rpc_frame next = {.buffer = frame->buffer + frame->bytes};
    struct wire_data data = {.first = piece->first,
                             .tokens = piece->tokens,
                             .layer = piece->layer,
                             .part = piece->part == PAGE_V};
    rpc_write_data(request, &next, &data, piece->bytes);
    frame->bytes += next.bytes;
}

struct fetch_room rpc_room_of(const struct rpc_request *request, const struct rpc_frame *frame) {
    return (struct fetch_room){rpc_payload(frame), request->frame_bytes - DATA_HEAD_BYTES,
                               DATA_HEAD_BYTES, &request->context->pages};
}

void rpc_write_pieces(const struct rpc_request *request, struct rpc_frame *frame,
                      const struct fetch_piece *pieces, size_t count) {
    for (size_t i = 0; i < count; i++)
        write_piece(request, frame, &pieces[i]);
}

static enum rpc_step fail(struct rpc_request *request, enum rpc_miss why) {
    fail_miss(request, why);
    return RPC_FAILED;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct rpc_context *context = request->context;
    struct fetch_room room = rpc_room_of(request, frame);
    struct fetch_piece pieces[GEOMETRY_PARTS];
    size_t count = 0;
    if (is_late(&request->fetch))
        return fail(request, RPC_MISS_LATE);
    int status = fetch_next(context->daemon->store, &request->fetch.fetch, &room,
                            context->workspace, pieces, &count);
    request->fetch.from_disk |= status == STORE_FULL || status == STORE_WAIT;
    if (status == STORE_FULL)
        return rpc_wait_to_load(request);
    rpc_stop_loading(request);
    if (status == STORE_WAIT)
        return RPC_WAIT;
    if (status == STORE_OK) {
        count_hit(request);
        return reply(request, frame);
    }
    if (status != STORE_MORE)
        return fail(request, RPC_MISS_GONE);
    rpc_write_pieces(request, frame, pieces, count);
    return RPC_MORE;
}

const struct rpc_operation rpc_fetch = {
    .name = "fetch", .begin = begin, .step = step, .end = rpc_stop_loading};
