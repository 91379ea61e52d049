#include "daemon/recall/key_queries.h"

#include <math.h>
#include <string.h>

enum { ALIGNMENT = 64, BLOCKS_MAX = KEY_GROUPS_MAX * SUMMARY_LANES };

_Static_assert(PAGE_TOKENS_MAX <= BLOCKS_MAX * SUMMARY_BLOCK_TOKENS, "groups of a page");

static size_t round_up(size_t count, size_t multiple) {
    return (count + multiple - 1) / multiple * multiple;
}

/* Rows of queries and of weights: with zeros behind the channels, for whole units. */
static size_t row_values(const struct key_queries_shape *shape) {
    return round_up(shape->head_dim, ALIGNMENT);
}

static size_t units_offset(const struct key_queries_shape *shape) {
    return shape->queries * row_values(shape) * sizeof(int16_t);
}

/* Rows, and behind them what 1 stands for in each. */
size_t key_queries_bytes(const struct key_queries_shape *shape) {
    return units_offset(shape) + round_up(shape->queries * sizeof(float), ALIGNMENT);
}

static size_t lines_bytes(const struct key_queries_shape *shape) {
    return round_up(shape->queries * sizeof(struct key_line), ALIGNMENT);
}

/* Lines, a head's steps one a channel, and weights. */
size_t key_queries_scratch_bytes(const struct key_queries_shape *shape) {
    return lines_bytes(shape) + row_values(shape) * (1 + shape->queries);
}

static const int16_t *row_of(const struct key_queries_shape *shape, const void *memory,
                             size_t query) {
    return (const int16_t *)memory + query * row_values(shape);
}

static const float *units_of(const struct key_queries_shape *shape, const void *memory) {
    return (const float *)(const void *)((const uint8_t *)memory + units_offset(shape));
}

/* That products with any head's centres can be added up in 32 bits. */
static float integer_max(size_t head_dim) {
    size_t most = ((size_t)INT32_MAX >> 7) / head_dim;
    return most < INT16_MAX ? (float)most : INT16_MAX;
}

static float value_at(const uint8_t *values, size_t i) {
    float value;
    memcpy(&value, values + i * sizeof value, sizeof value);
    return value;
}

/* -1 if one is no number, or too large. */
static float largest_magnitude(const uint8_t *values, size_t count) {
    const float most = 0x1p40F;
    float largest = 0;
    for (size_t i = 0; i < count; i++) {
        float magnitude = fabsf(value_at(values, i));
        if (!(magnitude < most))
            return -1;
        largest = fmaxf(largest, magnitude);
    }
    return largest;
}

/* What 1 stands for; -1 if it cannot be. */
static float write_row(const uint8_t *values, size_t count, int16_t *row) {
    const float least = 0x1p-80F;
    float largest = largest_magnitude(values, count), most = integer_max(count);
    for (size_t i = 0; i < count && largest > least; i++)
        row[i] = (int16_t)lrintf(value_at(values, i) * (most / largest));
    return largest > least ? largest / most : fminf(largest, 0);
}

int key_queries_write(const struct key_queries_shape *shape, const void *values, void *memory) {
    float share = KEY_DOUBLING / (float)M_LN2 / sqrtf((float)shape->head_dim);
    float *units = (float *)(void *)((uint8_t *)memory + units_offset(shape));
    size_t row_bytes = shape->head_dim * sizeof(float), row = row_values(shape);
    memset(memory, 0, key_queries_bytes(shape));
    for (size_t q = 0; q < shape->queries; q++) {
        units[q] = share * write_row((const uint8_t *)values + q * row_bytes, shape->head_dim,
                                     (int16_t *)memory + q * row);
        if (units[q] < 0)
            return -1;
    }
    return 0;
}

/* --- scoring --- */

/* Of a chunk's layer. */
struct scoring {
    const struct key_queries_shape *shape;
    const struct key_layer *layer;
    const struct key_kernels *kernels;
    const int16_t *rows;
    const float *units; /* [queries]: what 1 stands for in a row */
    struct key_line *lines;
    uint8_t *spread; /* steps one a channel, where channels share one */
    int8_t *weights;
    size_t row, group; /* queries a head */
};

