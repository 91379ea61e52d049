#include "daemon/recall/key_queries.h"

#include <math.h>
#include <string.h>

#include "daemon/recall/key_kernels.h"

enum { ALIGNMENT = 64, QUERIES_AT_ONCE = 8, BLOCKS_MAX = PAGE_TOKENS_MAX / SUMMARY_BLOCK_TOKENS };

/* Written before they are read: builds that zero every variable first would take a good deal
 * longer.
 */
#define UNZEROED __attribute__((uninitialized))

static size_t round_up(size_t count, size_t multiple) {
    return (count + multiple - 1) / multiple * multiple;
}

/* Rows of floats and of weights: with zeros behind the channels, for whole
 * units. */
static size_t row_values(const struct key_queries_shape *shape) {
    return round_up(shape->head_dim, ALIGNMENT);
}

size_t key_queries_bytes(const struct key_queries_shape *shape) {
    return shape->queries * row_values(shape) * sizeof(float);
}

/* Steps one a channel, products, and weights. */
size_t key_queries_scratch_bytes(const struct key_queries_shape *shape) {
    return row_values(shape) * (1 + sizeof(float) + QUERIES_AT_ONCE);
}

int key_queries_write(const struct key_queries_shape *shape, const void *values, void *memory) {
    const float most = 0x1p40F, share = 1 / sqrtf((float)shape->head_dim);
    float *row = memory;
    memset(memory, 0, key_queries_bytes(shape));
    for (size_t q = 0; q < shape->queries; q++, row += row_values(shape)) {
        memcpy(row, (const uint8_t *)values + q * shape->head_dim * sizeof *row,
               shape->head_dim * sizeof *row);
        for (size_t i = 0; i < shape->head_dim; i++) {
            if (!(fabsf(row[i]) < most))
                return -1;
            row[i] *= share;
        }
    }
    return 0;
}

/* --- scoring --- */

/* Of a head. */
struct scoring {
    struct summary_head head;
    uint32_t blocks;
    struct key_job job;
    struct key_weighing weighing;
    int8_t *weights;
};

static const uint8_t *spread_steps(const struct key_queries_shape *shape,
                                   const struct summary_head *head, uint32_t sharing,
                                   uint8_t *spread) {
    for (size_t i = 0; i < shape->head_dim; i++)
        spread[i] = head->steps[i / sharing];
    return spread;
}

/* Finite, whatever K and the query are; what is no number is the least. */
static inline float keep(float score) {
    score = score > -KEY_SCORE_MAX ? score : -KEY_SCORE_MAX;
    return score < KEY_SCORE_MAX ? score : KEY_SCORE_MAX;
}

/* What a query's sums of codes come to. */
static void write_scores(const struct scoring *scoring, const struct key_weighing *weighing,
                         const int32_t *sums, float *scores) {
    const float middle = (float)SUMMARY_CODE_MAX / 2;
    float unit = scoring->head.step_scale * weighing->unit;
    float base =
        scoring->head.centre_scale * weighing->centre - unit * middle * (float)weighing->sum;
    for (size_t block = 0; block < scoring->blocks; block++)
        scores[block] = keep(base + unit * (float)sums[block]);
}

/* Of some queries of the head. */
static void score_some(struct scoring *scoring, const float *queries, size_t count, float *scores,
                       size_t apart) {
    UNZEROED int32_t sums[QUERIES_AT_ONCE * BLOCKS_MAX];
    UNZEROED struct key_weighing weighed[QUERIES_AT_ONCE];
    struct key_job *job = &scoring->job;
    for (size_t q = 0; q < count; q++) {
        weighed[q] = scoring->weighing;
        weighed[q].query = queries + q * job->weights_apart;
        weighed[q].weights = scoring->weights + q * job->weights_apart;
        key_kernels()->weigh(&weighed[q]);
    }
    job->queries = count;
    job->sums = sums;
    key_kernels()->dots(job);
    for (size_t q = 0; q < count; q++)
        write_scores(scoring, &weighed[q], sums + q * job->groups * SUMMARY_LANES,
                     scores + q * apart);
}

