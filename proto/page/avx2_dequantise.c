/* From channel-major integers to token-major values, for AVX2. */
#include "proto/page/avx2_numbers.h"
#include "proto/page/workspace.h"

/* What a tile has for each channel and token. */
struct tile {
    float mean[PAGE_BLOCK]; /* 0 behind the last channel */
    const float *steps;
    float phase;
};

/* Whether no value of the tile can reach the dtype's largest. */
SPECIALISED bool is_small(enum page_dtype dtype, const struct tile *tile,
                          const struct page_target_rows *out, float largest_q) {
    float step = 0, mean = 0;
    for (size_t t = out->first; t < out->last; t++)
        step = tile->steps[t] > step ? tile->steps[t] : step;
    for (size_t c = 0; c < PAGE_BLOCK; c++) {
        float magnitude = tile->mean[c] < 0 ? -tile->mean[c] : tile->mean[c];
        mean = magnitude > mean ? magnitude : mean;
    }
    return largest_q * step + mean < largest(dtype) / 2;
}

/* Eight values of a token; q points at as many integers. */
SPECIALISED __m256 eight_values(bool wide, const void *q, const float *mean, float step,
                                float phase) {
    __m256i integers =
        wide ? _mm256_cvtepi16_epi32(_mm_loadu_si128(q)) : _mm256_cvtepi8_epi32(_mm_loadu_si64(q));
    __m256 x = _mm256_add_ps(_mm256_cvtepi32_ps(integers), _mm256_set1_ps(phase));
    if (wide)
        return _mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(step)), _mm256_loadu_ps(mean));
    return _mm256_fmadd_ps(x, _mm256_set1_ps(step), _mm256_loadu_ps(mean));
}

SPECIALISED void dequantise_token(struct coding coding, bool streaming, const uint8_t *q,
                                  const struct tile *tile, float step, size_t channels,
                                  uint8_t *values) {
    bool wide = coding.wide;
    size_t q_bytes = wide ? 2 : 1, bytes = value_bytes(coding.dtype), c = 0;
    for (; c + 16 <= channels; c += 16) {
        const uint8_t *at = q + c * q_bytes;
        store16(coding.dtype, coding.small, streaming, values + c * bytes,
                eight_values(wide, at, tile->mean + c, step, tile->phase),
                eight_values(wide, at + 8 * q_bytes, tile->mean + c + 8, step, tile->phase));
    }
    if (c == channels)
        return;
    uint8_t last[16 * sizeof(float)];
    store16(coding.dtype, coding.small, false, last,
            eight_values(wide, q + c * q_bytes, tile->mean + c, step, tile->phase),
            eight_values(wide, q + (c + 8) * q_bytes, tile->mean + c + 8, step, tile->phase));
    memcpy(values + c * bytes, last, (channels - c) * bytes);
}

/* Tokens `from` to `to` - 1, which stand in `rows`, [tokens][64]. */
SPECIALISED void dequantise_tokens(struct coding coding, const uint8_t *rows,
                                   const struct tile *tile, const struct page_target_rows *out,
                                   size_t from, size_t to) {
    size_t row_bytes = PAGE_BLOCK * (coding.wide ? 2 : 1);
    for (size_t t = from; t < to; t++, rows += row_bytes) {
        uint8_t *values = (uint8_t *)out->rows[t] + out->offset_bytes;
        float step = tile->steps[t];
        if (out->streaming && ((uintptr_t)values & 31) == 0)
            dequantise_token(coding, true, rows, tile, step, out->channels, values);
        else
            dequantise_token(coding, false, rows, tile, step, out->channels, values);
    }
}

enum { TURNED = 32 /* tokens at a time */ };

SPECIALISED void turn_narrow(const int8_t *q, size_t channels, size_t token, uint8_t *rows) {
    for (size_t c = 0; c < channels; c += 16)
        turn_bytes((const uint8_t *)q + c * RANS_ROW_VALUES + token, RANS_ROW_VALUES, channels - c,
                   rows + c, PAGE_BLOCK, TURNED);
}

SPECIALISED void turn_wide(const int16_t *q, size_t channels, size_t token, int16_t *rows) {
    for (size_t c = 0; c < channels; c += 8)
        for (size_t t = 0; t < TURNED; t += 16)
            turn_words(q + c * RANS_ROW_VALUES + token + t, RANS_ROW_VALUES, channels - c,
                       rows + t * PAGE_BLOCK + c, PAGE_BLOCK, 16);
}

SPECIALISED void dequantise(enum page_dtype dtype, bool wide, const void *q, const float *mean,
                            const float *steps, float phase, const struct page_target_rows *out) {
    struct tile tile = {.steps = steps, .phase = phase};
    memcpy(tile.mean, mean, out->channels * sizeof *mean);
    bool small = is_small(dtype, &tile, out, wide ? 32769 : 129);
    _Alignas(32) PAGE_SCRATCH int16_t rows[TURNED * PAGE_BLOCK];
    for (size_t from = out->first, to; from < out->last; from = to) {
        size_t turned = from & ~(size_t)(TURNED - 1);
        to = turned + TURNED < out->last ? turned + TURNED : out->last;
        const uint8_t *first =
            (const uint8_t *)rows + (from - turned) * PAGE_BLOCK * (wide ? 2 : 1);
        if (wide)
            turn_wide(q, out->channels, turned, rows);
        else
            turn_narrow(q, out->channels, turned, (uint8_t *)rows);
        if (small)
            dequantise_tokens((struct coding){dtype, wide, true}, first, &tile, out, from, to);
        else
            dequantise_tokens((struct coding){dtype, wide, false}, first, &tile, out, from, to);
    }
}

#define DEQUANTISE_KERNELS(name, dtype)                                                            \
    void page_dequantise8_##name##_avx2(const int8_t *q, const float *mean, const float *steps,    \
                                        float phase, const struct page_target_rows *out) {         \
        dequantise(dtype, false, q, mean, steps, phase, out);                                      \
    }                                                                                              \
    void page_dequantise16_##name##_avx2(const int16_t *q, const float *mean, const float *steps,  \
                                         float phase, const struct page_target_rows *out) {        \
        dequantise(dtype, true, q, mean, steps, phase, out);                                       \
    }

DEQUANTISE_KERNELS(f16, PAGE_F16)
DEQUANTISE_KERNELS(bf16, PAGE_BF16)
DEQUANTISE_KERNELS(f32, PAGE_F32)