static struct scoring scoring_of(const struct key_queries_shape *shape, const void *memory,
                                 void *scratch, const struct key_layer *layer) {
    uint8_t *spread = (uint8_t *)scratch + lines_bytes(shape);
    return (struct scoring){.shape = shape,
                            .layer = layer,
                            .kernels = key_kernels(),
                            .rows = row_of(shape, memory, 0),
                            .units = units_of(shape, memory),
                            .lines = scratch,
                            .spread = spread,
                            .weights = (int8_t *)spread + row_values(shape),
                            .row = row_values(shape),
                            .group = shape->queries / shape->heads};
}

static const uint8_t *steps_of(const struct scoring *scoring, const struct summary_head *head) {
    uint32_t sharing = scoring->layer->layout->sharing;
    if (sharing == 1)
        return head->steps;
    for (size_t i = 0; i < scoring->shape->head_dim; i++)
        scoring->spread[i] = head->steps[i / sharing];
    return scoring->spread;
}

/* Of a query that was weighed, in which 1 stands for `unit`. */
static struct key_line line_of(const struct summary_head *head, const struct key_weighing *weighed,
                               float unit) {
    const float middle = (float)SUMMARY_CODE_MAX / 2;
    float weight = head->step_scale * unit * (0x1p23F / (float)weighed->scale);
    return (struct key_line){.base = head->centre_scale * unit * (float)weighed->centre -
                                     weight * middle * (float)weighed->sum,
                             .unit = weight};
}

static void weigh_head(const struct scoring *scoring, uint32_t head) {
    const struct key_layer *layer = scoring->layer;
    struct summary_head of = page_summary_head(layer->layout, layer->summary, head);
    struct key_weighing weighing = {.centres = of.centres,
                                    .steps = steps_of(scoring, &of),
                                    .channels = round_up(scoring->shape->head_dim, KEY_LANES)};
    key_prefetch(of.centres, layer->layout->units - layer->layout->centres);
    for (size_t q = head * scoring->group; q < (head + 1) * scoring->group; q++) {
        weighing.query = scoring->rows + q * scoring->row;
        weighing.weights = scoring->weights + q * scoring->row;
        scoring->kernels->weigh(&weighing);
        scoring->lines[q] = line_of(&of, &weighing, scoring->units[q]);
    }
}

/* NULL if all that a group has room for counts. */
static const uint8_t *left_out_of(const struct key_layer *layer, uint8_t *left_out) {
    uint32_t room = layer->layout->groups * SUMMARY_LANES;
    if (layer->first == 0 && layer->end == room)
        return NULL;
    for (uint32_t block = 0; block < room; block++)
        left_out[block] = block < layer->first || block >= layer->end;
    return left_out;
}

/* The job has what all heads have. */
static void score_head(const struct scoring *scoring, uint32_t head, const struct key_scored *to,
                       struct key_job *job) {
    const struct key_layer *layer = scoring->layer;
    job->units = layer->summary + layer->layout->units + head * layer->layout->head_bytes;
    for (size_t first = 0; first < scoring->group; first += KEY_QUERIES_MAX) {
        size_t query = head * scoring->group + first, left = scoring->group - first;
        job->queries = left < KEY_QUERIES_MAX ? left : KEY_QUERIES_MAX;
        job->weights = scoring->weights + query * scoring->row;
        job->lines = scoring->lines + query;
        job->scores = to->scores + query * to->apart;
        job->sums = to->sums + query;
        scoring->kernels->score(job);
    }
}

void key_queries_score(const struct key_queries_shape *shape, const void *memory, void *scratch,
                       const struct key_layer *layer, const struct key_scored *to) {
    uint8_t left_out[BLOCKS_MAX];
    struct scoring scoring = scoring_of(shape, memory, scratch, layer);
    struct key_job job = {.vectors = layer->layout->vectors,
                          .groups = layer->layout->groups,
                          .weights_apart = scoring.row,
                          .left_out = left_out_of(layer, left_out),
                          .scores_apart = to->apart};
    for (uint32_t head = 0; head < shape->heads; head++) {
        weigh_head(&scoring, head);
        score_head(&scoring, head, to, &job);
    }
}
