#include "daemon/recall/key_queries.h"

#include <math.h>
#include <string.h>

#include "daemon/recall/key_kernels.h"

enum { ALIGNMENT = 64, QUERIES_AT_ONCE = 8, BLOCKS_MAX = PAGE_TOKENS_MAX / SUMMARY_BLOCK_TOKENS };

static size_t round_up(size_t count, size_t multiple) {
    return (count + multiple - 1) / multiple * multiple;
}

/* Rows of floats and of weights: with zeros behind the channels, for whole units. */
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
    struct summary_layout layout;
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
    for (size_t block = 0; block < scoring->layout.blocks; block++)
        scores[block] = keep(base + unit * (float)sums[block]);
}

/* Of some queries of the head. */
static void score_some(struct scoring *scoring, const float *queries, size_t count, float *scores,
                       size_t apart) {
    int32_t sums[QUERIES_AT_ONCE * BLOCKS_MAX];
    struct key_weighing weighed[QUERIES_AT_ONCE];
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

static struct scoring begin_head(const struct key_queries_shape *shape, uint8_t *scratch,
                                 const struct key_layer *layer, uint32_t head) {
    size_t row = row_values(shape);
    struct scoring scoring = {.head = page_summary_head(&layer->page, layer->summary, head),
                              .weights = (int8_t *)scratch + row * (1 + sizeof(float))};
    if (!page_summary_layout(&layer->page, &scoring.layout))
        return scoring;
    const uint8_t *steps = scoring.head.steps;
    if (scoring.layout.sharing > 1)
        steps = spread_steps(shape, &scoring.head, scoring.layout.sharing,
                             scratch + row * sizeof(float));
    scoring.weighing = (struct key_weighing){.centres = scoring.head.centres,
                                             .steps = steps,
                                             .channels = round_up(shape->head_dim, KEY_LANES),
                                             .products = (float *)(void *)scratch};
    scoring.job = (struct key_job){
        .units = scoring.head.units,
        .vectors = scoring.layout.vectors,
        .groups = scoring.layout.groups,
        .weights = scoring.weights,
        .weights_apart = row,
        .next = layer->next ? layer->next + (scoring.head.units - layer->summary) : NULL};
    return scoring;
}

void key_queries_score(const struct key_queries_shape *shape, const void *memory, void *scratch,
                       const struct key_layer *layer, float *scores, size_t apart) {
    size_t group = shape->queries / shape->heads, row = row_values(shape);
    for (uint32_t head = 0; head < shape->heads; head++) {
        struct scoring scoring = begin_head(shape, scratch, layer, head);
        for (size_t first = 0; first < group; first += QUERIES_AT_ONCE) {
            size_t query = head * group + first, left = group - first;
            score_some(&scoring, (const float *)memory + query * row,
                       left < QUERIES_AT_ONCE ? left : QUERIES_AT_ONCE, scores + query * apart,
                       apart);
            scoring.job.next = NULL;
        }
    }
}
