/* RECALL_KEYS: which blocks of a session's tokens the queries of each layer attend to most.
 *
 * The happy path: begin -> data with each layer's queries -> commit -> step while blocks are scored
 * -> step with each layer's ranges -> with `fetch` step for K and V of each -> reply. Possible
 * failure modes are: no such session, or another model's, or one without summaries (refused),
 * queries that cannot be (refused), tokens that go away before their K and V are sent (a miss), the
 * memory limit (refused; waited for while chunks are loaded), the client gone or cancelling (end
 * drops everything).
 */
#include "daemon/recall/recall_keys.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/rpc/messages.h"

enum { DATA_HEAD_BYTES = WIRE_HEADER_BYTES + WIRE_DATA_BYTES };

static_assert((int)WIRE_RECALL_BLOCKS_MAX == RECALL_BLOCKS_MAX, "the same limit");
static_assert(WIRE_RECALL_BLOCKS_MAX * WIRE_RANGE_BYTES <= WIRE_PAYLOAD_BYTES_MAX,
              "a layer's ranges fit into one frame");

enum phase { RECEIVING, SCORING, TELLING, FETCHING };

struct rpc_recall_keys {
    enum phase phase;
    struct fetch asked; /* of the tokens and layers among which is chosen */
    struct recall_keys *recall;
    bool fetch;
    uint32_t layer; /* whose ranges are told, or sent, next */
    size_t range;
    uint64_t first_token; /* of the range that is sent, counted over those of its layer */
    uint64_t recalled_tokens;
    bool moved; /* to the range */
};

/* --- what is asked --- */

