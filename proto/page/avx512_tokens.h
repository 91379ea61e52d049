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

/* Halves of a cache line go one by one: joining them first takes a shuffle. */
SPECIALISED void store_half_line(void *to, __m256i bytes, bool streaming) {
    if (streaming)
        _mm256_stream_si256(to, bytes);
    else
        _mm256_storeu_si256(to, bytes);
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
        } else if (dtype == PAGE_BF16) {
            a = tile->clamped ? clamp_values(a, PAGE_BF16_MAX) : a;
            b = tile->clamped ? clamp_values(b, PAGE_BF16_MAX) : b;
            store_line(to + 32 * group, bfloats_of_two(a, b), streaming);
        } else {
            store_half_line(to + 32 * group, narrowed(dtype, tile, a), streaming);
            store_half_line(to + 32 * group + 32, narrowed(dtype, tile, b), streaming);
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
