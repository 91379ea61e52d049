/* From token-major values to channel-major integers, and the statistics before, for AVX2. */
#include "proto/page/avx2_numbers.h"
#include "proto/page/workspace.h"

SPECIALISED const uint8_t *source_row(const struct page_source_rows *in, size_t token) {
    return (const uint8_t *)in->rows[token] + in->offset_bytes;
}

/* Rows lie further apart than processors fetch ahead on their own. */
SPECIALISED void fetch_ahead(const struct page_source_rows *in, size_t token, size_t row_bytes) {
    enum { AHEAD = 8, LINE_BYTES = 64 };
    if (token + AHEAD < in->tokens)
        for (size_t i = 0; i < row_bytes; i += LINE_BYTES)
            _mm_prefetch(source_row(in, token + AHEAD) + i, _MM_HINT_T0);
}

/* ---- statistics ---- */

/* Of 32 channels at once: additions wait for those before them. */
SPECIALISED void sum_32(enum page_dtype dtype, const struct page_source_rows *in, size_t channel,
                        float *sum) {
    __m256 total[4];
    for (size_t i = 0; i < 4; i++)
        total[i] = _mm256_loadu_ps(sum + channel + i * EIGHT);
    for (size_t t = 0; t < in->tokens; t++) {
        const uint8_t *values = source_row(in, t) + channel * value_bytes(dtype);
        if (channel % PAGE_BLOCK == 0)
            fetch_ahead(in, t, in->channels * value_bytes(dtype));
        for (size_t i = 0; i < 4; i++)
            total[i] =
                _mm256_add_ps(total[i], load8(dtype, values + i * EIGHT * value_bytes(dtype)));
    }
    for (size_t i = 0; i < 4; i++)
        _mm256_storeu_ps(sum + channel + i * EIGHT, total[i]);
}

SPECIALISED void sum_rows(enum page_dtype dtype, const struct page_source_rows *in, float *sum) {
    size_t c = 0;
    for (; c + 32 <= in->channels; c += 32)
        sum_32(dtype, in, c, sum);
    for (; c < in->channels; c += EIGHT) {
        size_t count = in->channels - c < EIGHT ? in->channels - c : EIGHT;
        __m256 total = load_part(PAGE_F32, sum + c, count);
        for (size_t t = 0; t < in->tokens; t++)
            total = _mm256_add_ps(
                total, load_part(dtype, source_row(in, t) + c * value_bytes(dtype), count));
        float eight[EIGHT];
        _mm256_storeu_ps(eight, total);
        memcpy(sum + c, eight, count * sizeof *sum);
    }
}

/* Sixteen channels' squares of differences onto the lanes. */
SPECIALISED void add_deviation(enum page_dtype dtype, const uint8_t *values, size_t count,
                               const float *mean, __m256 lanes[2]) {
    for (size_t i = 0; i < 2 && i * EIGHT < count; i++) {
        __m256 x = load_part(dtype, values + i * EIGHT * value_bytes(dtype), count - i * EIGHT);
        __m256 difference = _mm256_sub_ps(x, _mm256_loadu_ps(mean + i * EIGHT));
        lanes[i] = _mm256_add_ps(lanes[i], _mm256_mul_ps(difference, difference));
    }
}

SPECIALISED void deviation(enum page_dtype dtype, const struct page_source_rows *in,
                           const float *mean, float (*lanes)[PAGE_LANES]) {
    float means[PAGE_BLOCK] = {0};
    memcpy(means, mean, in->channels * sizeof *mean);
    for (size_t t = 0; t < in->tokens; t++) {
        const uint8_t *row = source_row(in, t);
        fetch_ahead(in, t, in->channels * value_bytes(dtype));
        __m256 sum[2] = {_mm256_loadu_ps(lanes[t]), _mm256_loadu_ps(lanes[t] + EIGHT)};
        size_t c = 0;
        for (; c + 16 <= in->channels; c += 16)
            add_deviation(dtype, row + c * value_bytes(dtype), 16, means + c, sum);
        if (c < in->channels)
            add_deviation(dtype, row + c * value_bytes(dtype), in->channels - c, means + c, sum);
        _mm256_storeu_ps(lanes[t], sum[0]);
        _mm256_storeu_ps(lanes[t] + EIGHT, sum[1]);
    }
}

/* ---- quantising ---- */

/* Sums over the tokens so far, on sixteen lanes each, and what did not fit. */
struct sums {
    __m256 error[2], energy[2];
    __m256i outside;
};

/* a - b: rounded the same, but not where the conversions between floats and integers are made. */
SPECIALISED __m256 difference(__m256 a, __m256 b) {
    __m256 one = _mm256_set1_ps(1);
    __asm__("" : "+x"(one));
    return _mm256_fmsub_ps(a, one, b);
}

