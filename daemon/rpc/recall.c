/* RECALL: find the entries nearest to a query, and send the ranges they stand for.
 *
 * The happy path: begin -> data with the query -> commit -> step while recall searches -> step with
 * the hits -> with `fetch` step for K and V of each -> reply. Possible failure modes are: a session
 * that is not there, or another model's (refused), a query that cannot be (refused), entries of
 * other dimensions (refused), a hit that changes before its K and V are sent (it is not among those
 * fetched), the memory limit while chunks are loaded (waits, then refused), the client gone or
 * cancelling (end drops everything).
 */
#include "daemon/recall/recall.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/rpc/messages.h"

enum { DATA_HEAD_BYTES = WIRE_HEADER_BYTES + WIRE_DATA_BYTES };
/* Of a hit's numbers in a message, and of a geometry there. */
enum { HIT_BYTES = 96, SHAPE_BYTES = 96 };

static_assert((int)WIRE_RECALL_K_MAX == RECALL_K_MAX, "the same limit");
static_assert(WIRE_RECALL_K_MAX * (WIRE_SESSION_BYTES_MAX + WIRE_LABEL_BYTES_MAX +
                                   WIRE_METADATA_BYTES_MAX + HIT_BYTES) +
                      SHAPE_BYTES <=
                  WIRE_PAYLOAD_BYTES_MAX,
              "the hits fit into one frame");

enum phase { RECEIVING, SEARCHING, TELLING, BEGINNING, FETCHING };

struct rpc_recall {
    enum phase phase;
    struct recall_query query;
    char model[WIRE_MODEL_BYTES_MAX], label[WIRE_LABEL_BYTES_MAX];
    uint32_t received; /* numbers of the query */
    struct recall_search *search;
    const struct recall_hit *hits; /* the search's */
    size_t hit_count;
    bool fetch;
    struct fetch_request wanted; /* without session and range */
    size_t hit;                  /* that is fetched */
    uint64_t first_token;        /* of it, counted over all hits */
    protobuf_c_boolean fetched[WIRE_RECALL_K_MAX];
    uint64_t sent_bytes, level_tokens[FETCH_LEVELS], fetched_tokens;
    struct loss loss[GEOMETRY_PARTS];
    float vector[];
};

/* --- what is asked --- */

static bool has_session(const struct recall_query *query, const struct session *session) {
    for (size_t i = 0; i < query->session_count; i++)
        if (query->sessions[i] == session)
            return true;
    return false;
}

static uint32_t add_session(struct rpc_request *request, struct rpc_recall *recall,
                            const ProtobufCBinaryData *bytes) {
    struct recall_query *query = &recall->query;
    struct store_name name;
    uint32_t code = messages_read_name(request, bytes, &name);
    if (code)
        return code;
    struct session *session = store_find(request->context->daemon->store, name);
    if (!session)
        return rpc_fail(request, WIRE_MISS, "there is no session %.*s", (int)name.bytes, name.text);
    if (query->model.bytes == 0) {
        memcpy(recall->model, session->model, session->model_bytes);
        query->model = (struct store_name){recall->model, session->model_bytes, session->tenant};
    }
    bool is_of_model = session->model_bytes == query->model.bytes &&
                       memcmp(session->model, query->model.text, session->model_bytes) == 0;
    if (is_of_model && !has_session(query, session))
        query->sessions[query->session_count++] = session;
    else
        session_unref(session);
    return is_of_model ? WIRE_OK : rpc_fail(request, WIRE_MODEL_MISMATCH, NULL);
}

static uint32_t read_scope(struct rpc_request *request, struct rpc_recall *recall,
                           const Kvq__RecallRequest *message) {
    struct recall_query *query = &recall->query;
    struct store_name model;
    uint32_t code = messages_read_model(request, &message->model, &model);
    if (code)
        return code;
    if (message->n_sessions > WIRE_RECALL_SESSIONS_MAX)
        return rpc_fail(request, WIRE_TOO_LARGE, "sessions: at most %d", WIRE_RECALL_SESSIONS_MAX);
    if (model.bytes == 0 && message->n_sessions == 0)
        return rpc_fail(request, WIRE_INVALID, "model: entries are those of a model's sessions");
    if (model.bytes > 0)
        memcpy(recall->model, model.text, model.bytes);
    query->model = (struct store_name){recall->model, model.bytes, model.tenant};
    if (message->n_sessions == 0)
        return WIRE_OK;
    query->sessions = calloc(message->n_sessions, sizeof(struct session *));
    if (!query->sessions)
        return rpc_fail_store(request, STORE_FULL, NULL);
    for (size_t i = 0; i < message->n_sessions && !code; i++)
        code = add_session(request, recall, &message->sessions[i]);
    return code;
}

