/* Sixteen values of a dtype to float and back. */
#ifndef PROTO_PAGE_AVX512_VALUES_H
#define PROTO_PAGE_AVX512_VALUES_H

#include "proto/page/avx512_tiles.h"
#include "proto/page/convert.h"

SPECIALISED float limit_of(enum page_dtype dtype) {
    return dtype == PAGE_F16 ? PAGE_F16_MAX : dtype == PAGE_BF16 ? PAGE_BF16_MAX : PAGE_F32_MAX;
}

/* What a vector of 16-bit or 32-bit values holds, as float. */
SPECIALISED __m512 float_of_16(enum page_dtype dtype, __m256i values) {
    if (dtype == PAGE_F16)
        return _mm512_cvtph_ps(values);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16));
}

/* Values of a token from channel `at` on; 0 where not `live`. */
SPECIALISED __m512 load_values(enum page_dtype dtype, const void *values, size_t at,
                               __mmask16 live) {
    if (dtype == PAGE_F32)
        return _mm512_maskz_loadu_ps(live, (const uint8_t *)values + 4 * at);
    return float_of_16(dtype, _mm256_maskz_loadu_epi16(live, (const uint8_t *)values + 2 * at));
}

SPECIALISED __m512 clamp_values(__m512 x, float limit) {
    x = _mm512_min_ps(x, _mm512_set1_ps(limit));
    return _mm512_max_ps(x, _mm512_set1_ps(-limit));
}

/* float32 to the upper halves that are nearest. */
SPECIALISED __m512i bfloats_of(__m512 x) {
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    bits = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    return _mm512_srli_epi32(bits, 16);
}

/* To a dtype of 16 bits; x is within its range. */
SPECIALISED __m256i to_16(enum page_dtype dtype, __m512 x) {
    if (dtype == PAGE_F16)
        return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm512_cvtepi32_epi16(bfloats_of(x));
}

/* What conversion has made infinite (or is no number) to the largest finite float16. */
SPECIALISED __m256i finite_halves(__m256i halves) {
    halves = _mm256_min_epi16(halves, _mm256_set1_epi16(0x7bff));
    return _mm256_min_epu16(halves, _mm256_set1_epi16((short)0xfbff));
}

/* To a dtype of 16 bits, clamped to its range. */
SPECIALISED __m256i to_16_clamped(enum page_dtype dtype, __m512 x) {
    if (dtype == PAGE_F16)
        return finite_halves(to_16(dtype, x));
    return to_16(dtype, clamp_values(x, PAGE_BF16_MAX));
}

/* What x becomes in the dtype; x is within its range. */
SPECIALISED __m512 round_values(enum page_dtype dtype, __m512 x) {
    if (dtype == PAGE_F16)
        return _mm512_cvtph_ps(to_16(dtype, x));
    if (dtype == PAGE_BF16)
        return _mm512_castsi512_ps(_mm512_slli_epi32(bfloats_of(x), 16));
    return x;
}

/* What x becomes in the dtype, clamped to its range. */
SPECIALISED __m512 round_clamped(enum page_dtype dtype, __m512 x) {
    if (dtype == PAGE_F16)
        return _mm512_cvtph_ps(to_16_clamped(dtype, x));
    return round_values(dtype, clamp_values(x, limit_of(dtype)));
}

/* Whether (q + phase) * step + mean may leave the dtype's range, or be no number. */
static inline bool may_leave_range(enum page_dtype dtype, const float *mean, size_t channels,
                                   const float *step, size_t step_stride, size_t tokens,
                                   float most) {
    float largest_mean = 0, largest_step = 0;
    bool numbers = true;
    for (size_t c = 0; c < channels; c++) {
        float magnitude = mean[c] < 0 ? -mean[c] : mean[c];
        numbers &= magnitude <= PAGE_F32_MAX;
        largest_mean = magnitude > largest_mean ? magnitude : largest_mean;
    }
    for (size_t t = 0; t < tokens; t++)
        largest_step = step[t * step_stride] > largest_step ? step[t * step_stride] : largest_step;
    float bound = largest_mean + largest_step * most;
    return !numbers || !(bound < limit_of(dtype) * 0.99f);
}

#endif
