#include "daemon/recall/recall_keys.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/recall/key_queries.h"

enum { STEP_BYTES = 4 << 20, SCORES_BYTES = 32 << 20, ALIGNMENT = 64 };

/* Blocks of one slice of the session. */
struct source {
    struct chunk *chunk;    /* owned reference */
    const uint8_t *summary; /* of its first layer */
    uint64_t start;         /* the session's token that is the slice's first, */
    uint32_t first, tokens; /* which is this one of the chunk's */
    size_t first_block;     /* the place of the chunk's first block among all, */
    size_t first_lane;      /* and with its groups filled up */
};

struct recall_keys {
    struct store *store;
    const struct fetch *fetch;
    struct key_queries_shape shape;
    uint32_t k, layers, arrived;
    size_t query_bytes;
    uint64_t charged_bytes;
    uint8_t *queries, *has; /* [layers] */
    /* from the first step on */
    struct source *sources;
    size_t source_count, source_capacity, block_count, lane_count;
    struct key_range *blocks, *ranges; /* [block_count]; [layers][ranges_apart] */
    size_t ranges_apart, *range_counts;
    bool all_choosable;
    int16_t *scores;      /* [band][queries * lane_count]: of each source [queries][lanes] */
    struct key_sum *sums; /* [band][queries], of the scores so far */
    int16_t *wholes;      /* [queries], their logarithms, of a layer */
    int16_t *best;        /* [lane_count] */
    void *query_scratch;
    struct summary_layout layout; /* of the chunks that were scored last, of so many tokens */
    uint32_t layout_tokens;
    uint32_t band;   /* layers that are scored together: a chunk's stand side by side */
    uint32_t layer;  /* the first of them, counted from the first asked for, */
    uint32_t chosen; /* how many of them are done, */
    size_t source;   /* and what is scored of them next */
    bool begun;
};

/* --- memory --- */

static size_t round_up(size_t count, size_t multiple) {
    return (count + multiple - 1) / multiple * multiple;
}

/* NULL at the memory limit. */
static void *take(struct recall_keys *recall, size_t count, size_t bytes) {
    size_t all = round_up(count * bytes, ALIGNMENT);
    if (all == 0 || !budget_reserve(&recall->store->budget, all))
        return NULL;
    void *memory = aligned_alloc(ALIGNMENT, all);
    if (!memory) {
        budget_release(&recall->store->budget, all);
        return NULL;
    }
    recall->charged_bytes += all;
    return memory;
}

static void *take_zeroed(struct recall_keys *recall, size_t count, size_t bytes) {
    void *memory = take(recall, count, bytes);
    return memory ? memset(memory, 0, count * bytes) : NULL;
}

static void let_go_of_chunks(struct recall_keys *recall) {
    for (size_t i = 0; i < recall->source_count; i++)
        chunk_unref(recall->sources[i].chunk);
    recall->source_count = 0;
}

void recall_keys_end(struct recall_keys *recall) {
    let_go_of_chunks(recall);
    free(recall->queries);
    free(recall->has);
    free(recall->sources);
    free(recall->blocks);
    free(recall->ranges);
    free(recall->range_counts);
    free(recall->scores);
    free(recall->best);
    free(recall->sums);
    free(recall->wholes);
    free(recall->query_scratch);
    budget_release(&recall->store->budget, recall->charged_bytes);
    free(recall);
}

/* --- beginning --- */

static struct session *find(struct store *store, const struct fetch *fetch) {
    struct session *session = store_find(store, fetch_name(fetch));
    if (!session || session->id == fetch->session_id)
        return session;
    session_unref(session);
    return NULL;
}

static const char *fault_of(const struct recall_keys_request *request) {
    const struct geometry *geometry = &request->fetch->geometry;
    uint64_t layers = request->fetch->end_layer - request->fetch->first_layer;
    if (request->k == 0 || request->k > RECALL_BLOCKS_MAX)
        return "k: 1 to 65536 blocks of each layer can be asked for";
    if (request->queries == 0 || request->queries % geometry->heads != 0)
        return "query_heads is no multiple of the model's heads";
    if (request->queries > RECALL_QUERY_VALUES_MAX ||
        layers * request->queries * geometry->head_dim_k > RECALL_QUERY_VALUES_MAX)
        return "query_heads: there are at most 16,777,216 values of queries";
    return NULL;
}

static bool provide_queries(struct recall_keys *recall) {
    recall->queries = take(recall, recall->layers, recall->query_bytes);
    recall->has = take_zeroed(recall, recall->layers, sizeof *recall->has);
    recall->range_counts = take_zeroed(recall, recall->layers, sizeof *recall->range_counts);
    return recall->queries && recall->has && recall->range_counts;
}

