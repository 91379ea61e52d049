/* fast8's kernels for AVX2. */
#include "proto/page/avx2_numbers.h"

/* ---- decoding ---- */

SPECIALISED __m256 fast8_values(const uint8_t *q, const float *low, const float *scale) {
    __m256 x = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadu_si64(q)));
    return _mm256_fmadd_ps(x, _mm256_loadu_ps(scale), _mm256_loadu_ps(low));
}

SPECIALISED void decode_16(enum page_dtype dtype, bool streaming, const uint8_t *q,
                           const float *low, const float *scale, void *values) {
    store16(dtype, false, streaming, values, fast8_values(q, low, scale),
            fast8_values(q + EIGHT, low + EIGHT, scale + EIGHT));
}

SPECIALISED void decode_last(enum page_dtype dtype, const uint8_t *q, const float *low,
                             const float *scale, size_t count, void *values) {
    uint8_t last_q[16] = {0}, last[16 * sizeof(float)];
    float last_low[16] = {0}, last_scale[16] = {0};
    memcpy(last_q, q, count);
    memcpy(last_low, low, count * sizeof *low);
    memcpy(last_scale, scale, count * sizeof *scale);
    decode_16(dtype, false, last_q, last_low, last_scale, last);
    memcpy(values, last, count * value_bytes(dtype));
}

SPECIALISED void decode_token(enum page_dtype dtype, const uint8_t *q, const float *low,
                              const float *scale, size_t count, uint8_t *values, bool streaming) {
    size_t i = 0;
    if (streaming && ((uintptr_t)values & 31) == 0)
        for (; i + 16 <= count; i += 16)
            decode_16(dtype, true, q + i, low + i, scale + i, values + i * value_bytes(dtype));
    for (; i + 16 <= count; i += 16)
        decode_16(dtype, false, q + i, low + i, scale + i, values + i * value_bytes(dtype));
    if (i < count)
        decode_last(dtype, q + i, low + i, scale + i, count - i, values + i * value_bytes(dtype));
}

SPECIALISED void decode(enum page_dtype dtype, const uint8_t *q, size_t token_bytes,
                        const float *low, const float *scale, const struct page_target_rows *out) {
    for (size_t t = out->first; t < out->last; t++)
        decode_token(dtype, q + t * token_bytes, low, scale, out->channels,
                     (uint8_t *)out->rows[t] + out->offset_bytes, out->streaming);
}

/* ---- encoding ---- */

struct sums {
    __m256 energy[PAGE_BLOCK / EIGHT];
    __m256i residual[PAGE_BLOCK / EIGHT]; /* of 16 channels 0..3 and 8..11, then the others */
};

struct grid {
    float fine[PAGE_BLOCK], offset[PAGE_BLOCK]; /* 0 behind the last channel */
    size_t channels;
};

/* Eight values, 256 to a step, and their squares. */
SPECIALISED __m256i fine_8(enum page_dtype dtype, __m256 x, const float *fine, const float *offset,
                           __m256 *energy) {
    *energy = dtype == PAGE_F16 ? _mm256_fmadd_ps(x, x, *energy) /* whose squares are exact */
                                : _mm256_add_ps(*energy, _mm256_mul_ps(x, x));
    __m256 z = _mm256_sub_ps(_mm256_mul_ps(x, _mm256_loadu_ps(fine)), _mm256_loadu_ps(offset));
    return _mm256_cvtps_epi32(z);
}

/* Sixteen channels' q; returns what they leave. */
SPECIALISED __m256i encode_16(enum page_dtype dtype, const uint8_t *values, const struct grid *grid,
                              size_t c, uint8_t *q, struct sums *sums) {
    __m256i z[2];
    size_t count = grid->channels - c;
    for (size_t i = 0; i < 2; i++) {
        size_t at = c + i * EIGHT;
        __m256 x = count > i * EIGHT
                       ? load_part(dtype, values + at * value_bytes(dtype), count - i * EIGHT)
                       : _mm256_setzero_ps();
        z[i] = fine_8(dtype, x, grid->fine + at, grid->offset + at, &sums->energy[at / EIGHT]);
    }
    __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(z[0], z[1]), 0xd8);
    __m256i high = _mm256_srli_epi16(words, 8);
    __m128i bytes =
        _mm_packus_epi16(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
    if (count >= 16)
        _mm_storeu_si128((void *)(q + c), bytes);
    else
        memcpy(q + c, &bytes, count);
    words =
        _mm256_sub_epi16(_mm256_and_si256(words, _mm256_set1_epi16(255)), _mm256_set1_epi16(128));
    return _mm256_max_epi16(words, _mm256_set1_epi16(-127));
}

