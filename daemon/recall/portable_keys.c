#include "daemon/recall/key_common.h"

#include <stdlib.h>

#include "proto/page/summary.h"

enum { QUAD = 4, BYTES = SUMMARY_VECTOR_BYTES, VECTORS = SUMMARY_UNIT_VECTORS };

/* Four channels of sixteen blocks. */
static void add_vector(const uint8_t *restrict codes, const int8_t *restrict weights,
                       int32_t *restrict sums) {
    for (size_t lane = 0; lane < SUMMARY_LANES; lane++)
        for (size_t i = 0; i < QUAD; i++)
            sums[lane] += codes[QUAD * lane + i] * weights[i];
}

static void add_unit(const struct key_job *job, size_t first, int32_t *dots) {
    uint8_t codes[VECTORS * BYTES];
    page_summary_unpack(job->units + first / VECTORS * SUMMARY_UNIT_BYTES, codes);
    for (size_t v = 0; v < VECTORS; v++)
        for (size_t q = 0; q < job->queries; q++)
            add_vector(codes + v * BYTES,
                       job->weights + q * job->weights_apart + (first + v) / job->groups * QUAD,
                       dots + (q * job->groups + (first + v) % job->groups) * SUMMARY_LANES);
}

static void score(const struct key_job *job) {
    int32_t dots[KEY_QUERIES_MAX * KEY_GROUPS_MAX * SUMMARY_LANES] = {0};
    for (size_t first = 0; first < job->vectors; first += VECTORS)
        add_unit(job, first, dots);
    key_finish(job, dots);
}

static int32_t product(const struct key_weighing *weighing, size_t c) {
    return key_multiply(weighing->query[c], weighing->steps[c] << 7);
}

static void weigh(struct key_weighing *weighing) {
    int32_t largest = 0, sum = 0, centre = 0;
    for (size_t c = 0; c < weighing->channels; c++) {
        int32_t magnitude = abs(product(weighing, c));
        largest = magnitude > largest ? magnitude : largest;
        centre += weighing->query[c] * weighing->centres[c];
    }
    weighing->scale = key_scale(largest);
    for (size_t c = 0; c < weighing->channels; c++) {
        weighing->weights[c] = (int8_t)key_multiply(product(weighing, c), weighing->scale);
        sum += weighing->weights[c];
    }
    weighing->sum = sum;
    weighing->centre = centre;
}

const struct key_kernels key_kernels_portable = {
    .name = "portable", .weigh = weigh, .score = score, .best = key_best};