/* Eight integers; the squares go to half `half` of the lanes. */
SPECIALISED __m256i quantise_8(struct coding coding, __m256 x, const float *means,
                               struct page_step step, int half, struct sums *sums) {
    __m256 mean = _mm256_loadu_ps(means), one = _mm256_set1_ps(step.step);
    __m256i q =
        _mm256_cvtps_epi32(_mm256_mul_ps(difference(x, mean), _mm256_set1_ps(step.inverse)));
    sums->outside = _mm256_or_si256(
        sums->outside, _mm256_add_epi32(q, _mm256_set1_epi32(coding.wide ? 0x8000 : 0x80)));
    __m256 back = _mm256_cvtepi32_ps(q);
    back = coding.wide ? _mm256_add_ps(_mm256_mul_ps(back, one), mean)
                       : _mm256_fmadd_ps(back, one, mean);
    __m256 wrong = difference(x, round8(coding.dtype, coding.small, back));
    sums->error[half] = _mm256_add_ps(sums->error[half], _mm256_mul_ps(wrong, wrong));
    sums->energy[half] = coding.dtype == PAGE_F16 /* whose squares are exact */
                             ? _mm256_fmadd_ps(x, x, sums->energy[half])
                             : _mm256_add_ps(sums->energy[half], _mm256_mul_ps(x, x));
    return q;
}

struct token {
    const uint8_t *row;
    const float *means; /* [64] */
    struct page_step step;
    size_t channels;
};

SPECIALISED __m256 load_at(enum page_dtype dtype, const struct token *token, size_t c) {
    return c < token->channels
               ? load_part(dtype, token->row + c * value_bytes(dtype), token->channels - c)
               : _mm256_setzero_ps();
}

/* 32 integers, from channel c on, to the tile's row. */
SPECIALISED void quantise_32(struct coding coding, const struct token *token, size_t c, void *row,
                             struct sums *sums) {
    __m256i q[4];
    for (size_t i = 0; i < 4; i++)
        q[i] = quantise_8(coding, load_at(coding.dtype, token, c + i * EIGHT),
                          token->means + c + i * EIGHT, token->step, i % 2, sums);
    __m256i a = _mm256_packs_epi32(q[0], q[1]), b = _mm256_packs_epi32(q[2], q[3]);
    if (coding.wide) {
        _mm256_storeu_si256((void *)((int16_t *)row + c), _mm256_permute4x64_epi64(a, 0xd8));
        _mm256_storeu_si256((void *)((int16_t *)row + c + 16), _mm256_permute4x64_epi64(b, 0xd8));
    } else {
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order);
        _mm256_storeu_si256((void *)((int8_t *)row + c), bytes);
    }
}

SPECIALISED void quantise_token(struct coding coding, const struct token *token, void *row,
                                struct sums *sums) {
#pragma GCC unroll 1 /* or the sums do not stay in registers */
    for (size_t c = 0; c < token->channels; c += 32)
        quantise_32(coding, token, c, row, sums);
}

enum { TURNED = 16 /* tokens at a time */ };

SPECIALISED void turn_tile(bool wide, const void *tile, size_t channels, size_t token, void *q) {
    if (!wide) {
        for (size_t c = 0; c < channels; c += 32)
            turn_bytes((const uint8_t *)tile + c, PAGE_BLOCK, TURNED,
                       (uint8_t *)q + c * RANS_ROW_VALUES + token, RANS_ROW_VALUES, channels - c);
        return;
    }
    for (size_t c = 0; c < channels; c += 16)
        for (size_t t = 0; t < TURNED; t += 8)
            turn_words((const int16_t *)tile + t * PAGE_BLOCK + c, PAGE_BLOCK, 8,
                       (int16_t *)q + c * RANS_ROW_VALUES + token + t, RANS_ROW_VALUES,
                       channels - c);
}

SPECIALISED uint32_t sum_of_eight(__m256i x) {
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(four) + (uint32_t)_mm_extract_epi32(four, 1);
}

/* A row has 128 values, of which the first `tokens` count. */
SPECIALISED uint32_t magnitude8(const int8_t *q, size_t tokens) {
    __m256i sum = _mm256_setzero_si256();
    for (size_t t = 0; t < tokens; t += 32) {
        __m256i x = _mm256_abs_epi8(_mm256_loadu_si256((const void *)(q + t)));
        if (tokens - t < 32)
            x = _mm256_and_si256(x, first_bytes(tokens - t));
        sum = _mm256_add_epi64(sum, _mm256_sad_epu8(x, _mm256_setzero_si256()));
    }
    return sum_of_eight(sum);
}

SPECIALISED uint32_t magnitude16(const int16_t *q, size_t tokens) {
    __m256i sum = _mm256_setzero_si256();
    for (size_t t = 0; t < tokens; t += 16) {
        __m256i x = _mm256_loadu_si256((const void *)(q + t));
        if (tokens - t < 16)
            x = _mm256_and_si256(x, first_bytes(2 * (tokens - t)));
        __m256i signs = _mm256_sign_epi16(_mm256_set1_epi16(1), x);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, signs));
    }
    return sum_of_eight(sum);
}

SPECIALISED void magnitudes(bool wide, const void *q, size_t channels, size_t tokens,
                            uint32_t *magnitude) {
    for (size_t c = 0; c < channels; c++)
        magnitude[c] = wide ? magnitude16((const int16_t *)q + c * RANS_ROW_VALUES, tokens)
                            : magnitude8((const int8_t *)q + c * RANS_ROW_VALUES, tokens);
}

