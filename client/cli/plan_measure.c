/* What a session takes at a level, out of the chunks that it is made of: each of the tokens of a
 * page, in all layers, kept together. */
#include "client/cli/append.h"
#include "client/cli/plan.h"
#include "proto/page/page.h"

#include <stdlib.h>

/* What the daemon keeps beside coded pages: a header with names, and a directory of the pages, in
 * units of the pool; a handle of each chunk; a session's own. */
enum {
    RECORD_HEADER_BYTES = 160,
    DIRECTORY_ENTRY_BYTES = 24,
    PAGE_ALIGNMENT = 8,
    POOL_UNIT_BYTES = 4096,
    CHUNK_BYTES = 512 + 32,
    SESSION_BYTES = 1 << 10,
    SAMPLE_PAGES_MAX = 64,
};

struct coding {
    const struct plan *plan;
    const struct plan_sample *sample;
    void *workspace, *page;
    size_t page_bytes_max;
};

static uint64_t round_up(uint64_t bytes, uint64_t unit) {
    return (bytes + unit - 1) / unit * unit;
}

/* Where the sample has fewer layers than the model, its layers stand evenly apart in it. */
static uint32_t model_layer(const struct coding *coding, uint32_t layer) {
    uint32_t layers = coding->sample->geometry.layers;
    return layers > 1 ? layer * (coding->plan->geometry.layers - 1) / (layers - 1) : 0;
}

/* Tokens of the sample that make a chunk. */
struct stretch {
    uint64_t first;
    uint32_t tokens, sinks;
    int level;
};

static bool code_page(const struct coding *coding, const struct stretch *stretch,
                      enum page_part part, uint32_t layer, size_t *bytes) {
    const struct kvq_geometry *geometry = &coding->sample->geometry;
    const struct kvq_source *values = part == PAGE_K ? &coding->sample->k : &coding->sample->v;
    uint32_t head_dim = part == PAGE_K ? geometry->head_dim_k : geometry->head_dim_v;
    size_t channels = (size_t)geometry->heads * head_dim;
    struct page_source source = {
        .shape = {stretch->tokens, geometry->heads, head_dim, (enum page_dtype)geometry->dtype},
        .part = part,
        .level = stretch->level,
        .sink_tokens = stretch->sinks,
        .values = (const char *)values->block + layer * values->layer_stride +
                  stretch->first * channels * kvq_dtype_bytes(geometry->dtype),
        .strides = {.token = channels, .head = head_dim},
        .layer = model_layer(coding, layer),
        .layers = coding->plan->geometry.layers,
    };
    return page_encode(&source, coding->workspace, coding->page, coding->page_bytes_max, bytes,
                       NULL) == PAGE_OK;
}

/* A chunk of all the model's layers. 0: it cannot be coded. */
static uint64_t chunk_bytes(const struct coding *coding, const struct stretch *stretch) {
    const struct kvq_geometry *geometry = &coding->sample->geometry;
    uint64_t layers = coding->plan->geometry.layers, parts = geometry->head_dim_v > 0 ? 2 : 1;
    uint64_t pages = 0, coded_layers = 0;
    for (; coded_layers < geometry->layers; coded_layers++)
        for (uint64_t part = 0; part < parts; part++) {
            size_t bytes;
            if (!code_page(coding, stretch, (enum page_part)part, (uint32_t)coded_layers, &bytes))
                return 0;
            pages += round_up(bytes, PAGE_ALIGNMENT);
        }
    if (coded_layers == 0)
        return 0;
    uint64_t directory = layers * parts * DIRECTORY_ENTRY_BYTES;
    uint64_t record = RECORD_HEADER_BYTES + directory + pages * layers / coded_layers;
    return round_up(record, POOL_UNIT_BYTES) + CHUNK_BYTES;
}

