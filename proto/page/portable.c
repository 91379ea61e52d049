/* The kernels over rows of values, in C that compilers vectorise for any instruction set. */
#include "proto/page/portable.h"
#include "proto/page/convert.h"
#include "proto/page/kernels.h"
#include "proto/page/workspace.h"

#define SPECIALISED static inline __attribute__((always_inline))

typedef float f32x4 __attribute__((vector_size(16)));
typedef int16_t i16x8 __attribute__((vector_size(16)));

static const float ROUND_SIGNED = 0x1.8p23f; /* adding it leaves an integer in the low bits */

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

/* What a float of at most the dtype's maximum becomes in the dtype. */
SPECIALISED float rounded(enum page_dtype dtype, float x) {
    if (dtype == PAGE_F16)
        return clamp(round_to_half(x), PAGE_F16_MAX);
    if (dtype == PAGE_BF16)
        return round_to_bfloat(clamp(x, PAGE_BF16_MAX));
    return clamp(x, PAGE_F32_MAX);
}

SPECIALISED void store(enum page_dtype dtype, float x, void *values, size_t i) {
    if (dtype == PAGE_F16)
        ((unaligned_u16 *)values)[i] = float_to_half(x);
    else if (dtype == PAGE_BF16)
        ((unaligned_u16 *)values)[i] = float_to_bfloat(x);
    else
        ((unaligned_float *)values)[i] = clamp(x, PAGE_F32_MAX);
}

static void add(const float *restrict row, size_t count, float *restrict sum) {
    for (size_t i = 0; i < count; i++)
        sum[i] += row[i];
}

static f32x4 load4(const float *at) {
    f32x4 x;
    memcpy(&x, at, sizeof x);
    return x;
}

static void square(const float *row, size_t count, float *lanes) {
    f32x4 a = load4(lanes), b = load4(lanes + 4), c = load4(lanes + 8), d = load4(lanes + 12);
    size_t i = 0;
    for (; i + PAGE_LANES <= count; i += PAGE_LANES) {
        f32x4 x = load4(row + i), y = load4(row + i + 4);
        f32x4 z = load4(row + i + 8), w = load4(row + i + 12);
        a += x * x;
        b += y * y;
        c += z * z;
        d += w * w;
    }
    memcpy(lanes, &a, sizeof a);
    memcpy(lanes + 4, &b, sizeof b);
    memcpy(lanes + 8, &c, sizeof c);
    memcpy(lanes + 12, &d, sizeof d);
    for (size_t lane = 0; i < count; i++, lane++)
        lanes[lane] += row[i] * row[i];
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

static void range16(const void *values, size_t count, int16_t *restrict low,
                    int16_t *restrict high) {
    const unaligned_u16 *in = values;
    for (size_t i = 0; i < count; i++) {
        int16_t x = (int16_t)in[i];
        int16_t ordered = (int16_t)(x ^ (x >> 15 & 0x7fff));
        low[i] = ordered < low[i] ? ordered : low[i];
        high[i] = ordered > high[i] ? ordered : high[i];
    }
}

static void range32(const float *restrict row, size_t count, float *restrict low,
                    float *restrict high) {
    for (size_t i = 0; i < count; i++) {
        low[i] = row[i] < low[i] ? row[i] : low[i];
        high[i] = row[i] > high[i] ? row[i] : high[i];
    }
}

SPECIALISED float load_finite(enum page_dtype dtype, const void *values, size_t i) {
    if (dtype == PAGE_F16)
        return finite_half_to_float(((const unaligned_u16 *)values)[i]);
    if (dtype == PAGE_BF16)
        return bfloat_to_float(((const unaligned_u16 *)values)[i]);
    return ((const unaligned_float *)values)[i];
}

SPECIALISED void fast8_encode(enum page_dtype dtype, const void *restrict values,
                              const struct page_grid *grid, size_t count, uint8_t *restrict q,
                              struct page_lanes *lanes) {
    const float *restrict base = grid->base, *restrict scale = grid->scale;
    const float *restrict inverse = grid->inverse;
    PAGE_SCRATCH float row[PAGE_BLOCK], difference[PAGE_BLOCK];
    for (size_t i = 0; i < count; i++) {
        float x = load_finite(dtype, values, i), last = base[i] + 255;
        float whole = (x * inverse[i] + ROUND_SIGNED) - ROUND_SIGNED;
        whole = whole < last ? whole : last;
        q[i] = (uint8_t)(int32_t)(whole - base[i]);
        row[i] = x;
        difference[i] = x - rounded(dtype, whole * scale[i]);
    }
    square(difference, count, lanes->error);
    square(row, count, lanes->energy);
}

static void fast8_encode_f16(const void *values, const struct page_grid *grid, size_t count,
                             uint8_t *q, struct page_lanes *lanes) {
    fast8_encode(PAGE_F16, values, grid, count, q, lanes);
}

static void fast8_encode_bf16(const void *values, const struct page_grid *grid, size_t count,
                              uint8_t *q, struct page_lanes *lanes) {
    fast8_encode(PAGE_BF16, values, grid, count, q, lanes);
}

static void fast8_encode_f32(const void *values, const struct page_grid *grid, size_t count,
                             uint8_t *q, struct page_lanes *lanes) {
    fast8_encode(PAGE_F32, values, grid, count, q, lanes);
}

SPECIALISED void fast8_decode(enum page_dtype dtype, const uint8_t *restrict q,
                              const float *restrict base, const float *restrict scale, size_t count,
                              void *restrict values) {
    for (size_t i = 0; i < count; i++)
        store(dtype, ((float)q[i] + base[i]) * scale[i], values, i);
}

static void fast8_decode_f16(const uint8_t *q, const float *base, const float *scale, size_t count,
                             void *values) {
    fast8_decode(PAGE_F16, q, base, scale, count, values);
}

static void fast8_decode_bf16(const uint8_t *q, const float *base, const float *scale, size_t count,
                              void *values) {
    fast8_decode(PAGE_BF16, q, base, scale, count, values);
}

static void fast8_decode_f32(const uint8_t *q, const float *base, const float *scale, size_t count,
                             void *values) {
    fast8_decode(PAGE_F32, q, base, scale, count, values);
}

const struct page_kernels PAGE_OF_TARGET(page_kernels_) = {
    .name = PAGE_QUOTE(PAGE_TARGET),
    .load = {[PAGE_F16] = load_f16, [PAGE_BF16] = load_bf16, [PAGE_F32] = load_f32},
    .add = add,
    .square = square,
    .deviation = deviation,
    .quantise = {[PAGE_F16] = quantise_f16, [PAGE_BF16] = quantise_bf16, [PAGE_F32] = quantise_f32},
    .dequantise =
        {[PAGE_F16] = dequantise_f16, [PAGE_BF16] = dequantise_bf16, [PAGE_F32] = dequantise_f32},
    .transpose = transpose,
    .range16 = range16,
    .range32 = range32,
    .fast8_encode = {[PAGE_F16] = fast8_encode_f16,
                     [PAGE_BF16] = fast8_encode_bf16,
                     [PAGE_F32] = fast8_encode_f32},
    .fast8_decode = {[PAGE_F16] = fast8_decode_f16,
                     [PAGE_BF16] = fast8_decode_bf16,
                     [PAGE_F32] = fast8_decode_f32},
    .rans_decode = rans_decode_of_target,
    .rans_encode = rans_encode_of_target,
};