/* Whether no value of the tile comes near the dtype's largest. */
SPECIALISED bool is_small(enum page_dtype dtype, bool wide, const float means[PAGE_BLOCK],
                          const struct page_step *steps, size_t tokens) {
    float step = 0, mean = 0;
    for (size_t t = 0; t < tokens; t++)
        step = steps[t].step > step ? steps[t].step : step;
    for (size_t c = 0; c < PAGE_BLOCK; c++) {
        float magnitude = means[c] < 0 ? -means[c] : means[c];
        mean = magnitude > mean ? magnitude : mean;
    }
    return (wide ? 32769 : 129) * step + mean < largest(dtype) / 2;
}

SPECIALISED void quantise_tokens(struct coding coding, size_t channels,
                                 const struct page_source_rows *in, const float *means,
                                 const struct page_step *steps, void *q, struct sums *sums) {
    _Alignas(32) PAGE_SCRATCH int16_t tile[TURNED * PAGE_BLOCK];
    size_t row_bytes = PAGE_BLOCK * (coding.wide ? 2 : 1);
    for (size_t t0 = 0; t0 < in->tokens; t0 += TURNED) {
        for (size_t t = t0; t < t0 + TURNED && t < in->tokens; t++) {
            struct token token = {source_row(in, t), means, steps[t], channels};
            fetch_ahead(in, t, channels * value_bytes(coding.dtype));
            quantise_token(coding, &token, (uint8_t *)tile + (t - t0) * row_bytes, sums);
        }
        turn_tile(coding.wide, tile, channels, t0, q);
    }
}

SPECIALISED uint32_t quantise(enum page_dtype dtype, bool wide, const struct page_source_rows *in,
                              const float *mean, const struct page_step *steps, void *q,
                              struct page_sums *out) {
    float means[PAGE_BLOCK] = {0};
    memcpy(means, mean, in->channels * sizeof *mean);
    struct sums sums = {{_mm256_setzero_ps(), _mm256_setzero_ps()},
                        {_mm256_setzero_ps(), _mm256_setzero_ps()},
                        _mm256_setzero_si256()};
    bool small = is_small(dtype, wide, means, steps, in->tokens);
    if (small && !wide && in->channels == PAGE_BLOCK)
        quantise_tokens((struct coding){dtype, wide, true}, PAGE_BLOCK, in, means, steps, q, &sums);
    else
        quantise_tokens((struct coding){dtype, wide, false}, in->channels, in, means, steps, q,
                        &sums);
    for (int half = 0; half < 2; half++) {
        _mm256_storeu_ps(out->lanes.error + half * EIGHT, sums.error[half]);
        _mm256_storeu_ps(out->lanes.energy + half * EIGHT, sums.energy[half]);
    }
    magnitudes(wide, q, in->channels, in->tokens, out->magnitude);
    __m256i outside = _mm256_srli_epi32(sums.outside, wide ? 16 : 8);
    return !_mm256_testz_si256(outside, outside);
}

#define QUANTISE_KERNELS(name, dtype)                                                              \
    void page_sum_##name##_avx2(const struct page_source_rows *in, float *sum) {                   \
        sum_rows(dtype, in, sum);                                                                  \
    }                                                                                              \
    void page_deviation_##name##_avx2(const struct page_source_rows *in, const float *mean,        \
                                      float(*lanes)[PAGE_LANES]) {                                 \
        deviation(dtype, in, mean, lanes);                                                         \
    }                                                                                              \
    uint32_t page_quantise8_##name##_avx2(const struct page_source_rows *in, const float *mean,    \
                                          const struct page_step *steps, int8_t *q,                \
                                          struct page_sums *sums) {                                \
        return quantise(dtype, false, in, mean, steps, q, sums);                                   \
    }                                                                                              \
    uint32_t page_quantise16_##name##_avx2(const struct page_source_rows *in, const float *mean,   \
                                           const struct page_step *steps, int16_t *q,              \
                                           struct page_sums *sums) {                               \
        return quantise(dtype, true, in, mean, steps, q, sums);                                    \
    }

QUANTISE_KERNELS(f16, PAGE_F16)
QUANTISE_KERNELS(bf16, PAGE_BF16)
QUANTISE_KERNELS(f32, PAGE_F32)

/* ---- ageing ---- */

void page_halve8_avx2(int8_t *q, size_t channels, size_t tokens, unsigned shift, int up,
                      uint32_t *magnitude) {
    const __m128i by = _mm_cvtsi32_si128((int)shift);
    const __m256i more = _mm256_set1_epi16((short)up);
    for (size_t c = 0; c < channels; c++)
        for (size_t t = 0; t < tokens; t += 16) {
            __m128i *at = (__m128i *)(q + c * RANS_ROW_VALUES + t);
            __m256i x = _mm256_cvtepi8_epi16(_mm_loadu_si128(at));
            x = _mm256_sra_epi16(_mm256_add_epi16(x, more), by);
            _mm_storeu_si128(
                at, _mm_packs_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
        }
    magnitudes(false, q, channels, tokens, magnitude);
}
