/* fast8: a row of values at a time, 64 at once. */
#include "proto/page/avx512_values.h"

/* Integers that order as the 16-bit floats do. */
SPECIALISED __m512i ordered(__m512i values) {
    __m512i sign = _mm512_srai_epi16(values, 15);
    return _mm512_ternarylogic_epi32(values, sign, _mm512_set1_epi16(0x7fff), 0x78); /* a^(b&c) */
}

enum { RANGE_TOKENS = 4 }; /* in a go: fewer loads and stores of low and high */

/* 32 channels of one token and of the next, the last again where there are fewer. */
SPECIALISED void range_part(const struct page_source_rows *in, size_t token, size_t at,
                            __mmask32 live, int16_t *low, int16_t *high) {
    __m512i lower = _mm512_maskz_loadu_epi16(live, low + at);
    __m512i higher = _mm512_maskz_loadu_epi16(live, high + at);
#pragma GCC unroll 4
    for (size_t i = 0; i < RANGE_TOKENS; i++) {
        size_t t = token + i < in->tokens ? token + i : in->tokens - 1;
        const uint8_t *from = (const uint8_t *)in->rows[t] + in->offset_bytes + 2 * at;
        __m512i x = ordered(_mm512_maskz_loadu_epi16(live, from));
        lower = _mm512_min_epi16(lower, x);
        higher = _mm512_max_epi16(higher, x);
    }
    _mm512_mask_storeu_epi16(low + at, live, lower);
    _mm512_mask_storeu_epi16(high + at, live, higher);
}

void page_range16_avx512(const struct page_source_rows *in, int16_t *low, int16_t *high) {
    for (size_t t = 0; t < in->tokens; t += RANGE_TOKENS)
        for (size_t c = 0; c < in->channels; c += 32)
            range_part(in, t, c, first_of_32(in->channels - c), low, high);
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

/* Whether all values from a to b are within the dtype's range; false if one is no number. */
SPECIALISED bool stay_in_range(enum page_dtype dtype, __m512 a, __m512 b) {
    __m512 largest = _mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b));
    return _mm512_cmp_ps_mask(largest, _mm512_set1_ps(limit_of(dtype) * 0.99f), _CMP_NLT_UQ) == 0;
}

/* ---- encoding ---- */

/* Sixteen channels' numbers. Whole numbers are kept as ROUND + n, of which the low bits are n. */
struct part {
    __m512 inverse, scale, base, last, offset;
    __mmask16 live;
};

static const float ROUND = 0x1.8p23f;

SPECIALISED struct part load_part(const struct page_grid *grid, size_t at, size_t channels) {
    struct part part = {.live = first_of_16(channels > at ? channels - at : 0)};
    part.inverse = _mm512_maskz_loadu_ps(part.live, grid->inverse + at);
    part.scale = _mm512_maskz_loadu_ps(part.live, grid->scale + at);
    part.offset = _mm512_mul_ps(part.scale, _mm512_set1_ps(ROUND));
    part.base = _mm512_maskz_loadu_ps(part.live, grid->base + at);
    part.last = _mm512_add_ps(part.base, _mm512_set1_ps(255 + ROUND));
    part.base = _mm512_add_ps(part.base, _mm512_set1_ps(ROUND));
    return part;
}

/* Sixteen values to integers 0..255, their squares to the sums. */
SPECIALISED __m512i encode_values(enum page_dtype dtype, __m512 x, const struct part *part,
                                  bool clamped, __m512 *error, __m512 *energy) {
    const __m512 round = _mm512_set1_ps(ROUND);
    __m512 whole = _mm512_add_ps(_mm512_mul_ps(x, part->inverse), round);
    whole = _mm512_min_ps(whole, part->last);
    /* ROUND * scale is exact, and so is the difference: it is rounded once, as n * scale is. (Where
     * ROUND * scale is infinite, so is the energy, and the page is not for fast8.) */
    __m512 y = _mm512_fmsub_ps(whole, part->scale, part->offset);
    y = clamped ? round_clamped(dtype, y) : round_values(dtype, y);
    __m512 difference = _mm512_sub_ps(x, y);
    *error = _mm512_add_ps(*error, _mm512_mul_ps(difference, difference));
    *energy = dtype == PAGE_F16 ? _mm512_fmadd_ps(x, x, *energy) /* whose squares are exact */
                                : _mm512_add_ps(*energy, _mm512_mul_ps(x, x));
    return _mm512_sub_epi32(_mm512_castps_si512(whole), _mm512_castps_si512(part->base));
}

/* `usual`: the tile has all its channels, and no value leaves the dtype's range. */
SPECIALISED void encode_tokens(enum page_dtype dtype, const struct page_source_rows *in,
                               const struct part parts[PARTS], uint8_t *q, size_t token_bytes,
                               struct page_lanes *lanes, bool usual) {
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    __m512 error = _mm512_setzero_ps(), energy = _mm512_setzero_ps();
    for (size_t t = 0; t < in->tokens; t++) {
        const uint8_t *values = (const uint8_t *)in->rows[t] + in->offset_bytes;
        __m512i integers[PARTS];
#pragma GCC unroll 4
        for (size_t i = 0; i < PARTS; i++) {
            __m512 x = load_values(dtype, values, i * VECTOR, usual ? 0xffff : parts[i].live);
            integers[i] = encode_values(dtype, x, &parts[i], !usual, &error, &energy);
        }
        __m512i bytes = _mm512_packus_epi16(_mm512_packs_epi32(integers[0], integers[1]),
                                            _mm512_packs_epi32(integers[2], integers[3]));
        _mm512_mask_storeu_epi8(q + t * token_bytes,
                                usual ? ~(__mmask64)0 : first_of_64(in->channels),
                                _mm512_permutexvar_epi32(order, bytes));
    }
    _mm512_storeu_ps(lanes->error, error);
    _mm512_storeu_ps(lanes->energy, energy);
}