static uint32_t read_request(struct rpc_request *request, const Kvq__RecallKeysRequest *message,
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

static uint32_t fail_begin(struct rpc_request *request, int status, const char *fault) {
    if (status == STORE_INVALID)
        return rpc_fail(request, WIRE_INVALID, "%s", fault);
    if (status == STORE_UNSUPPORTED)
        return rpc_fail(request, WIRE_UNSUPPORTED,
                        "the session was not created with key_summaries, or the dtype is none "
                        "that its values are given in");
    return rpc_fail_store(request, status, NULL);
}

static uint32_t begin_recall(struct rpc_request *request, const Kvq__RecallKeysRequest *message,
                             struct rpc_recall_keys *keys) {
    struct store *store = request->context->daemon->store;
    struct fetch_request fetch = {0};
    const char *fault = "an empty or reversed range of tokens or layers, or neither K nor V";
    uint32_t code = read_request(request, message, &fetch);
    if (code)
        return code;
    struct recall_keys_request recall = {
        .fetch = &keys->asked, .queries = message->query_heads, .k = message->k};
    int status = fetch_begin(store, &fetch, &keys->asked);
    if (status == STORE_OK)
        status = recall_keys_begin(store, &recall, &keys->recall, &fault);
    if (status != STORE_OK)
        return fail_begin(request, status, fault);
    keys->fetch = message->fetch;
    keys->layer = keys->asked.first_layer;
    return WIRE_OK;
}

static void free_keys(struct rpc_recall_keys *keys) {
    if (keys->recall)
        recall_keys_end(keys->recall);
    free(keys);
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    const Kvq__RecallKeysRequest *message =
        rpc_unpack(request, &kvq__recall_keys_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    struct rpc_recall_keys *keys = calloc(1, sizeof *keys);
    if (!keys)
        return rpc_fail_store(request, STORE_FULL, NULL);
    uint32_t code = begin_recall(request, message, keys);
    if (code) {
        free_keys(keys);
        return code;
    }
    request->fetch = (struct rpc_fetch){.fetch = keys->asked, .keys = keys};
    return WIRE_OK;
}

/* Of some layers behind each other. */
static int put(struct recall_keys *recall, uint32_t layer, const uint8_t *payload, size_t bytes) {
    size_t one = recall_keys_query_bytes(recall), offset = 0;
    int status = bytes == 0 || bytes % one != 0 ? STORE_INVALID : STORE_OK;
    for (; offset < bytes && status == STORE_OK; offset += one)
        status = recall_keys_put(recall, layer++, payload + offset, one);
    return status;
}

static enum rpc_step data(struct rpc_request *request, const struct wire_data *data,
                          const void *payload, size_t payload_bytes) {
    struct rpc_recall_keys *keys = request->fetch.keys;
    if (data->part == WIRE_PART_VECTORS && data->first == 0 &&
        put(keys->recall, data->layer, payload, payload_bytes) == STORE_OK)
        return RPC_MORE;
    rpc_fail(request, WIRE_INVALID,
             "a DATA frame is not the queries of layers that are to come, all of them finite");
    return RPC_FAILED;
}

static enum rpc_step commit(struct rpc_request *request) {
    request->fetch.keys->phase = SCORING;
    return RPC_MORE;
}

/* --- the ranges --- */

static const struct key_range *ranges_of(const struct rpc_recall_keys *keys, size_t *count) {
    return recall_keys_ranges(keys->recall, keys->layer, count);
}

/* Room for the longest list, and for K and V of the widest range. */
static void provide_frame(struct rpc_request *request) {
    struct rpc_recall_keys *keys = request->fetch.keys;
    struct fetch *fetch = &request->fetch.fetch;
    uint64_t widest = 0;
    size_t most = 0, count;
    for (uint32_t layer = keys->asked.first_layer; layer < keys->asked.end_layer; layer++) {
        const struct key_range *ranges = recall_keys_ranges(keys->recall, layer, &count);
        most = count > most ? count : most;
        for (size_t i = 0; i < count; i++) {
            keys->recalled_tokens += ranges[i].tokens;
            widest = ranges[i].tokens > widest ? ranges[i].tokens : widest;
        }
    }
    size_t bytes = RPC_FRAME_START + DATA_HEAD_BYTES + most * WIRE_RANGE_BYTES;
    if (bytes > request->frame_bytes)
        request->frame_bytes = bytes;
    if (!keys->fetch)
        return;
    fetch_move(fetch, keys->asked.first_layer, 0, widest);
    rpc_hold_pieces(request, fetch_piece_bytes_max(fetch));
}

static enum rpc_step step_scoring(struct rpc_request *request) {
    struct rpc_recall_keys *keys = request->fetch.keys;
    int status = recall_keys_step(keys->recall);
    if (status == STORE_MORE)
        return RPC_MORE;
    if (status == STORE_INCOMPLETE)
        rpc_fail(request, WIRE_INCOMPLETE, "the queries of some layers did not come before COMMIT");
    else if (status != STORE_OK)
        rpc_fail_store(request, status, NULL);
    if (status != STORE_OK)
        return RPC_FAILED;
    provide_frame(request);
    keys->phase = TELLING;
    return RPC_MORE;
}

/* u64 first, u32 tokens, f32 share. */
static void write_range(const struct key_range *range, uint8_t *to) {
    float share = expf(range->score);
    memcpy(to, &range->first, sizeof range->first);
    memcpy(to + 8, &range->tokens, sizeof range->tokens);
    memcpy(to + 12, &share, sizeof share);
}

static void next_layer(struct rpc_recall_keys *keys) {
    keys->range = 0;
    keys->first_token = 0;
    if (++keys->layer < keys->asked.end_layer)
        return;
    keys->layer = keys->phase == TELLING ? keys->asked.first_layer : keys->layer;
    keys->phase = FETCHING;
}

static enum rpc_step tell(struct rpc_request *request, struct rpc_frame *frame) {
    struct rpc_recall_keys *keys = request->fetch.keys;
    size_t count;
    const struct key_range *ranges = ranges_of(keys, &count);
    uint8_t *to = rpc_payload(frame);
    for (size_t i = 0; i < count; i++)
        write_range(&ranges[i], to + i * WIRE_RANGE_BYTES);
    struct wire_data data = {.tokens = (uint32_t)(count * WIRE_RANGE_BYTES),
                             .layer = keys->layer,
                             .part = WIRE_PART_BYTES};
    if (count > 0)
        rpc_write_data(request, frame, &data, count * WIRE_RANGE_BYTES);
    next_layer(keys);
    return RPC_MORE;
}

/* --- their K and V --- */

static enum rpc_step reply(const struct rpc_request *request, struct rpc_frame *frame) {
    const struct rpc_recall_keys *keys = request->fetch.keys;
    const struct fetch *fetch = &request->fetch.fetch;
    struct rpc_daemon *daemon = request->context->daemon;
    Kvq__RecallKeysReply message = KVQ__RECALL_KEYS_REPLY__INIT;
    struct messages_levels levels;
    Kvq__Loss k, v;
    atomic_fetch_add(&daemon->fetched_bytes, fetch->sent_bytes);
    messages_write_loss(&fetch->loss[PAGE_K], &k);
    messages_write_loss(&fetch->loss[PAGE_V], &v);
    message.n_levels = messages_write_levels(fetch->level_tokens, &levels);
    message.levels = levels.pointers;
    message.version = keys->asked.version;
    message.tokens = keys->recalled_tokens;
    message.bytes = fetch->sent_bytes;
    message.k = &k;
    message.v = &v;
    return rpc_reply(request, frame, &message.base);
}

/* To the next range of all layers. False behind the last. */
static bool move_on(struct rpc_request *request) {
    struct rpc_recall_keys *keys = request->fetch.keys;
    size_t count;
    while (keys->layer < keys->asked.end_layer) {
        const struct key_range *ranges = ranges_of(keys, &count);
        if (keys->range < count) {
            const struct key_range *range = &ranges[keys->range];
            fetch_move(&request->fetch.fetch, keys->layer, range->first,
                       range->first + range->tokens);
            keys->moved = true;
            return true;
        }
        next_layer(keys);
    }
    return false;
}

static void end_range(struct rpc_recall_keys *keys, const struct fetch *fetch) {
    keys->first_token += fetch->end - fetch->first;
    keys->range++;
    keys->moved = false;
}

static enum rpc_step send_range(struct rpc_request *request, struct rpc_frame *frame) {
    struct rpc_context *context = request->context;
    struct rpc_recall_keys *keys = request->fetch.keys;
    struct fetch *fetch = &request->fetch.fetch;
    struct fetch_room room = rpc_room_of(request, frame);
    struct fetch_piece pieces[GEOMETRY_PARTS];
    size_t count = 0;
    int status =
        fetch_next(context->daemon->store, fetch, &room, context->workspace, pieces, &count);
    if (status == STORE_FULL)
        return rpc_wait_to_load(request);
    rpc_stop_loading(request);
    if (status == STORE_WAIT)
        return RPC_WAIT;
    if (status != STORE_OK && status != STORE_MORE) {
        rpc_fail_store(request, status, NULL);
        return RPC_FAILED;
    }
    for (size_t i = 0; i < count; i++)
        pieces[i].first = pieces[i].first - fetch->first + keys->first_token;
    rpc_write_pieces(request, frame, pieces, count);
    if (status == STORE_OK)
        end_range(keys, fetch);
    return RPC_MORE;
}

static enum rpc_step step_fetch(struct rpc_request *request, struct rpc_frame *frame) {
    const struct rpc_recall_keys *keys = request->fetch.keys;
    if (keys->fetch && (keys->moved || move_on(request)))
        return send_range(request, frame);
    return reply(request, frame);
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    switch (request->fetch.keys->phase) {
    case RECEIVING:
        return RPC_WAIT;
    case SCORING:
        return step_scoring(request);
    case TELLING:
        return tell(request, frame);
    default:
        return step_fetch(request, frame);
    }
}

static void end(struct rpc_request *request) {
    rpc_stop_loading(request);
    free_keys(request->fetch.keys);
}

const struct rpc_operation rpc_recall_keys = {.name = "recall_keys",
                                              .begin = begin,
                                              .step = step,
                                              .data = data,
                                              .commit = commit,
                                              .end = end};
