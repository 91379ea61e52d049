#include "daemon/recall/vectors.h"

#include <math.h>

#include "daemon/recall/kernels.h"
#include "proto/page/convert.h"

#define LENGTH_MOST 0x1p60
#define LENGTH_LEAST 0x1p-60
enum { LANES = 8 };

const char *vectors_fault_text(enum vectors_fault fault) {
    static const char *const texts[] = {
        [VECTORS_FINE] = "is fine",
        [VECTORS_WRONG_FORMAT] = "is of no known dimension, type or metric",
        [VECTORS_NOT_FINITE] = "holds a NaN or an infinity",
        [VECTORS_TOO_LONG] = "is longer than 2^60",
        [VECTORS_ZERO] = "is zero, and has no angle",
    };
    return texts[fault];
}

static bool is_known(const struct vectors_format *format) {
    return format->dim >= 1 && format->dim <= VECTORS_DIM_MOST &&
           (format->dtype == KVQ_RETRIEVER_F32 || format->dtype == KVQ_RETRIEVER_F16) &&
           (format->metric == KVQ_RETRIEVER_COSINE ||
            format->metric == KVQ_RETRIEVER_INNER_PRODUCT);
}

/* Every number of float32 squared, and the sum of 4096 such, fits a double. */
static double square_sum_f32(const unaligned_float *row, size_t dim) {
    double lanes[LANES] = {0}, sum = 0;
    for (size_t i = 0; i < dim; i++)
        lanes[i % LANES] += (double)row[i] * (double)row[i];
    for (size_t lane = 0; lane < LANES; lane++)
        sum += lanes[lane];
    return sum;
}

static double square_sum_f16(const unaligned_u16 *row, size_t dim) {
    double lanes[LANES] = {0}, sum = 0;
    for (size_t i = 0; i < dim; i++) {
        double value = (double)half_to_float(row[i]);
        lanes[i % LANES] += value * value;
    }
    for (size_t lane = 0; lane < LANES; lane++)
        sum += lanes[lane];
    return sum;
}

static double square_sum(enum kvq_retriever_dtype dtype, const void *row, size_t dim) {
    return dtype == KVQ_RETRIEVER_F32 ? square_sum_f32(row, dim) : square_sum_f16(row, dim);
}

static const void *row_at(const struct vectors_format *format, const void *vectors, size_t row) {
    return (const uint8_t *)vectors + row * vectors_row_bytes(format);
}

enum vectors_fault vectors_check_query(const struct vectors_format *format, const float *query) {
    if (!is_known(format))
        return VECTORS_WRONG_FORMAT;
    double squares = square_sum_f32(query, format->dim);
    if (!isfinite(squares))
        return VECTORS_NOT_FINITE;
    if (squares >= LENGTH_MOST * LENGTH_MOST)
        return VECTORS_TOO_LONG;
    bool zero = squares < LENGTH_LEAST * LENGTH_LEAST;
    return zero && format->metric == KVQ_RETRIEVER_COSINE ? VECTORS_ZERO : VECTORS_FINE;
}

void vectors_prepare_query(const struct vectors_format *format, const float *query, float *unit) {
    double length = 1;
    if (format->metric == KVQ_RETRIEVER_COSINE)
        length = sqrt(square_sum_f32(query, format->dim));
    for (size_t i = 0; i < format->dim; i++)
        unit[i] = (float)((double)query[i] / length);
}

static float inverse_length(const struct vectors_format *format, const void *row) {
    return (float)(1 / sqrt(square_sum(format->dtype, row, format->dim)));
}

void vectors_inverse_lengths(const struct vectors_format *format, const void *vectors, size_t count,
                             float *inverse_lengths) {
    for (size_t i = 0; i < count; i++)
        inverse_lengths[i] = inverse_length(format, row_at(format, vectors, i));
}

float vectors_score(const struct vectors_format *format, const float *unit, const void *row) {
    float dot;
    recall_kernels()->dots[format->dtype](unit, format->dim, row, 1, &dot);
    return format->metric == KVQ_RETRIEVER_COSINE ? dot * inverse_length(format, row) : dot;
}
