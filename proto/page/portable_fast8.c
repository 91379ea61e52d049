/* fast8's kernels. */
#include "proto/page/kernels.h"
#include "proto/page/portable_numbers.h"
#include "proto/page/workspace.h"

static void range_of_token(const unaligned_u16 *values, size_t count, int16_t *restrict low,
                           int16_t *restrict high) {
    for (size_t i = 0; i < count; i++) {
        int16_t x = (int16_t)values[i];
        int16_t ordered = (int16_t)(x ^ (x >> 15 & 0x7fff));
        low[i] = ordered < low[i] ? ordered : low[i];
        high[i] = ordered > high[i] ? ordered : high[i];
    }
}

void PAGE_OF_TARGET(range16_)(const struct page_source_rows *in, int16_t *low, int16_t *high) {
    for (size_t t = 0; t < in->tokens; t++)
        range_of_token((const void *)((const uint8_t *)in->rows[t] + in->offset_bytes),
                       in->channels, low, high);
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

SPECIALISED void encode_token(enum page_dtype dtype, const void *restrict values,
                              const struct page_grid *grid, size_t count, uint8_t *restrict q,
                              struct page_fast8_sums *restrict sums) {
    const float *restrict fine = grid->fine, *restrict offset = grid->offset;
    for (size_t i = 0; i < count; i++) {
        float x = load_finite(dtype, values, i);
        int32_t z = nearest(x * fine[i] - offset[i]);
        z = z < 0 ? 0 : z > UINT16_MAX ? UINT16_MAX : z;
        int32_t left = (z & 255) - 128;
        left = left < -127 ? -127 : left;
        q[i] = (uint8_t)(z >> 8);
        sums->residual[i] += left * left;
        sums->energy[i] += x * x;
    }
}

SPECIALISED void fast8_encode(enum page_dtype dtype, const struct page_source_rows *in,
                              const struct page_grid *grid, uint8_t *q, size_t token_bytes,
                              struct page_fast8_sums *sums) {
    *sums = (struct page_fast8_sums){0};
    for (size_t t = 0; t < in->tokens; t++)
        encode_token(dtype, (const uint8_t *)in->rows[t] + in->offset_bytes, grid, in->channels,
                     q + t * token_bytes, sums);
}

SPECIALISED void fast8_decode(enum page_dtype dtype, const uint8_t *q, size_t token_bytes,
                              const float *restrict low, const float *restrict scale,
                              const struct page_target_rows *out) {
    size_t channels = out->channels; /* read once: stores might change it, and loops need to know */
    for (size_t t = out->first; t < out->last; t++) {
        const uint8_t *restrict from = q + t * token_bytes;
        void *restrict to = (uint8_t *)out->rows[t] + out->offset_bytes;
        for (size_t i = 0; i < channels; i++)
            store(dtype, (float)from[i] * scale[i] + low[i], to, i);
    }
}

#define FAST8(name, dtype)                                                                         \
    void PAGE_OF_TARGET(fast8_encode_##name##_)(                                                   \
        const struct page_source_rows *in, const struct page_grid *grid, uint8_t *q,               \
        size_t token_bytes, struct page_fast8_sums *sums) {                                        \
        fast8_encode(dtype, in, grid, q, token_bytes, sums);                                       \
    }                                                                                              \
    void PAGE_OF_TARGET(fast8_decode_##name##_)(const uint8_t *q, size_t token_bytes,              \
                                                const float *low, const float *scale,              \
                                                const struct page_target_rows *out) {              \
        fast8_decode(dtype, q, token_bytes, low, scale, out);                                      \
    }

FAST8(f16, PAGE_F16)
FAST8(bf16, PAGE_BF16)
FAST8(f32, PAGE_F32)
