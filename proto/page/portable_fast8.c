/* fast8's kernels. */
#include "proto/page/kernels.h"
#include "proto/page/portable_numbers.h"
#include "proto/page/workspace.h"

void PAGE_OF_TARGET(range16_)(const void *values, size_t count, int16_t *restrict low,
                              int16_t *restrict high) {
    const unaligned_u16 *in = values;
    for (size_t i = 0; i < count; i++) {
        int16_t x = (int16_t)in[i];
        int16_t ordered = (int16_t)(x ^ (x >> 15 & 0x7fff));
        low[i] = ordered < low[i] ? ordered : low[i];
        high[i] = ordered > high[i] ? ordered : high[i];
    }
}

void PAGE_OF_TARGET(range32_)(const float *restrict row, size_t count, float *restrict low,
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
    PAGE_SCRATCH float row[FAST8_BLOCK], difference[FAST8_BLOCK];
    for (size_t i = 0; i < count; i++) {
        float x = load_finite(dtype, values, i), last = base[i] + 255;
        float whole = (x * inverse[i] + ROUND_SIGNED) - ROUND_SIGNED;
        whole = whole < last ? whole : last;
        q[i] = (uint8_t)(int32_t)(whole - base[i]);
        row[i] = x;
        difference[i] = x - rounded(dtype, whole * scale[i]);
    }
    add_squares(difference, count, lanes->error);
    add_squares(row, count, lanes->energy);
}

void PAGE_OF_TARGET(fast8_encode_f16_)(const void *values, const struct page_grid *grid,
                                       size_t count, uint8_t *q, struct page_lanes *lanes) {
    fast8_encode(PAGE_F16, values, grid, count, q, lanes);
}

void PAGE_OF_TARGET(fast8_encode_bf16_)(const void *values, const struct page_grid *grid,
                                        size_t count, uint8_t *q, struct page_lanes *lanes) {
    fast8_encode(PAGE_BF16, values, grid, count, q, lanes);
}

void PAGE_OF_TARGET(fast8_encode_f32_)(const void *values, const struct page_grid *grid,
                                       size_t count, uint8_t *q, struct page_lanes *lanes) {
    fast8_encode(PAGE_F32, values, grid, count, q, lanes);
}

SPECIALISED void fast8_decode(enum page_dtype dtype, const uint8_t *restrict q,
                              const float *restrict base, const float *restrict scale, size_t count,
                              void *restrict values) {
    for (size_t i = 0; i < count; i++)
        store(dtype, ((float)q[i] + base[i]) * scale[i], values, i);
}

void PAGE_OF_TARGET(fast8_decode_f16_)(const uint8_t *q, const float *base, const float *scale,
                                       size_t count, void *values, bool streaming) {
    (void)streaming;
    fast8_decode(PAGE_F16, q, base, scale, count, values);
}

void PAGE_OF_TARGET(fast8_decode_bf16_)(const uint8_t *q, const float *base, const float *scale,
                                        size_t count, void *values, bool streaming) {
    (void)streaming;
    fast8_decode(PAGE_BF16, q, base, scale, count, values);
}

void PAGE_OF_TARGET(fast8_decode_f32_)(const uint8_t *q, const float *base, const float *scale,
                                       size_t count, void *values, bool streaming) {
    (void)streaming;
    fast8_decode(PAGE_F32, q, base, scale, count, values);
}
