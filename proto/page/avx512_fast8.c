/* fast8: a row of values at a time, 64 at once. */
#include "proto/page/avx512_values.h"

/* Integers that order as the 16-bit floats do. */
SPECIALISED __m512i ordered(__m512i values) {
    __m512i sign = _mm512_srai_epi16(values, 15);
    return _mm512_ternarylogic_epi32(values, sign, _mm512_set1_epi16(0x7fff), 0x78); /* a^(b&c) */
}

/* Four tokens in a go, for fewer loads and stores of low and high; a quarter of the page apart, for
 * memory is read ahead in each place, which it is not where rows of one place are taken in turns.
 */
enum { PLACES = 4 };

/* 32 channels of a token in each place, the page's last where there are fewer. */
SPECIALISED void range_part(const struct page_source_rows *in, size_t token, size_t at,
                            __mmask32 live, int16_t *low, int16_t *high) {
    size_t apart = (in->tokens + PLACES - 1) / PLACES;
    __m512i lower = _mm512_maskz_loadu_epi16(live, low + at);
    __m512i higher = _mm512_maskz_loadu_epi16(live, high + at);
#pragma GCC unroll 4
    for (size_t i = 0; i < PLACES; i++) {
        size_t t = token + i * apart < in->tokens ? token + i * apart : in->tokens - 1;
        const uint8_t *from = (const uint8_t *)in->rows[t] + in->offset_bytes + 2 * at;
        __m512i x = ordered(_mm512_maskz_loadu_epi16(live, from));
        lower = _mm512_min_epi16(lower, x);
        higher = _mm512_max_epi16(higher, x);
    }
    _mm512_mask_storeu_epi16(low + at, live, lower);
    _mm512_mask_storeu_epi16(high + at, live, higher);
}

void page_range16_avx512(const struct page_source_rows *in, int16_t *low, int16_t *high) {
    for (size_t t = 0; t < (in->tokens + PLACES - 1) / PLACES; t++)
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

struct channels {
    __m512 fine[PARTS], offset[PARTS];
    __mmask16 live[PARTS];
    size_t count;
};

SPECIALISED void load_channels(const struct page_grid *grid, struct channels *channels) {
    live_parts(channels->count, channels->live);
    load_parts(grid->fine, channels->live, channels->fine);
    load_parts(grid->offset, channels->live, channels->offset);
}

/* Over tokens. residual[i] has channels 4 * i.. of each 16. */
struct sums {
    __m512 energy[PARTS];
    __m512i residual[PARTS];
};

/* Sixteen values, 256 to a step, and their squares. */
SPECIALISED __m512i fine_values(enum page_dtype dtype, __m512 x, __m512 fine, __m512 offset,
                                __m512 *energy) {
    *energy = dtype == PAGE_F16 ? _mm512_fmadd_ps(x, x, *energy) /* whose squares are exact */
                                : _mm512_add_ps(*energy, _mm512_mul_ps(x, x));
    return _mm512_cvtps_epi32(_mm512_sub_ps(_mm512_mul_ps(x, fine), offset));
}

/* A token's q; returns the magnitudes of what they leave. `low` and `high` are where packing has
 * put the bytes of each channel's 16 bits. */
SPECIALISED __m512i encode_token(enum page_dtype dtype, const uint8_t *values,
                                 const struct channels *channels, struct sums *sums, uint8_t *q) {
    const __m512i low = _mm512_set_epi8(
        126, 124, 122, 120, 110, 108, 106, 104, 94, 92, 90, 88, 78, 76, 74, 72, 118, 116, 114, 112,
        102, 100, 98, 96, 86, 84, 82, 80, 70, 68, 66, 64, 62, 60, 58, 56, 46, 44, 42, 40, 30, 28,
        26, 24, 14, 12, 10, 8, 54, 52, 50, 48, 38, 36, 34, 32, 22, 20, 18, 16, 6, 4, 2, 0);
    const __m512i high = _mm512_add_epi8(low, _mm512_set1_epi8(1));
    __m512i z[PARTS];
#pragma GCC unroll 4
    for (size_t i = 0; i < PARTS; i++)
        z[i] = fine_values(dtype, load_values(dtype, values, i * VECTOR, channels->live[i]),
                           channels->fine[i], channels->offset[i], &sums->energy[i]);
    __m512i a = _mm512_packus_epi32(z[0], z[1]), b = _mm512_packus_epi32(z[2], z[3]);
    __m512i whole = _mm512_permutex2var_epi8(a, high, b);
    __m512i left = _mm512_permutex2var_epi8(a, low, b);
    _mm512_mask_storeu_epi8(q, first_of_64(channels->count), whole);
    left = _mm512_abs_epi8(_mm512_xor_si512(left, _mm512_set1_epi8(-128)));
    return _mm512_min_epu8(left, _mm512_set1_epi8(INT8_MAX));
}

/* Squares of four tokens, each channel's side by side. */
SPECIALISED void add_residual(const __m512i left[4], struct sums *sums) {
    __m512i a = _mm512_unpacklo_epi8(left[0], left[1]), b = _mm512_unpackhi_epi8(left[0], left[1]);
    __m512i c = _mm512_unpacklo_epi8(left[2], left[3]), d = _mm512_unpackhi_epi8(left[2], left[3]);
    __m512i four[PARTS] = {_mm512_unpacklo_epi16(a, c), _mm512_unpackhi_epi16(a, c),
                           _mm512_unpacklo_epi16(b, d), _mm512_unpackhi_epi16(b, d)};
#pragma GCC unroll 4
    for (size_t i = 0; i < PARTS; i++)
        sums->residual[i] = _mm512_dpbusd_epi32(sums->residual[i], four[i], four[i]);
}

SPECIALISED void store_sums(const struct sums *sums, struct page_fast8_sums *out) {
#pragma GCC unroll 4
    for (size_t i = 0; i < PARTS; i++) {
        __m512i places =
            _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 32, 33, 34, 35, 48, 49, 50, 51);
        _mm512_storeu_ps(out->energy + i * VECTOR, sums->energy[i]);
        _mm512_i32scatter_epi32(out->residual + 4 * i, places, sums->residual[i], 4);
    }
}

