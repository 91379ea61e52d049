#include "daemon/recall/key_floats.h"
#include "proto/page/summary.h"

enum { QUAD = 4, BYTES = SUMMARY_VECTOR_BYTES, VECTORS = SUMMARY_UNIT_VECTORS };

/* Four channels of sixteen blocks. */
static void add_vector(const uint8_t *restrict codes, const int8_t *restrict weights,
                       int32_t *restrict sums) {
    for (size_t lane = 0; lane < SUMMARY_LANES; lane++)
        for (size_t i = 0; i < QUAD; i++)
            sums[lane] += codes[QUAD * lane + i] * weights[i];
}

static void dots(const struct key_job *job) {
    uint8_t codes[VECTORS * BYTES];
    size_t sums_apart = job->groups * SUMMARY_LANES;
    memset(job->sums, 0, job->queries * sums_apart * sizeof *job->sums);
    for (size_t first = 0; first < job->vectors; first += VECTORS) {
        page_summary_unpack(job->units + first / VECTORS * SUMMARY_UNIT_BYTES, codes);
        for (size_t v = 0; v < VECTORS; v++)
            for (size_t q = 0; q < job->queries; q++)
                add_vector(codes + v * BYTES,
                           job->weights + q * job->weights_apart + (first + v) / job->groups * QUAD,
                           job->sums + q * sums_apart + (first + v) % job->groups * SUMMARY_LANES);
    }
}

const struct key_kernels key_kernels_portable = {
    .name = "portable", .weigh = key_weigh, .dots = dots, .exponentials = key_exponentials};
