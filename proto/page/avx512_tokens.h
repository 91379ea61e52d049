/* Tokens of a tile of integers that has been turned, to floats. */
#ifndef PROTO_PAGE_AVX512_TOKENS_H
#define PROTO_PAGE_AVX512_TOKENS_H

#include "proto/page/avx512_values.h"

/* What a call works with. low is NULL where values are int8, else their low bytes. */
struct tile {
    const struct turned *high, *low;
    const float *mean, *steps;
    float phase;
    bool fused, clamped; /* the product is exact; values may leave the dtype's range */
};

SPECIALISED __m512 value_of(const struct tile *tile, size_t token, size_t group, __m512 mean) {
    __m512i q = _mm512_cvtepi8_epi32(turned_bytes(tile->high, group, token));
    if (tile->low != NULL)
        q = _mm512_or_si512(_mm512_slli_epi32(q, 8),
                            _mm512_cvtepu8_epi32(turned_bytes(tile->low, group, token)));
    __m512 x = _mm512_cvtepi32_ps(q), step = _mm512_set1_ps(tile->steps[token]);
    if (tile->phase != 0)
        x = _mm512_add_ps(x, _mm512_set1_ps(tile->phase));
    return tile->fused ? _mm512_fmadd_ps(x, step, mean)
                       : _mm512_add_ps(_mm512_mul_ps(x, step), mean);
}

SPECIALISED __m256i narrowed(enum page_dtype dtype, const struct tile *tile, __m512 x) {
    return tile->clamped ? to_16_clamped(dtype, x) : to_16(dtype, x);
}

/* The only way out of float32's range. */
SPECIALISED __m512i kept(const struct tile *tile, __m512 x) {
    return _mm512_castps_si512(tile->clamped ? clamp_values(x, PAGE_F32_MAX) : x);
}

/* A token of 64 channels; `streaming` only to where a cache line begins. */
SPECIALISED void write_token(enum page_dtype dtype, const struct tile *tile, size_t token,
                             const __m512 mean[PARTS], uint8_t *to, bool streaming) {
#pragma GCC unroll 4
    for (size_t group = 0; group < PARTS; group += 2) {
        __m512 a = value_of(tile, token, group, mean[group]);
        __m512 b = value_of(tile, token, group + 1, mean[group + 1]);
        if (dtype == PAGE_F32) {
            store_line(to + 64 * group, kept(tile, a), streaming);
            store_line(to + 64 * group + 64, kept(tile, b), streaming);
        } else {
            __m512i both = _mm512_castsi256_si512(narrowed(dtype, tile, a));
            both = _mm512_inserti64x4(both, narrowed(dtype, tile, b), 1);
            store_line(to + 32 * group, both, streaming);
        }
    }
}

SPECIALISED void write_part(enum page_dtype dtype, const struct tile *tile, size_t token,
                            const __m512 mean[PARTS], size_t channels, uint8_t *to) {
    for (size_t group = 0; group * VECTOR < channels; group++) {
        __mmask16 live = first_of_16(channels - group * VECTOR);
        __m512 x = value_of(tile, token, group, mean[group]);
        if (dtype == PAGE_F32)
            _mm512_mask_storeu_epi32(to + 64 * group, live, kept(tile, x));
        else
            _mm256_mask_storeu_epi16(to + 32 * group, live, narrowed(dtype, tile, x));
    }
}

#endif
