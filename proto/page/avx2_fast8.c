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
    __m256 error[2], energy[2];
};

/* Eight values' q; their squares go to half `half` of the lanes. */
SPECIALISED __m256i encode_8(enum page_dtype dtype, __m256 x, __m256 base, __m256 scale,
                             __m256 inverse, int half, struct sums *sums) {
    __m256 whole =
        _mm256_round_ps(_mm256_mul_ps(x, inverse), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    whole = _mm256_min_ps(whole, _mm256_add_ps(base, _mm256_set1_ps(255)));
    __m256 wrong = _mm256_sub_ps(x, round8(dtype, false, _mm256_mul_ps(whole, scale)));
    sums->error[half] = _mm256_add_ps(sums->error[half], _mm256_mul_ps(wrong, wrong));
    sums->energy[half] = _mm256_add_ps(sums->energy[half], _mm256_mul_ps(x, x));
    return _mm256_cvttps_epi32(_mm256_sub_ps(whole, base));
}

SPECIALISED __m128i encode_16(enum page_dtype dtype, const uint8_t *values, const float *base,
                              const float *scale, const float *inverse, struct sums *sums) {
    __m256i q[2];
    for (int half = 0; half < 2; half++) {
        int i = half * EIGHT;
        q[half] = encode_8(dtype, load8(dtype, values + (size_t)i * value_bytes(dtype)),
                           _mm256_loadu_ps(base + i), _mm256_loadu_ps(scale + i),
                           _mm256_loadu_ps(inverse + i), half, sums);
    }
    __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(q[0], q[1]), 0xd8);
    return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

/* Zeros behind the last values add nothing to the sums. */
SPECIALISED void encode_last(enum page_dtype dtype, const uint8_t *values,
                             const struct page_grid *grid, size_t first, size_t count, uint8_t *q,
                             struct sums *sums) {
    uint8_t last[16 * sizeof(float)] = {0}, last_q[16];
    float base[16] = {0}, scale[16] = {0}, inverse[16] = {0};
    memcpy(last, values + first * value_bytes(dtype), count * value_bytes(dtype));
    memcpy(base, grid->base + first, count * sizeof *base);
    memcpy(scale, grid->scale + first, count * sizeof *scale);
    memcpy(inverse, grid->inverse + first, count * sizeof *inverse);
    _mm_storeu_si128((void *)last_q, encode_16(dtype, last, base, scale, inverse, sums));
    memcpy(q + first, last_q, count);
}

SPECIALISED void encode_token(enum page_dtype dtype, const uint8_t *values,
                              const struct page_grid *grid, size_t count, uint8_t *q,
                              struct sums *sums) {
    size_t i = 0;
    for (; i + 16 <= count; i += 16)
        _mm_storeu_si128((void *)(q + i),
                         encode_16(dtype, values + i * value_bytes(dtype), grid->base + i,
                                   grid->scale + i, grid->inverse + i, sums));
    if (i < count)
        encode_last(dtype, values, grid, i, count - i, q, sums);
}

SPECIALISED void encode(enum page_dtype dtype, const struct page_source_rows *in,
                        const struct page_grid *grid, uint8_t *q, size_t token_bytes,
                        struct page_lanes *lanes) {
    struct sums sums = {0};
    for (size_t t = 0; t < in->tokens; t++)
        encode_token(dtype, (const uint8_t *)in->rows[t] + in->offset_bytes, grid, in->channels,
                     q + t * token_bytes, &sums);
    for (int half = 0; half < 2; half++) {
        _mm256_storeu_ps(lanes->error + half * EIGHT, sums.error[half]);
        _mm256_storeu_ps(lanes->energy + half * EIGHT, sums.energy[half]);
    }
}

#define FAST8_KERNELS(name, dtype)                                                                 \
    void page_fast8_encode_##name##_avx2(const struct page_source_rows *in,                        \
                                         const struct page_grid *grid, uint8_t *q,                 \
                                         size_t token_bytes, struct page_lanes *lanes) {           \
        encode(dtype, in, grid, q, token_bytes, lanes);                                            \
    }                                                                                              \
    void page_fast8_decode_##name##_avx2(const uint8_t *q, size_t token_bytes, const float *low,   \
                                         const float *scale, const struct page_target_rows *out) { \
        decode(dtype, q, token_bytes, low, scale, out);                                            \
    }

FAST8_KERNELS(f16, PAGE_F16)
FAST8_KERNELS(bf16, PAGE_BF16)
FAST8_KERNELS(f32, PAGE_F32)
