/* fast8: a row of values at a time, 64 at once. */
#include "proto/page/avx512_values.h"

/* Integers that order as the 16-bit floats do. */
SPECIALISED __m512i ordered(__m512i values) {
    __m512i sign = _mm512_srai_epi16(values, 15);
    return _mm512_ternarylogic_epi32(values, sign, _mm512_set1_epi16(0x7fff), 0x78); /* a^(b&c) */
}

SPECIALISED void range16(const uint8_t *values, __mmask32 live, int16_t *low, int16_t *high) {
    __m512i x = ordered(_mm512_maskz_loadu_epi16(live, values));
    __m512i lower = _mm512_min_epi16(x, _mm512_maskz_loadu_epi16(live, low));
    __m512i higher = _mm512_max_epi16(x, _mm512_maskz_loadu_epi16(live, high));
    _mm512_mask_storeu_epi16(low, live, lower);
    _mm512_mask_storeu_epi16(high, live, higher);
}

void page_range16_avx512(const void *values, size_t count, int16_t *low, int16_t *high) {
    const uint8_t *from = values;
    size_t i = 0;
    for (; i + 32 <= count; i += 32) {
        __m512i x = ordered(_mm512_loadu_si512(from + 2 * i));
        _mm512_storeu_si512(low + i, _mm512_min_epi16(x, _mm512_loadu_si512(low + i)));
        _mm512_storeu_si512(high + i, _mm512_max_epi16(x, _mm512_loadu_si512(high + i)));
    }
    if (i < count)
        range16(from + 2 * i, first_of_32(count - i), low + i, high + i);
}

void page_range32_avx512(const float *row, size_t count, float *low, float *high) {
    for (size_t i = 0; i < count; i += VECTOR) {
        __mmask16 live = first_of_16(count - i);
        __m512 x = _mm512_maskz_loadu_ps(live, row + i);
        __m512 lower = _mm512_min_ps(x, _mm512_maskz_loadu_ps(live, low + i));
        __m512 higher = _mm512_max_ps(x, _mm512_maskz_loadu_ps(live, high + i));
        _mm512_mask_storeu_ps(low + i, live, lower);
        _mm512_mask_storeu_ps(high + i, live, higher);
    }
}

/* ---- encoding ---- */

/* Sixteen values to integers 0..255, their squares to the sums. */
SPECIALISED __m512i encode_values(enum page_dtype dtype, __m512 x, const struct page_grid *grid,
                                  size_t at, __mmask16 live, __m512 *error, __m512 *energy) {
    __m512 base = _mm512_maskz_loadu_ps(live, grid->base + at);
    __m512 scale = _mm512_maskz_loadu_ps(live, grid->scale + at);
    __m512 inverse = _mm512_maskz_loadu_ps(live, grid->inverse + at);
    __m512 whole = _mm512_roundscale_ps(_mm512_mul_ps(x, inverse),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    whole = _mm512_min_ps(whole, _mm512_add_ps(base, _mm512_set1_ps(255)));
    __m512 difference = _mm512_sub_ps(x, round_clamped(dtype, _mm512_mul_ps(whole, scale)));
    *error = _mm512_add_ps(*error, _mm512_mul_ps(difference, difference));
    *energy = _mm512_add_ps(*energy, _mm512_mul_ps(x, x));
    return _mm512_cvtps_epi32(_mm512_sub_ps(whole, base));
}

SPECIALISED void fast8_encode(enum page_dtype dtype, const void *values,
                              const struct page_grid *grid, size_t count, uint8_t *q,
                              struct page_lanes *lanes) {
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    __m512 error = _mm512_loadu_ps(lanes->error), energy = _mm512_loadu_ps(lanes->energy);
    size_t i = 0;
    for (; i + PAGE_BLOCK <= count; i += PAGE_BLOCK) {
        __m512i parts[PARTS];
#pragma GCC unroll 4
        for (size_t part = 0; part < PARTS; part++) {
            __m512 x = load_values(dtype, values, i + part * VECTOR, 0xffff);
            parts[part] = encode_values(dtype, x, grid, i + part * VECTOR, 0xffff, &error, &energy);
        }
        __m512i bytes = _mm512_packus_epi16(_mm512_packs_epi32(parts[0], parts[1]),
                                            _mm512_packs_epi32(parts[2], parts[3]));
        _mm512_storeu_si512(q + i, _mm512_permutexvar_epi32(order, bytes));
    }
    for (; i < count; i += VECTOR) {
        __mmask16 live = first_of_16(count - i);
        __m512 x = load_values(dtype, values, i, live);
        __m512i part = encode_values(dtype, x, grid, i, live, &error, &energy);
        _mm_mask_storeu_epi8(q + i, live, _mm512_cvtepi32_epi8(part));
    }
    _mm512_storeu_ps(lanes->error, error);
    _mm512_storeu_ps(lanes->energy, energy);
}

/* ---- decoding ---- */

SPECIALISED __m512 decode_values(const uint8_t *q, const float *base, const float *scale,
                                 __mmask16 live) {
    __m512 x = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(live, q)));
    x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(live, base));
    return _mm512_mul_ps(x, _mm512_maskz_loadu_ps(live, scale));
}

