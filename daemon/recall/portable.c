/* Recall's inner loops in plain C. */
#include "daemon/recall/kernels.h"

#include "proto/page/convert.h"

enum { LANES = 16 };

static float fold(float *lanes) {
    for (size_t width = LANES / 2; width > 0; width /= 2)
        for (size_t i = 0; i < width; i++)
            lanes[i] += lanes[i + width];
    return lanes[0];
}

static void dots_f32(const float *query, size_t dim, const void *rows, size_t count, float *dots) {
    const unaligned_float *row = rows;
    for (size_t r = 0; r < count; r++, row += dim) {
        float lanes[LANES] = {0};
        size_t i = 0;
        for (; i + LANES <= dim; i += LANES)
            for (size_t lane = 0; lane < LANES; lane++)
                lanes[lane] += query[i + lane] * row[i + lane];
        for (size_t lane = 0; i + lane < dim; lane++)
            lanes[lane] += query[i + lane] * row[i + lane];
        dots[r] = fold(lanes);
    }
}

static void dots_f16(const float *query, size_t dim, const void *rows, size_t count, float *dots) {
    const unaligned_u16 *row = rows;
    for (size_t r = 0; r < count; r++, row += dim) {
        float lanes[LANES] = {0};
        size_t i = 0;
        for (; i + LANES <= dim; i += LANES)
            for (size_t lane = 0; lane < LANES; lane++)
                lanes[lane] += query[i + lane] * finite_half_to_float(row[i + lane]);
        for (size_t lane = 0; i + lane < dim; lane++)
            lanes[lane] += query[i + lane] * finite_half_to_float(row[i + lane]);
        dots[r] = fold(lanes);
    }
}

const struct recall_kernels recall_kernels_portable = {"portable", {dots_f32, dots_f16}};