void key_page_init(struct key_page *page, const struct page_shape *shape, const uint8_t *summary) {
    struct summary_head first = page_summary_head(shape, summary, 0);
    struct summary_head next = page_summary_head(shape, summary, shape->heads > 1);
    *page = (struct key_page){.units = (size_t)(first.units - summary),
                              .units_apart = (size_t)(next.units - first.units),
                              .centres = (size_t)((const uint8_t *)first.centres - summary),
                              .centres_apart = (size_t)(next.centres - first.centres),
                              .steps = (size_t)(first.steps - summary),
                              .steps_apart = (size_t)(next.steps - first.steps)};
    if (!page_summary_layout(shape, &page->layout))
        page->layout = (struct summary_layout){.groups = 1, .sharing = 1};
}

/* As page_summary_head(), of a page whose places are known. */
static struct summary_head head_of(const struct key_page *page, const uint8_t *summary,
                                   uint32_t head) {
    struct summary_head found = {.centres = (const int8_t *)summary + page->centres +
                                            head * page->centres_apart,
                                 .steps = summary + page->steps + head * page->steps_apart,
                                 .units = summary + page->units + head * page->units_apart};
    float scales[2];
    memcpy(scales, summary + head * sizeof scales, sizeof scales);
    found.centre_scale = scales[0];
    found.step_scale = scales[1];
    return found;
}

static struct scoring begin_head(const struct key_queries_shape *shape, uint8_t *scratch,
                                 const struct key_layer *layer, uint32_t head) {
    size_t row = row_values(shape);
    const struct summary_layout *layout = &layer->page->layout;
    struct scoring scoring = {.head = head_of(layer->page, layer->summary, head),
                              .blocks = layout->blocks,
                              .weights = (int8_t *)scratch + row * (1 + sizeof(float))};
    const uint8_t *steps = scoring.head.steps;
    if (layout->sharing > 1)
        steps = spread_steps(shape, &scoring.head, layout->sharing, scratch + row * sizeof(float));
    scoring.weighing = (struct key_weighing){.centres = scoring.head.centres,
                                             .steps = steps,
                                             .channels = round_up(shape->head_dim, KEY_LANES),
                                             .products = (float *)(void *)scratch};
    scoring.job = (struct key_job){
        .units = scoring.head.units,
        .vectors = layout->vectors,
        .groups = layout->groups,
        .weights = scoring.weights,
        .weights_apart = row,
        .next = layer->next ? layer->next + (scoring.head.units - layer->summary) : NULL};
    return scoring;
}

/* The kernels see to the units. */
static void prefetch_rows(const struct key_queries_shape *shape, const struct key_layer *layer,
                          uint32_t head) {
    const struct key_page *page = layer->page;
    const uint8_t *centres = layer->next + page->centres + head * page->centres_apart;
    const uint8_t *steps = layer->next + page->steps + head * page->steps_apart;
    for (size_t i = 0; i < shape->head_dim; i += ALIGNMENT) {
        __builtin_prefetch(centres + i);
        __builtin_prefetch(steps + i / page->layout.sharing);
    }
}

void key_queries_score(const struct key_queries_shape *shape, const void *memory, void *scratch,
                       const struct key_layer *layer, float *scores, size_t apart) {
    size_t group = shape->queries / shape->heads, row = row_values(shape);
    for (uint32_t head = 0; head < shape->heads; head++) {
        struct scoring scoring = begin_head(shape, scratch, layer, head);
        if (layer->next)
            prefetch_rows(shape, layer, head);
        for (size_t first = 0; first < group; first += QUERIES_AT_ONCE) {
            size_t query = head * group + first, left = group - first;
            score_some(&scoring, (const float *)memory + query * row,
                       left < QUERIES_AT_ONCE ? left : QUERIES_AT_ONCE, scores + query * apart,
                       apart);
            scoring.job.next = NULL;
        }
    }
}
