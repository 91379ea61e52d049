/* The kernels over rows of values, in C that compilers vectorise for any instruction set. */
#include "proto/page/kernels.h"
#include "proto/page/portable_numbers.h"
#include "proto/page/workspace.h"

typedef int16_t i16x8 __attribute__((vector_size(16)));

static void load_f16(const void *values, size_t count, float *restrict row) {
    const unaligned_u16 *in = values;
    for (size_t i = 0; i < count; i++)
        row[i] = half_to_float(in[i]);
}

static void load_bf16(const void *values, size_t count, float *restrict row) {
    const unaligned_u16 *in = values;
    for (size_t i = 0; i < count; i++)
        row[i] = bfloat_to_float(in[i]);
}

static void load_f32(const void *values, size_t count, float *restrict row) {
    memcpy(row, values, count * sizeof *row);
}

static void add(const float *restrict row, size_t count, float *restrict sum) {
    for (size_t i = 0; i < count; i++)
        sum[i] += row[i];
}

static void square(const float *row, size_t count, float *lanes) {
    add_squares(row, count, lanes);
}

static void deviation(const float *row, const float *mean, size_t count, float *lanes) {
    PAGE_SCRATCH float difference[PAGE_BLOCK];
    for (size_t i = 0; i < count; i++)
        difference[i] = row[i] - mean[i];
    square(difference, count, lanes);
}

SPECIALISED uint32_t quantise(enum page_dtype dtype, const float *restrict row,
                              const float *restrict mean, struct page_step step, size_t count,
                              int16_t *restrict q, struct page_lanes *lanes) {
    PAGE_SCRATCH float difference[PAGE_BLOCK];
    uint32_t outside = 0;
    for (size_t i = 0; i < count; i++) {
        float magic = (row[i] - mean[i]) * step.inverse + ROUND_SIGNED;
        uint32_t integer = float_bits(magic) - float_bits(ROUND_SIGNED);
        outside |= (integer + 0x8000) >> 16;
        q[i] = (int16_t)integer;
        difference[i] = row[i] - rounded(dtype, (magic - ROUND_SIGNED) * step.step + mean[i]);
    }
    square(difference, count, lanes->error);
    square(row, count, lanes->energy);
    return outside;
}

static uint32_t quantise_f16(const float *row, const float *mean, struct page_step step,
                             size_t count, int16_t *q, struct page_lanes *lanes) {
    return quantise(PAGE_F16, row, mean, step, count, q, lanes);
}

static uint32_t quantise_bf16(const float *row, const float *mean, struct page_step step,
                              size_t count, int16_t *q, struct page_lanes *lanes) {
    return quantise(PAGE_BF16, row, mean, step, count, q, lanes);
}

static uint32_t quantise_f32(const float *row, const float *mean, struct page_step step,
                             size_t count, int16_t *q, struct page_lanes *lanes) {
    return quantise(PAGE_F32, row, mean, step, count, q, lanes);
}

SPECIALISED void dequantise(enum page_dtype dtype, const int16_t *restrict q,
                            const float *restrict mean, float step, float phase, size_t count,
                            void *restrict values) {
    for (size_t i = 0; i < count; i++)
        store(dtype, ((float)q[i] + phase) * step + mean[i], values, i);
}

static void dequantise_f16(const int16_t *q, const float *mean, float step, float phase,
                           size_t count, void *values) {
    dequantise(PAGE_F16, q, mean, step, phase, count, values);
}

static void dequantise_bf16(const int16_t *q, const float *mean, float step, float phase,
                            size_t count, void *values) {
    dequantise(PAGE_BF16, q, mean, step, phase, count, values);
}

static void dequantise_f32(const int16_t *q, const float *mean, float step, float phase,
                           size_t count, void *values) {
    dequantise(PAGE_F32, q, mean, step, phase, count, values);
}

#define LOW_HALVES(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH_HALVES(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)

/* Interleaving rows i and i + 4 three times transposes. */
static void interleave(const i16x8 in[8], i16x8 out[8]) {
    for (int i = 0; i < 4; i++) {
        out[2 * i] = LOW_HALVES(in[i], in[i + 4]);
        out[2 * i + 1] = HIGH_HALVES(in[i], in[i + 4]);
    }
}

static void transpose8(const int16_t *in, size_t in_stride, int16_t *out, size_t out_stride) {
    i16x8 a[8], b[8];
    for (size_t i = 0; i < 8; i++)
        memcpy(&a[i], in + i * in_stride, sizeof a[i]);
    interleave(a, b);
    interleave(b, a);
    interleave(a, b);
    for (size_t i = 0; i < 8; i++)
        memcpy(out + i * out_stride, &b[i], sizeof b[i]);
}