/* Values of 16 bits, 32 of them: a cache line where `streaming`. */
SPECIALISED void decode_line(enum page_dtype dtype, const uint8_t *q, const float *base,
                             const float *scale, uint8_t *to, bool streaming) {
    __m256i a = to_16_clamped(dtype, decode_values(q, base, scale, 0xffff));
    __m256i b =
        to_16_clamped(dtype, decode_values(q + VECTOR, base + VECTOR, scale + VECTOR, 0xffff));
    __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
    if (streaming)
        _mm512_stream_si512((__m512i *)(void *)to, both);
    else
        _mm512_storeu_si512(to, both);
}

SPECIALISED void decode_rest(enum page_dtype dtype, const uint8_t *q, const float *base,
                             const float *scale, uint8_t *to, __mmask16 live) {
    __m512 x = decode_values(q, base, scale, live);
    if (dtype == PAGE_F32)
        _mm512_mask_storeu_ps(to, live, clamp_values(x, PAGE_F32_MAX));
    else
        _mm256_mask_storeu_epi16(to, live, to_16_clamped(dtype, x));
}

SPECIALISED void fast8_decode(enum page_dtype dtype, const uint8_t *q, const float *base,
                              const float *scale, size_t count, uint8_t *to, bool streaming) {
    size_t value_bytes = dtype == PAGE_F32 ? 4 : 2, i = 0;
    if (dtype != PAGE_F32)
        for (; i + 2 * VECTOR <= count; i += 2 * VECTOR)
            decode_line(dtype, q + i, base + i, scale + i, to + 2 * i, streaming);
    for (; i < count; i += VECTOR)
        decode_rest(dtype, q + i, base + i, scale + i, to + value_bytes * i,
                    first_of_16(count - i));
}

#define FAST8(name, dtype)                                                                         \
    void page_fast8_encode_##name##_avx512(const void *values, const struct page_grid *grid,       \
                                           size_t count, uint8_t *q, struct page_lanes *lanes) {   \
        fast8_encode(dtype, values, grid, count, q, lanes);                                        \
    }                                                                                              \
    void page_fast8_decode_##name##_avx512(const uint8_t *q, const float *base,                    \
                                           const float *scale, size_t count, void *values,         \
                                           bool streaming) {                                       \
        if (streaming && (uintptr_t)values % 64 == 0)                                              \
            fast8_decode(dtype, q, base, scale, count, values, true);                              \
        else                                                                                       \
            fast8_decode(dtype, q, base, scale, count, values, false);                             \
    }

FAST8(f16, PAGE_F16)
FAST8(bf16, PAGE_BF16)
FAST8(f32, PAGE_F32)