int recall_keys_begin(struct store *store, const struct recall_keys_request *request,
                      struct recall_keys **recall, const char **fault) {
    const struct fetch *fetch = request->fetch;
    *fault = fault_of(request);
    if (*fault)
        return STORE_INVALID;
    struct session *session = find(store, fetch);
    if (!session)
        return STORE_MISS;
    bool keeps = session->key_summaries;
    session_unref(session);
    if (!keeps)
        return STORE_UNSUPPORTED;
    struct recall_keys *new = calloc(1, sizeof *new);
    if (!new)
        return STORE_FULL;
    *new = (struct recall_keys){
        .store = store,
        .fetch = fetch,
        .shape = {fetch->geometry.heads, request->queries, fetch->geometry.head_dim_k},
        .k = request->k,
        .layers = fetch->end_layer - fetch->first_layer};
    new->query_bytes = key_queries_bytes(&new->shape);
    if (!provide_queries(new)) {
        recall_keys_end(new);
        return STORE_FULL;
    }
    *recall = new;
    return STORE_OK;
}

size_t recall_keys_query_bytes(const struct recall_keys *recall) {
    return (size_t)recall->shape.queries * recall->shape.head_dim * sizeof(float);
}

int recall_keys_put(struct recall_keys *recall, uint32_t layer, const void *values, size_t bytes) {
    const struct key_queries_shape *shape = &recall->shape;
    uint32_t i = layer - recall->fetch->first_layer;
    if (layer < recall->fetch->first_layer || i >= recall->layers || recall->has[i] ||
        bytes != recall_keys_query_bytes(recall) ||
        key_queries_write(shape, values, recall->queries + i * recall->query_bytes) < 0)
        return STORE_INVALID;
    recall->has[i] = 1;
    recall->arrived++;
    return STORE_OK;
}

/* --- what is scored --- */

/* A summary of another shape is no summary of this session's: what was taken over may be anything.
 */
static bool has_summary(const struct fetch *fetch, const struct chunk *chunk) {
    return chunk->summary.bytes > 0 &&
           chunk->summary.bytes == key_summary_bytes(&fetch->geometry, chunk->tokens);
}

static uint32_t blocks_of(const struct chunk *chunk) {
    return (chunk->tokens + SUMMARY_BLOCK_TOKENS - 1) / SUMMARY_BLOCK_TOKENS;
}

static size_t lanes_of(const struct chunk *chunk) {
    return round_up(blocks_of(chunk), SUMMARY_LANES);
}

static void hold_chunk(struct recall_keys *recall, const struct slice *slice) {
    chunk_ref(slice->chunk);
    recall->sources[recall->source_count++] = (struct source){
        .chunk = slice->chunk,
        .summary = key_summary_layer(&slice->chunk->summary, &recall->fetch->geometry,
                                     slice->chunk->tokens, 0),
        .start = slice->start,
        .first = slice->first,
        .tokens = slice->tokens,
    };
}

/* With the session locked. False if there is no room for all that it has. */
static bool hold_chunks(struct recall_keys *recall, const struct session *session) {
    const struct slice *slices = session->slices;
    size_t i = 0;
    for (; i < session->slice_count && recall->source_count < recall->source_capacity; i++)
        if (has_summary(recall->fetch, slices[i].chunk))
            hold_chunk(recall, &slices[i]);
    return i == session->slice_count;
}

static size_t slices_of(struct session *session) {
    pthread_mutex_lock(session->lock);
    size_t count = session->slice_count;
    pthread_mutex_unlock(session->lock);
    return count;
}

/* STORE_OK, STORE_MISS, STORE_FULL, or STORE_MORE if the session has grown meanwhile. */
static int hold_session(struct recall_keys *recall, struct session *session) {
    recall->source_capacity = slices_of(session);
    free(recall->sources);
    recall->sources = take(recall, recall->source_capacity + 1, sizeof *recall->sources);
    if (!recall->sources)
        return STORE_FULL;
    pthread_mutex_lock(session->lock);
    bool all = hold_chunks(recall, session), deleted = session->deleted;
    pthread_mutex_unlock(session->lock);
    if (deleted)
        return STORE_MISS;
    if (all)
        return STORE_OK;
    let_go_of_chunks(recall);
    return STORE_MORE;
}

/* Only of what is held in the end: what a session that grew had before is not counted twice. */
static void place_sources(struct recall_keys *recall) {
    for (size_t i = 0; i < recall->source_count; i++) {
        struct source *source = &recall->sources[i];
        source->first_block = recall->block_count;
        source->first_lane = recall->lane_count;
        recall->block_count += blocks_of(source->chunk);
        recall->lane_count += lanes_of(source->chunk);
    }
}

