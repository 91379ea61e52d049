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

/* Which of a part's channels there are. */
SPECIALISED void live_parts(size_t channels, __mmask16 live[PARTS]) {
#pragma GCC unroll 4
    for (size_t part = 0; part < PARTS; part++)
        live[part] = first_of_16(channels > part * VECTOR ? channels - part * VECTOR : 0);
}

SPECIALISED void load_parts(const float *from, const __mmask16 live[PARTS], __m512 parts[PARTS]) {
#pragma GCC unroll 4
    for (size_t part = 0; part < PARTS; part++)
        parts[part] = _mm512_maskz_loadu_ps(live[part], from + part * VECTOR);
}

SPECIALISED __m512 clamp_values(__m512 x, float limit) {
    x = _mm512_min_ps(x, _mm512_set1_ps(limit));
    return _mm512_max_ps(x, _mm512_set1_ps(-limit));
}

/* float32 whose upper halves are the nearest bfloats, whatever the lower ones hold. */
SPECIALISED __m512i rounded_to_bfloats(__m512 x) {
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    return _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
}

/* float32 to the upper halves that are nearest. */
SPECIALISED __m512i bfloats_of(__m512 x) {
    return _mm512_srli_epi32(rounded_to_bfloats(x), 16);
}

/* Of two vectors, one behind the other: a single permutation narrows both. */
SPECIALISED __m512i bfloats_of_two(__m512 a, __m512 b) {
    const __m512i upper =
        _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27,
                         25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    return _mm512_permutex2var_epi16(rounded_to_bfloats(a), upper, rounded_to_bfloats(b));
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

/* The largest magnitude; infinite if one is no number. */
SPECIALISED float largest_magnitude(const float *values, size_t count) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i largest = _mm512_setzero_si512(); /* as integers they order alike */
    for (size_t i = 0; i < count; i += VECTOR) {
        __mmask16 live = first_of_16(count - i);
        __m512i bits = _mm512_and_si512(_mm512_maskz_loadu_epi32(live, values + i), magnitude);
        largest = _mm512_max_epu32(largest, bits);
    }
    uint32_t bits = _mm512_reduce_max_epu32(largest);
    return bits_float(bits < 0x7f800000u ? bits : 0x7f800000u);
}

/* Whether q * step + mean may leave the dtype's range, |q| being at most `most`. */
SPECIALISED bool may_leave_range(enum page_dtype dtype, float mean, float step, float most) {
    return !(mean + step * most < limit_of(dtype) * 0.99f);
}

#endif