/* A page is written a block of channels after the other, in places that are far apart: those of a
 * later block come while this one is computed. */
enum { BLOCKS_AHEAD = 2 };

/* Of four tokens, or of fewer at the end. */
SPECIALISED void encode_four(enum page_dtype dtype, const struct page_source_rows *four,
                             const struct channels *channels, uint8_t *q, size_t token_bytes,
                             struct sums *sums) {
    __m512i left[4];
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++)
        _mm_prefetch(q + i * token_bytes + BLOCKS_AHEAD * PAGE_BLOCK, _MM_HINT_T0);
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++)
        left[i] = i < four->tokens
                      ? encode_token(dtype, (const uint8_t *)four->rows[i] + four->offset_bytes,
                                     channels, sums, q + i * token_bytes)
                      : _mm512_setzero_si512();
    add_residual(left, sums);
}

SPECIALISED void encode_tokens(enum page_dtype dtype, const struct page_source_rows *in,
                               const struct channels *channels, uint8_t *q, size_t token_bytes,
                               struct page_fast8_sums *out) {
    struct page_source_rows four = {in->rows, in->offset_bytes, 4, in->channels};
    struct sums sums;
    size_t left = in->tokens;
#pragma GCC unroll 4
    for (size_t i = 0; i < PARTS; i++) {
        sums.energy[i] = _mm512_setzero_ps();
        sums.residual[i] = _mm512_setzero_si512();
    }
    for (; left >= 4; left -= 4, four.rows += 4, q += 4 * token_bytes)
        encode_four(dtype, &four, channels, q, token_bytes, &sums);
    four.tokens = left;
    if (left > 0)
        encode_four(dtype, &four, channels, q, token_bytes, &sums);
    store_sums(&sums, out);
}

SPECIALISED void fast8_encode(enum page_dtype dtype, const struct page_source_rows *in,
                              const struct page_grid *grid, uint8_t *q, size_t token_bytes,
                              struct page_fast8_sums *sums) {
    struct channels channels = {.count = PAGE_BLOCK};
    if (in->channels == PAGE_BLOCK) {
        load_channels(grid, &channels);
        encode_tokens(dtype, in, &channels, q, token_bytes, sums);
        return;
    }
    channels.count = in->channels;
    load_channels(grid, &channels);
    encode_tokens(dtype, in, &channels, q, token_bytes, sums);
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
                                           size_t token_bytes, struct page_fast8_sums *sums) {     \
        fast8_encode(dtype, in, grid, q, token_bytes, sums);                                       \
    }                                                                                              \
    void page_fast8_decode_##name##_avx512(const uint8_t *q, size_t token_bytes, const float *low, \
                                           const float *scale,                                     \
                                           const struct page_target_rows *out) {                   \
        fast8_decode(dtype, q, token_bytes, low, scale, out);                                      \
    }

FAST8(f16, PAGE_F16)
FAST8(bf16, PAGE_BF16)
FAST8(f32, PAGE_F32)