static int hold_all(struct recall_keys *recall) {
    struct session *session = find(recall->store, recall->fetch);
    int status = session ? STORE_MORE : STORE_MISS;
    while (status == STORE_MORE)
        status = hold_session(recall, session);
    if (session)
        session_unref(session);
    return status;
}

/* --- blocks --- */

/* The tokens of a chunk's block that the slice has: the first of them, in the session, and how
 * many.
 */
static struct key_range block_of(const struct source *source, uint32_t block) {
    uint32_t from = block * SUMMARY_BLOCK_TOKENS, to = from + SUMMARY_BLOCK_TOKENS;
    uint32_t end = source->first + source->tokens;
    from = from > source->first ? from : source->first;
    to = to < end ? to : end;
    return (struct key_range){.first = source->start + (from - source->first),
                              .tokens = to > from ? to - from : 0};
}

/* Those that are not wholly among the tokens asked for are not chosen. */
static struct key_range choosable(const struct fetch *fetch, struct key_range block) {
    if (block.first < fetch->first || block.first + block.tokens > fetch->end)
        block.tokens = 0;
    return block;
}

static void list_blocks(struct recall_keys *recall) {
    recall->all_choosable = true;
    for (size_t i = 0; i < recall->source_count; i++) {
        const struct source *source = &recall->sources[i];
        for (uint32_t block = 0; block < blocks_of(source->chunk); block++) {
            struct key_range range = choosable(recall->fetch, block_of(source, block));
            recall->blocks[source->first_block + block] = range;
            recall->all_choosable &= range.tokens > 0;
        }
    }
}

/* As many layers together as there is room for, and not much more than a cache has. */
static bool provide_bands(struct recall_keys *recall) {
    size_t queries = recall->shape.queries,
           layer_bytes = queries * recall->lane_count * sizeof *recall->scores;
    size_t most = SCORES_BYTES / layer_bytes;
    most = most < recall->layers ? most : recall->layers;
    recall->band = most > 0 ? (uint32_t)most : 1;
    recall->scores = take(recall, recall->band, layer_bytes);
    if (!recall->scores && recall->band > 1) {
        recall->band = 1;
        recall->scores = take(recall, 1, layer_bytes);
    }
    recall->sums = take(recall, recall->band * queries, sizeof *recall->sums);
    return recall->scores && recall->sums;
}

static bool provide_scores(struct recall_keys *recall) {
    size_t blocks = recall->block_count;
    recall->ranges_apart = blocks < recall->k ? blocks : recall->k;
    recall->blocks = take(recall, blocks, sizeof *recall->blocks);
    recall->best = take(recall, recall->lane_count, sizeof *recall->best);
    recall->wholes = take(recall, recall->shape.queries, sizeof *recall->wholes);
    recall->query_scratch = take_zeroed(recall, 1, key_queries_scratch_bytes(&recall->shape));
    recall->ranges = take(recall, recall->layers * recall->ranges_apart, sizeof *recall->ranges);
    return provide_bands(recall) && recall->blocks && recall->best && recall->wholes &&
           recall->query_scratch && recall->ranges;
}

static int begin_scoring(struct recall_keys *recall) {
    if (recall->arrived < recall->layers)
        return STORE_INCOMPLETE;
    int status = hold_all(recall);
    if (status != STORE_OK)
        return status;
    place_sources(recall);
    recall->begun = true;
    if (recall->block_count == 0) { /* nothing has a summary yet */
        recall->layer = recall->layers;
        return STORE_OK;
    }
    if (!provide_scores(recall))
        return STORE_FULL;
    list_blocks(recall);
    return STORE_MORE;
}

/* --- scoring --- */

static struct summary_layout layout_of(const struct recall_keys *recall, uint32_t tokens) {
    struct summary_layout layout = {0};
    struct page_shape shape = geometry_shape(&recall->fetch->geometry, PAGE_K, tokens);
    (void)page_summary_layout(&shape, &layout); /* it has one: there are summaries of it */
    return layout;
}

static void see_layout(struct recall_keys *recall, uint32_t tokens) {
    if (tokens != recall->layout_tokens)
        recall->layout = layout_of(recall, tokens);
    recall->layout_tokens = tokens;
}

/* Layers of the band: so many are left to be scored together. */
static uint32_t band_layers(const struct recall_keys *recall) {
    uint32_t left = recall->layers - recall->layer;
    return left < recall->band ? left : recall->band;
}