SPECIALISED void fast8_encode(enum page_dtype dtype, const struct page_source_rows *in,
                              const struct page_grid *grid, uint8_t *q, size_t token_bytes,
                              struct page_lanes *lanes) {
    struct part parts[PARTS];
    bool usual = in->channels == PAGE_BLOCK;
    for (size_t i = 0; i < PARTS; i++) {
        parts[i] = load_part(grid, i * VECTOR, in->channels);
        __m512 low = _mm512_fmsub_ps(parts[i].base, parts[i].scale, parts[i].offset);
        __m512 high = _mm512_fmsub_ps(parts[i].last, parts[i].scale, parts[i].offset);
        usual = usual && stay_in_range(dtype, low, high);
    }
    if (usual)
        encode_tokens(dtype, in, parts, q, token_bytes, lanes, true);
    else
        encode_tokens(dtype, in, parts, q, token_bytes, lanes, false);
}

/* ---- decoding ---- */

SPECIALISED __m512 decode_values(const uint8_t *q, const float *low, const float *scale,
                                 __mmask16 live) {
    __m512 x = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(live, q)));
    return _mm512_fmadd_ps(x, _mm512_maskz_loadu_ps(live, scale), _mm512_maskz_loadu_ps(live, low));
}

/* 32 values of 16 bits, all within the dtype's range: a cache line where `streaming`. */
SPECIALISED void decode_line(enum page_dtype dtype, const uint8_t *q, const float *low,
                             const float *scale, uint8_t *to, bool streaming) {
    __m256i a = to_16(dtype, decode_values(q, low, scale, 0xffff));
    __m256i b = to_16(dtype, decode_values(q + VECTOR, low + VECTOR, scale + VECTOR, 0xffff));
    __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
    store_line(to, both, streaming);
}

SPECIALISED void decode_part(enum page_dtype dtype, const uint8_t *q, const float *low,
                             const float *scale, uint8_t *to, __mmask16 live) {
    __m512 x = decode_values(q, low, scale, live);
    if (dtype == PAGE_F32)
        _mm512_mask_storeu_ps(to, live, clamp_values(x, PAGE_F32_MAX));
    else
        _mm256_mask_storeu_epi16(to, live, to_16_clamped(dtype, x));
}

struct run {
    const float *low, *scale;
    size_t channels;
};

/* By lines where `usual`, the rest by parts. */
SPECIALISED void decode_token(enum page_dtype dtype, const uint8_t *q, const struct run *run,
                              uint8_t *to, bool usual, bool streaming) {
    const float *low = run->low, *scale = run->scale;
    size_t value_bytes = dtype == PAGE_F32 ? 4 : 2, i = 0;
    if (usual)
        for (; i + 2 * VECTOR <= run->channels; i += 2 * VECTOR)
            decode_line(dtype, q + i, low + i, scale + i, to + 2 * i, streaming);
    for (; i < run->channels; i += VECTOR)
        decode_part(dtype, q + i, low + i, scale + i, to + value_bytes * i,
                    first_of_16(run->channels - i));
}

SPECIALISED bool is_usual(enum page_dtype dtype, const struct run *run) {
    bool usual = dtype != PAGE_F32;
    for (size_t i = 0; usual && i < run->channels; i += VECTOR) {
        __mmask16 live = first_of_16(run->channels - i);
        __m512 low = _mm512_maskz_loadu_ps(live, run->low + i);
        __m512 scale = _mm512_maskz_loadu_ps(live, run->scale + i);
        usual = stay_in_range(dtype, low, _mm512_fmadd_ps(scale, _mm512_set1_ps(255), low));
    }
    return usual;
}

SPECIALISED void fast8_decode(enum page_dtype dtype, const uint8_t *q, size_t token_bytes,
                              const float *low, const float *scale,
                              const struct page_target_rows *out) {
    struct run run = {low, scale, out->channels};
    bool usual = is_usual(dtype, &run);
    for (size_t t = out->first; t < out->last; t++) {
        const uint8_t *from = q + t * token_bytes;
        uint8_t *to = (uint8_t *)out->rows[t] + out->offset_bytes;
        if (!usual)
            decode_token(dtype, from, &run, to, false, false);
        else if (out->streaming && (uintptr_t)to % 64 == 0)
            decode_token(dtype, from, &run, to, true, true);
        else
            decode_token(dtype, from, &run, to, true, false);
    }
}

#define FAST8(name, dtype)                                                                         \
    void page_fast8_encode_##name##_avx512(const struct page_source_rows *in,                      \
                                           const struct page_grid *grid, uint8_t *q,               \
                                           size_t token_bytes, struct page_lanes *lanes) {         \
        fast8_encode(dtype, in, grid, q, token_bytes, lanes);                                      \
    }                                                                                              \
    void page_fast8_decode_##name##_avx512(const uint8_t *q, size_t token_bytes, const float *low, \
                                           const float *scale,                                     \
                                           const struct page_target_rows *out) {                   \
        fast8_decode(dtype, q, token_bytes, low, scale, out);                                      \
    }

FAST8(f16, PAGE_F16)
FAST8(bf16, PAGE_BF16)
FAST8(f32, PAGE_F32)