/* The mean of whole chunks that are not a session's first. */
static double mean_chunk_bytes(const struct coding *coding, int level) {
    struct stretch stretch = {.tokens = coding->plan->page_tokens, .level = level};
    uint64_t whole = coding->sample->tokens / stretch.tokens, sum = 0, count = 0;
    for (uint64_t i = whole > 1 ? 1 : 0; i < whole && count < SAMPLE_PAGES_MAX; i++, count++) {
        stretch.first = i * stretch.tokens;
        uint64_t bytes = chunk_bytes(coding, &stretch);
        if (bytes == 0)
            return 0;
        sum += bytes;
    }
    return count > 0 ? (double)sum / (double)count : 0;
}

static uint64_t values_of(const struct kvq_geometry *geometry, uint64_t tokens) {
    return tokens * geometry->layers * geometry->heads *
           (geometry->head_dim_k + geometry->head_dim_v);
}

static uint32_t at_most(uint64_t count, uint32_t most) {
    return count < most ? (uint32_t)count : most;
}

/* The first chunk has the sinks, the last may be shorter. */
static bool measure_level(const struct coding *coding, int level, double seen_bits,
                          struct plan_level *to) {
    const struct plan *plan = coding->plan;
    struct stretch first = {.tokens = at_most(plan->tokens, plan->page_tokens), .level = level};
    first.sinks = at_most(first.tokens, PAGE_SINK_TOKENS);
    uint64_t behind = plan->tokens - first.tokens, whole = behind / plan->page_tokens;
    struct stretch last = {.tokens = (uint32_t)(behind % plan->page_tokens), .level = level};
    uint64_t first_bytes = chunk_bytes(coding, &first);
    uint64_t last_bytes = last.tokens > 0 ? chunk_bytes(coding, &last) : 0;
    double next_bytes = mean_chunk_bytes(coding, level);
    if (first_bytes == 0 || next_bytes <= 0 || (last.tokens > 0 && last_bytes == 0))
        return false;
    double bytes = (double)(first_bytes + last_bytes) + (double)whole * next_bytes;
    double bits = 8 * next_bytes / (double)values_of(&plan->geometry, plan->page_tokens);
    to->of_sessions = seen_bits > 0;
    if (to->of_sessions)
        bytes *= seen_bits / bits;
    to->session_bytes = SESSION_BYTES + (uint64_t)bytes;
    return true;
}

static bool take_memory(struct coding *coding) {
    struct page_shape largest = {PAGE_TOKENS_MAX, 1, PAGE_VALUES_MAX / PAGE_TOKENS_MAX, PAGE_F32};
    coding->page_bytes_max = page_bound_bytes(&largest);
    coding->workspace = aligned_alloc(64, PAGE_WORKSPACE_BYTES);
    coding->page = malloc(coding->page_bytes_max);
    return coding->workspace && coding->page;
}

bool plan_measure(struct plan *plan, const struct plan_sample *sample) {
    struct coding coding = {.plan = plan, .sample = sample};
    bool done = take_memory(&coding);
    for (int i = 0; done && i < KVQ_LEVELS; i++)
        done = measure_level(&coding, i + KVQ_LEVEL_EXACT, plan->seen_bits[i], &plan->levels[i]);
    free(coding.workspace);
    free(coding.page);
    if (!done)
        complain("%s: the sample of values cannot be coded", plan->model);
    return done;
}

/* Of the memory limit the daemon takes some for itself, more with more processors; of the rest
 * memory_high percent are used before room is made in it. */
uint64_t plan_sessions_held(const struct plan *plan, const struct plan_level *level) {
    enum { OWN_BYTES = 20 << 20, OWN_BYTES_MAX = 116 << 20, OWN_SHARE = 20, HIGH_PERCENT = 92 };
    uint64_t chunk_bytes = plan->page_tokens * token_bytes_of(&plan->geometry);
    uint64_t own_bytes = OWN_BYTES + plan->memory_bytes / OWN_SHARE;
    own_bytes = (own_bytes < OWN_BYTES_MAX ? own_bytes : OWN_BYTES_MAX) + chunk_bytes;
    if (own_bytes >= plan->memory_bytes)
        return 0;
    return (plan->memory_bytes - own_bytes) / 100 * HIGH_PERCENT / level->session_bytes;
}