static const uint8_t *summary_of(const struct recall_keys *recall, size_t i, uint32_t layer) {
    size_t of_all = recall->fetch->first_layer + recall->layer + layer;
    return recall->sources[i].summary + of_all * recall->layout.bytes;
}

static int16_t *scores_of(const struct recall_keys *recall, const struct source *source,
                          uint32_t layer) {
    return recall->scores +
           (layer * recall->lane_count + source->first_lane) * recall->shape.queries;
}

static void score_layer(struct recall_keys *recall, size_t i, uint32_t layer) {
    const struct source *source = &recall->sources[i];
    const uint32_t block = SUMMARY_BLOCK_TOKENS;
    size_t queries = recall->shape.queries;
    struct key_layer of = {.layout = &recall->layout,
                           .summary = summary_of(recall, i, layer),
                           .first = source->first / block,
                           .end = (source->first + source->tokens + block - 1) / block};
    struct key_scored to = {.scores = scores_of(recall, source, layer),
                            .apart = lanes_of(source->chunk),
                            .sums = recall->sums + layer * queries};
    key_queries_score(&recall->shape,
                      recall->queries + (recall->layer + layer) * recall->query_bytes,
                      recall->query_scratch, &of, &to);
}

/* Bytes of it. Blocks that the session does not have any more have no part in what the others
 * share. */
static size_t score_source(struct recall_keys *recall, size_t i) {
    see_layout(recall, recall->sources[i].chunk->tokens);
    for (uint32_t layer = 0; layer < band_layers(recall); layer++)
        score_layer(recall, i, layer);
    return band_layers(recall) * recall->layout.bytes;
}

static void begin_band(struct recall_keys *recall) {
    for (size_t q = 0; q < recall->band * recall->shape.queries; q++)
        for (size_t lane = 0; lane < KEY_LANES; lane++) {
            recall->sums[q].bases[lane] = KEY_BASE_MIN;
            recall->sums[q].sums[lane] = 0;
        }
}

/* Of each block the largest share that a query gives it, as a logarithm. */
static void find_best(struct recall_keys *recall) {
    const struct key_kernels *kernels = key_kernels();
    size_t queries = recall->shape.queries;
    for (size_t q = 0; q < queries; q++)
        recall->wholes[q] = key_sum_logarithm(&recall->sums[recall->chosen * queries + q]);
    for (size_t i = 0; i < recall->source_count; i++) {
        const struct source *source = &recall->sources[i];
        struct key_scores all = {.scores = scores_of(recall, source, recall->chosen),
                                 .wholes = recall->wholes,
                                 .queries = queries,
                                 .lanes = lanes_of(source->chunk)};
        /* What is no block is written over by the next chunk's. */
        kernels->best(&all, recall->best + source->first_block);
    }
    for (size_t b = 0; !recall->all_choosable && b < recall->block_count; b++)
        recall->best[b] = recall->blocks[b].tokens > 0 ? recall->best[b] : INT16_MIN;
}

/* Of a layer of the band. */
static void choose(struct recall_keys *recall) {
    uint32_t layer = recall->layer + recall->chosen;
    find_best(recall);
    recall->range_counts[layer] =
        key_choose(recall->best, recall->blocks, recall->block_count, recall->k,
                   recall->ranges + layer * recall->ranges_apart);
}

static void score_some(struct recall_keys *recall) {
    size_t bytes = 0;
    if (recall->source == 0)
        begin_band(recall);
    while (recall->source < recall->source_count && bytes < STEP_BYTES)
        bytes += score_source(recall, recall->source++);
}

static int choose_next(struct recall_keys *recall) {
    choose(recall);
    if (++recall->chosen < band_layers(recall))
        return STORE_MORE;
    recall->layer += recall->chosen;
    recall->chosen = 0;
    recall->source = 0;
    return recall->layer < recall->layers ? STORE_MORE : STORE_OK;
}

static int do_some(struct recall_keys *recall) {
    if (recall->source == recall->source_count)
        return choose_next(recall);
    score_some(recall);
    return STORE_MORE;
}

int recall_keys_step(struct recall_keys *recall) {
    int status = recall->begun ? do_some(recall) : begin_scoring(recall);
    if (status != STORE_MORE)
        let_go_of_chunks(recall);
    return status;
}

const struct key_range *recall_keys_ranges(const struct recall_keys *recall, uint32_t layer,
                                           size_t *count) {
    uint32_t i = layer - recall->fetch->first_layer;
    *count = recall->range_counts[i];
    return recall->ranges ? recall->ranges + i * recall->ranges_apart : NULL;
}