static uint32_t read_filter(struct rpc_request *request, struct rpc_recall *recall,
                            const Kvq__RecallRequest *message) {
    struct recall_query *query = &recall->query;
    uint64_t now_us = clock_wall_us(), age_us;
    if (message->label.len > WIRE_LABEL_BYTES_MAX)
        return rpc_fail(request, WIRE_INVALID, "label: at most %d bytes", WIRE_LABEL_BYTES_MAX);
    if (message->min_score && !isfinite(message->min_score->value))
        return rpc_fail(request, WIRE_INVALID, "min_score is no number");
    if (message->label.len > 0)
        memcpy(recall->label, message->label.data, message->label.len);
    query->label = (struct store_name){.text = recall->label, .bytes = message->label.len};
    query->min_score = message->min_score ? (float)message->min_score->value : -INFINITY;
    query->first = message->first;
    query->end = message->end ? message->end : UINT64_MAX;
    if (query->first >= query->end)
        return rpc_fail(request, WIRE_INVALID, "the range of tokens ends before it begins");
    if (message->newer_than_ms > 0 &&
        !__builtin_mul_overflow(message->newer_than_ms, 1000, &age_us) && age_us < now_us)
        query->least_put_us = now_us - age_us;
    return WIRE_OK;
}

static uint32_t read_fetch(struct rpc_request *request, struct rpc_recall *recall,
                           const Kvq__RecallRequest *message) {
    if (message->layout > KVQ__LAYOUT__LAYOUT_HEADS_TOKENS_DIM ||
        message->dtype > KVQ__DTYPE__DTYPE_Q4_0)
        return rpc_fail(request, WIRE_INVALID, "layout or dtype is none of its kind");
    if (message->skip_k && message->skip_v)
        return rpc_fail(request, WIRE_INVALID, "neither K nor V");
    recall->fetch = message->fetch;
    recall->wanted = (struct fetch_request){
        .first_layer = message->first_layer,
        .end_layer = message->end_layer,
        .skip_k = message->skip_k,
        .skip_v = message->skip_v,
        .heads_first = message->layout == KVQ__LAYOUT__LAYOUT_HEADS_TOKENS_DIM,
        .dtype = (enum page_dtype)message->dtype,
    };
    return WIRE_OK;
}

static uint32_t read_request(struct rpc_request *request, struct rpc_recall *recall,
                             const Kvq__RecallRequest *message) {
    uint32_t code;
    if (message->k == 0 || message->k > WIRE_RECALL_K_MAX)
        return rpc_fail(request, WIRE_INVALID, "k: 1 to %d ranges are recalled", WIRE_RECALL_K_MAX);
    if (message->metric > KVQ__METRIC__METRIC_INNER_PRODUCT)
        return rpc_fail(request, WIRE_INVALID, "metric: cosine or inner product");
    recall->query.metric = (enum batch_metric)message->metric;
    recall->query.dim = message->dim;
    recall->query.vector = recall->vector;
    recall->query.k = message->k;
    recall->query.merge = message->merge;
    if ((code = read_filter(request, recall, message)) ||
        (code = read_fetch(request, recall, message)))
        return code;
    return read_scope(request, recall, message);
}