static void transpose(const int16_t *in, size_t in_stride, size_t rows, size_t columns,
                      int16_t *out, size_t out_stride) {
    size_t whole_rows = rows & ~(size_t)7, whole_columns = columns & ~(size_t)7;
    for (size_t r = 0; r < whole_rows; r += 8)
        for (size_t c = 0; c < whole_columns; c += 8)
            transpose8(in + r * in_stride + c, in_stride, out + c * out_stride + r, out_stride);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = r < whole_rows ? whole_columns : 0; c < columns; c++)
            out[c * out_stride + r] = in[r * in_stride + c];
}

const struct page_kernels PAGE_OF_TARGET(kernels_) = {
    .name = PAGE_QUOTE(PAGE_TARGET),
    .sum = {[PAGE_F16] = PAGE_OF_TARGET(sum_f16_),
            [PAGE_BF16] = PAGE_OF_TARGET(sum_bf16_),
            [PAGE_F32] = PAGE_OF_TARGET(sum_f32_)},
    .deviation = {[PAGE_F16] = PAGE_OF_TARGET(deviation_f16_),
                  [PAGE_BF16] = PAGE_OF_TARGET(deviation_bf16_),
                  [PAGE_F32] = PAGE_OF_TARGET(deviation_f32_)},
    .quantise8 = {[PAGE_F16] = PAGE_OF_TARGET(quantise8_f16_),
                  [PAGE_BF16] = PAGE_OF_TARGET(quantise8_bf16_),
                  [PAGE_F32] = PAGE_OF_TARGET(quantise8_f32_)},
    .quantise16 = {[PAGE_F16] = PAGE_OF_TARGET(quantise16_f16_),
                   [PAGE_BF16] = PAGE_OF_TARGET(quantise16_bf16_),
                   [PAGE_F32] = PAGE_OF_TARGET(quantise16_f32_)},
    .dequantise8 = {[PAGE_F16] = PAGE_OF_TARGET(dequantise8_f16_),
                    [PAGE_BF16] = PAGE_OF_TARGET(dequantise8_bf16_),
                    [PAGE_F32] = PAGE_OF_TARGET(dequantise8_f32_)},
    .dequantise16 = {[PAGE_F16] = PAGE_OF_TARGET(dequantise16_f16_),
                     [PAGE_BF16] = PAGE_OF_TARGET(dequantise16_bf16_),
                     [PAGE_F32] = PAGE_OF_TARGET(dequantise16_f32_)},
    .halve8 = PAGE_OF_TARGET(halve8_),
    .halve16 = PAGE_OF_TARGET(halve16_),
    .range16 = PAGE_OF_TARGET(range16_),
    .range32 = PAGE_OF_TARGET(range32_),
    .fast8_encode = {[PAGE_F16] = PAGE_OF_TARGET(fast8_encode_f16_),
                     [PAGE_BF16] = PAGE_OF_TARGET(fast8_encode_bf16_),
                     [PAGE_F32] = PAGE_OF_TARGET(fast8_encode_f32_)},
    .fast8_decode = {[PAGE_F16] = PAGE_OF_TARGET(fast8_decode_f16_),
                     [PAGE_BF16] = PAGE_OF_TARGET(fast8_decode_bf16_),
                     [PAGE_F32] = PAGE_OF_TARGET(fast8_decode_f32_)},
    .rans_decode8 = PAGE_OF_TARGET(rans_decode8_),
    .rans_decode16 = PAGE_OF_TARGET(rans_decode16_),
    .rans_encode8 = PAGE_OF_TARGET(rans_encode8_),
    .rans_encode16 = PAGE_OF_TARGET(rans_encode16_),
    .exact = {[PAGE_F16] = &PAGE_OF_TARGET(exact_f16_),
              [PAGE_BF16] = &PAGE_OF_TARGET(exact_bf16_),
              [PAGE_F32] = &PAGE_OF_TARGET(exact_f32_)},
    .row_cost = PAGE_OF_TARGET(row_cost_),

    .load = {[PAGE_F16] = load_f16, [PAGE_BF16] = load_bf16, [PAGE_F32] = load_f32},
    .add = add,
    .square = square,
    .row_deviation = deviation,
    .row_quantise =
        {[PAGE_F16] = quantise_f16, [PAGE_BF16] = quantise_bf16, [PAGE_F32] = quantise_f32},
    .row_dequantise =
        {[PAGE_F16] = dequantise_f16, [PAGE_BF16] = dequantise_bf16, [PAGE_F32] = dequantise_f32},
    .transpose = transpose,
};