/* Two tokens, or one and nothing. */
SPECIALISED void encode_tokens(enum page_dtype dtype, const uint8_t *const rows[2],
                               const struct grid *grid, uint8_t *q, size_t token_bytes,
                               struct sums *sums) {
    for (size_t c = 0; c < grid->channels; c += 16) {
        __m256i a = encode_16(dtype, rows[0], grid, c, q, sums), b = _mm256_setzero_si256();
        if (rows[1] != NULL)
            b = encode_16(dtype, rows[1], grid, c, q + token_bytes, sums);
        __m256i low = _mm256_unpacklo_epi16(a, b), high = _mm256_unpackhi_epi16(a, b);
        __m256i *sum = sums->residual + c / EIGHT;
        sum[0] = _mm256_add_epi32(sum[0], _mm256_madd_epi16(low, low));
        sum[1] = _mm256_add_epi32(sum[1], _mm256_madd_epi16(high, high));
    }
}

static void store_sums(const struct sums *sums, struct page_fast8_sums *out) {
    memcpy(out->energy, sums->energy, sizeof out->energy);
    for (size_t i = 0; i < PAGE_BLOCK / EIGHT; i += 2) {
        __m256i low = sums->residual[i], high = sums->residual[i + 1];
        _mm256_storeu_si256((void *)(out->residual + i * EIGHT),
                            _mm256_permute2x128_si256(low, high, 0x20));
        _mm256_storeu_si256((void *)(out->residual + (i + 1) * EIGHT),
                            _mm256_permute2x128_si256(low, high, 0x31));
    }
}

SPECIALISED void encode(enum page_dtype dtype, const struct page_source_rows *in,
                        const struct grid *grid, uint8_t *q, size_t token_bytes,
                        struct page_fast8_sums *out) {
    struct sums sums = {0};
    for (size_t t = 0; t < in->tokens; t += 2) {
        const uint8_t *rows[2] = {(const uint8_t *)in->rows[t] + in->offset_bytes};
        if (t + 1 < in->tokens)
            rows[1] = (const uint8_t *)in->rows[t + 1] + in->offset_bytes;
        encode_tokens(dtype, rows, grid, q + t * token_bytes, token_bytes, &sums);
    }
    store_sums(&sums, out);
}

SPECIALISED void fast8_encode(enum page_dtype dtype, const struct page_source_rows *in,
                              const struct page_grid *grid, uint8_t *q, size_t token_bytes,
                              struct page_fast8_sums *sums) {
    struct grid whole = {.channels = in->channels};
    memcpy(whole.fine, grid->fine, in->channels * sizeof *grid->fine);
    memcpy(whole.offset, grid->offset, in->channels * sizeof *grid->offset);
    if (in->channels == PAGE_BLOCK) {
        whole.channels = PAGE_BLOCK; /* a constant to the loops */
        encode(dtype, in, &whole, q, token_bytes, sums);
    } else {
        encode(dtype, in, &whole, q, token_bytes, sums);
    }
}

#define FAST8_KERNELS(name, dtype)                                                                 \
    void page_fast8_encode_##name##_avx2(const struct page_source_rows *in,                        \
                                         const struct page_grid *grid, uint8_t *q,                 \
                                         size_t token_bytes, struct page_fast8_sums *sums) {       \
        fast8_encode(dtype, in, grid, q, token_bytes, sums);                                       \
    }                                                                                              \
    void page_fast8_decode_##name##_avx2(const uint8_t *q, size_t token_bytes, const float *low,   \
                                         const float *scale, const struct page_target_rows *out) { \
        decode(dtype, q, token_bytes, low, scale, out);                                            \
    }

FAST8_KERNELS(f16, PAGE_F16)
FAST8_KERNELS(bf16, PAGE_BF16)
FAST8_KERNELS(f32, PAGE_F32)