static void free_recall(struct rpc_recall *recall) {
    if (recall->search)
        recall_end(recall->search);
    for (size_t i = 0; i < recall->query.session_count; i++)
        session_unref(recall->query.sessions[i]);
    free(recall->query.sessions);
    free(recall);
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    const Kvq__RecallRequest *message =
        rpc_unpack(request, &kvq__recall_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    if (message->dim == 0 || message->dim > WIRE_DIM_MAX)
        return rpc_fail(request, WIRE_INVALID, "dim: embeddings have 1 to %d numbers",
                        WIRE_DIM_MAX);
    struct rpc_recall *recall = calloc(1, sizeof *recall + message->dim * sizeof recall->vector[0]);
    if (!recall)
        return rpc_fail_store(request, STORE_FULL, NULL);
    uint32_t code = read_request(request, recall, message);
    if (code) {
        free_recall(recall);
        return code;
    }
    request->fetch = (struct rpc_fetch){.recall = recall};
    return WIRE_OK;
}

static enum rpc_step data(struct rpc_request *request, const struct wire_data *data,
                          const void *payload, size_t payload_bytes) {
    struct rpc_recall *recall = request->fetch.recall;
    if (data->part != WIRE_PART_VECTORS || data->layer != 0 || data->first != recall->received ||
        data->tokens > recall->query.dim - recall->received ||
        payload_bytes != data->tokens * sizeof(float)) {
        rpc_fail(request, WIRE_INVALID, "a DATA frame is not the next numbers of the query");
        return RPC_FAILED;
    }
    memcpy(recall->vector + recall->received, payload, payload_bytes);
    recall->received += data->tokens;
    return RPC_MORE;
}

/* --- the search --- */

static enum rpc_step commit(struct rpc_request *request) {
    struct rpc_recall *recall = request->fetch.recall;
    struct recall_query *query = &recall->query;
    if (recall->received < query->dim) {
        rpc_fail(request, WIRE_INCOMPLETE, "the query was committed before all of it came");
        return RPC_FAILED;
    }
    const char *fault = recall_vector_fault(query);
    if (fault) {
        rpc_fail(request, WIRE_INVALID, "the query %s", fault);
        return RPC_FAILED;
    }
    recall->search = recall_begin(request->context->daemon->recall, query);
    query->sessions = NULL;
    query->session_count = 0;
    if (!recall->search) {
        rpc_fail_store(request, STORE_FULL, NULL);
        return RPC_FAILED;
    }
    recall->phase = SEARCHING;
    return RPC_MORE;
}

static size_t hits_bytes_max(const struct rpc_recall *recall) {
    size_t bytes = SHAPE_BYTES;
    for (size_t i = 0; i < recall->hit_count; i++) {
        const struct recall_hit *hit = &recall->hits[i];
        bytes += HIT_BYTES + hit->session->name_bytes + hit->label_bytes + hit->metadata_bytes;
    }
    return bytes;
}

static enum rpc_step step_search(struct rpc_request *request) {
    struct rpc_recall *recall = request->fetch.recall;
    int status = recall_result(recall->search, &recall->hits, &recall->hit_count);
    if (status == STORE_WAIT)
        return RPC_WAIT;
    if (status == STORE_INVALID)
        rpc_fail(request, WIRE_INVALID,
                 "the entries there have another dim than %u, or another metric",
                 recall->query.dim);
    else if (status != STORE_OK)
        rpc_fail_store(request, status, NULL);
    if (status != STORE_OK)
        return RPC_FAILED;
    size_t bytes = RPC_FRAME_START + DATA_HEAD_BYTES + hits_bytes_max(recall);
    if (bytes > request->frame_bytes)
        request->frame_bytes = bytes;
    recall->phase = TELLING;
    return RPC_MORE;
}

/* --- the hits --- */

static void write_hit(const struct recall_hit *hit, Kvq__RecallHit *message) {
    uint64_t now_us = clock_wall_us();
    kvq__recall_hit__init(message);
    message->session =
        (ProtobufCBinaryData){hit->session->name_bytes, (uint8_t *)hit->session->name};
    message->version = hit->version;
    message->first = hit->first;
    message->tokens = hit->tokens;
    message->score = hit->score;
    message->label = (ProtobufCBinaryData){hit->label_bytes, (uint8_t *)hit->label};
    message->metadata =
        (ProtobufCBinaryData){hit->metadata_bytes, (uint8_t *)hit->label + hit->label_bytes};
    message->level = hit->level;
    message->bytes = hit->bytes;
    message->age_ms = hit->put_us < now_us ? (now_us - hit->put_us) / 1000 : 0;
}

/* What the message of the hits points to. */
struct hits_parts {
    Kvq__RecallHit hits[WIRE_RECALL_K_MAX], *pointers[WIRE_RECALL_K_MAX];
    struct messages_geometry geometry;
};

static enum rpc_step tell(struct rpc_request *request, struct rpc_frame *frame) {
    struct rpc_recall *recall = request->fetch.recall;
    Kvq__RecallHits message = KVQ__RECALL_HITS__INIT;
    wire_arena_reset(&request->context->arena);
    struct hits_parts *parts = wire_arena_alloc(&request->context->arena, sizeof *parts);
    if (!parts) {
        rpc_fail_store(request, STORE_FULL, NULL);
        return RPC_FAILED;
    }
    for (size_t i = 0; i < recall->hit_count; i++) {
        write_hit(&recall->hits[i], &parts->hits[i]);
        parts->pointers[i] = &parts->hits[i];
    }
    message.n_hits = recall->hit_count;
    message.hits = parts->pointers;
    if (recall->fetch && recall->hit_count > 0) {
        messages_write_geometry(&recall->hits[0].session->geometry, &parts->geometry);
        message.geometry = &parts->geometry.geometry;
    }
    size_t bytes = protobuf_c_message_pack(&message.base, rpc_payload(frame));
    struct wire_data data = {.tokens = (uint32_t)bytes, .part = WIRE_PART_BYTES};
    rpc_write_data(request, frame, &data, bytes);
    recall->phase = BEGINNING;
    return RPC_MORE;
}

/* --- their K and V --- */

static void next_hit(struct rpc_recall *recall) {
    recall->first_token += recall->hits[recall->hit].tokens;
    recall->hit++;
    recall->phase = BEGINNING;
}

/* Whether the tokens that are there now are those of the hit. */
static bool is_same(const struct fetch *fetch, const struct recall_hit *hit,
                    const struct recall_hit *first) {
    return fetch->session_id == hit->session->id && fetch->cuts == hit->cuts &&
           geometry_equal(&fetch->geometry, &first->session->geometry);
}

static enum rpc_step begin_fetch(struct rpc_request *request) {
    struct rpc_recall *recall = request->fetch.recall;
    struct fetch *fetch = &request->fetch.fetch;
    const struct recall_hit *hit = &recall->hits[recall->hit];
    struct fetch_request wanted = recall->wanted;
    wanted.session = store_name_of(hit->session);
    wanted.first = hit->first;
    wanted.end = hit->first + hit->tokens;
    int status = fetch_begin(request->context->daemon->store, &wanted, fetch);
    if (status == STORE_INVALID)
        rpc_fail(request, WIRE_INVALID, "layers: the model has others");
    else if (status == STORE_UNSUPPORTED)
        rpc_fail(request, WIRE_UNSUPPORTED,
                 "dtype: values are given in the session's own, or as f16, bf16 or f32");
    if (status == STORE_INVALID || status == STORE_UNSUPPORTED)
        return RPC_FAILED;
    if (status != STORE_OK || !is_same(fetch, hit, &recall->hits[0])) {
        next_hit(recall);
        return RPC_MORE;
    }
    rpc_hold_pieces(request, fetch_piece_bytes_max(fetch));
    recall->phase = FETCHING;
    return RPC_MORE;
}

static void end_fetch(struct rpc_recall *recall, const struct fetch *fetch) {
    recall->fetched[recall->hit] = true;
    recall->sent_bytes += fetch->sent_bytes;
    recall->fetched_tokens += fetch->end - fetch->first;
    for (int i = 0; i < FETCH_LEVELS; i++)
        recall->level_tokens[i] += fetch->level_tokens[i];
    for (int part = 0; part < GEOMETRY_PARTS; part++)
        loss_add(&recall->loss[part], &fetch->loss[part]);
    next_hit(recall);
}

static enum rpc_step step_fetch(struct rpc_request *request, struct rpc_frame *frame) {
    struct rpc_context *context = request->context;
    struct rpc_recall *recall = request->fetch.recall;
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
    if (status == STORE_OK)
        end_fetch(recall, fetch);
    else if (status != STORE_MORE)
        next_hit(recall);
    for (size_t i = 0; i < count; i++)
        pieces[i].first = pieces[i].first - fetch->first + recall->first_token;
    rpc_write_pieces(request, frame, pieces, count);
    return RPC_MORE;
}

static enum rpc_step reply(const struct rpc_request *request, struct rpc_frame *frame) {
    struct rpc_recall *recall = request->fetch.recall;
    struct rpc_daemon *daemon = request->context->daemon;
    Kvq__RecallReply message = KVQ__RECALL_REPLY__INIT;
    struct messages_levels levels;
    Kvq__Loss k, v;
    atomic_fetch_add(&daemon->fetched_tokens, recall->fetched_tokens);
    atomic_fetch_add(&daemon->fetched_bytes, recall->sent_bytes);
    messages_write_loss(&recall->loss[PAGE_K], &k);
    messages_write_loss(&recall->loss[PAGE_V], &v);
    message.n_levels = messages_write_levels(recall->level_tokens, &levels);
    message.levels = levels.pointers;
    message.fetched = recall->fetched;
    message.n_fetched = recall->fetch ? recall->hit_count : 0;
    message.bytes = recall->sent_bytes;
    message.k = &k;
    message.v = &v;
    return rpc_reply(request, frame, &message.base);
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    const struct rpc_recall *recall = request->fetch.recall;
    switch (recall->phase) {
    case RECEIVING:
        return RPC_WAIT;
    case SEARCHING:
        return step_search(request);
    case TELLING:
        return tell(request, frame);
    case FETCHING:
        return step_fetch(request, frame);
    default:
        return recall->fetch && recall->hit < recall->hit_count ? begin_fetch(request)
                                                                : reply(request, frame);
    }
}

static void end(struct rpc_request *request) {
    rpc_stop_loading(request);
    free_recall(request->fetch.recall);
}

const struct rpc_operation rpc_recall = {
    .name = "recall", .begin = begin, .step = step, .data = data, .commit = commit, .end = end};
