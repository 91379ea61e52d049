/* Tiles of integers, channel-major, to tokens of floats. */
#include "proto/page/avx512_tokens.h"
#include "proto/page/workspace.h"

/* Tokens first .. last - 1 of a half. */
SPECIALISED void write_tokens(enum page_dtype dtype, const struct tile *tile,
                              const struct page_target_rows *out, size_t first, size_t last) {
    __m512 mean[PARTS];
    for (size_t group = 0; group < PARTS; group++) {
        size_t at = group * VECTOR, left = out->channels > at ? out->channels - at : 0;
        mean[group] = _mm512_maskz_loadu_ps(first_of_16(left), tile->mean + at);
    }
    for (size_t t = first; t < last; t++) {
        uint8_t *to = (uint8_t *)out->rows[t] + out->offset_bytes;
        if (out->channels < PAGE_BLOCK)
            write_part(dtype, tile, t, mean, out->channels, to);
        else if (out->streaming && (uintptr_t)to % 64 == 0)
            write_token(dtype, tile, t, mean, to, true);
        else
            write_token(dtype, tile, t, mean, to, false);
    }
}

/* The usual case apart: no phase, nothing to clamp. */
SPECIALISED void write_tile(enum page_dtype dtype, const struct tile *tile,
                            const struct page_target_rows *out, size_t first, size_t last) {
    struct tile usual = {.high = tile->high, .mean = tile->mean, .steps = tile->steps};
    if (tile->low == NULL && tile->phase == 0 && !tile->clamped) {
        usual.fused = true;
        write_tokens(dtype, &usual, out, first, last);
    } else {
        write_tokens(dtype, tile, out, first, last);
    }
}

SPECIALISED size_t at_most(size_t x, size_t limit) {
    return x < limit ? x : limit;
}

SPECIALISED void dequantise8(enum page_dtype dtype, const int8_t *q, const float *mean,
                             const float *steps, float phase, const struct page_target_rows *out) {
    PAGE_SCRATCH struct turned high;
    struct tile tile = {.high = &high, .mean = mean, .steps = steps, .phase = phase, .fused = true};
    tile.clamped =
        may_leave_range(dtype, largest_magnitude(mean, out->channels),
                        largest_magnitude(steps + out->first, out->last - out->first), 129);
    for (size_t t = out->first; t < out->last; t = (t / HALF_TOKENS + 1) * HALF_TOKENS) {
        size_t half = t / HALF_TOKENS * HALF_TOKENS;
        turn(q + half, out->channels, &high);
        write_tile(dtype, &tile, out, t, at_most(out->last, half + HALF_TOKENS));
    }
}

/* Bytes of half the tile's tokens, low and high ones apart. */
static void split_bytes(const int16_t *q, size_t channels, int8_t *low, int8_t *high) {
    for (size_t c = 0; c < channels; c++) {
        __m512i a = _mm512_load_si512(q + c * RANS_ROW_VALUES);
        __m512i b = _mm512_load_si512(q + c * RANS_ROW_VALUES + 32);
        __m512i lows = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(a)),
                                          _mm512_cvtepi16_epi8(b), 1);
        a = _mm512_srli_epi16(a, 8);
        b = _mm512_srli_epi16(b, 8);
        __m512i highs = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(a)),
                                           _mm512_cvtepi16_epi8(b), 1);
        _mm512_store_si512(low + c * RANS_ROW_VALUES, lows);
        _mm512_store_si512(high + c * RANS_ROW_VALUES, highs);
    }
}

SPECIALISED void dequantise16(enum page_dtype dtype, const int16_t *q, const float *mean,
                              const float *steps, float phase, const struct page_target_rows *out) {
    PAGE_SCRATCH _Alignas(64) int8_t low_bytes[PAGE_BLOCK * RANS_ROW_VALUES];
    PAGE_SCRATCH _Alignas(64) int8_t high_bytes[PAGE_BLOCK * RANS_ROW_VALUES];
    PAGE_SCRATCH struct turned low, high;
    struct tile tile = {.high = &high, .low = &low, .mean = mean, .steps = steps, .phase = phase};
    tile.clamped =
        may_leave_range(dtype, largest_magnitude(mean, out->channels),
                        largest_magnitude(steps + out->first, out->last - out->first), 32769);
    for (size_t t = out->first; t < out->last; t = (t / HALF_TOKENS + 1) * HALF_TOKENS) {
        size_t half = t / HALF_TOKENS * HALF_TOKENS;
        split_bytes(q + half, out->channels, low_bytes, high_bytes);
        turn(low_bytes, out->channels, &low);
        turn(high_bytes, out->channels, &high);
        write_tokens(dtype, &tile, out, t, at_most(out->last, half + HALF_TOKENS));
    }
}

#define DEQUANTISE(name, dtype)                                                                    \
    void page_dequantise8_##name##_avx512(const int8_t *q, const float *mean, const float *steps,  \
                                          float phase, const struct page_target_rows *out) {       \
        dequantise8(dtype, q, mean, steps, phase, out);                                            \
    }                                                                                              \
    void page_dequantise16_##name##_avx512(const int16_t *q, const float *mean,                    \
                                           const float *steps, float phase,                        \
                                           const struct page_target_rows *out) {                   \
        dequantise16(dtype, q, mean, steps, phase, out);                                           \
    }

DEQUANTISE(f16, PAGE_F16)
DEQUANTISE(bf16, PAGE_BF16)
DEQUANTISE(f32, PAGE_F32)
