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

/* a - b: rounded the same, but not where the conversions between floats and integers are made. */
SPECIALISED __m256 difference(__m256 a, __m256 b) {
    __m256 one = _mm256_set1_ps(1);
    __asm__("" : "+x"(one));
    return _mm256_fmsub_ps(a, one, b);
}

struct token {
    const uint8_t *row;
    const float *means; /* [64] */
    float fine;
    size_t channels;
};

/* Eight integers, 256 to a step. */
SPECIALISED __m256i fine_8(enum page_dtype dtype, const struct token *token, size_t c) {
    if (c >= token->channels)
        return _mm256_setzero_si256();
    __m256 x = load_part(dtype, token->row + c * value_bytes(dtype), token->channels - c);
    x = difference(x, _mm256_loadu_ps(token->means + c));
    return _mm256_cvtps_epi32(_mm256_mul_ps(x, _mm256_set1_ps(token->fine)));
}

/* Squares of what is left of steps, of 32 bytes. */
SPECIALISED __m256i squares_of(__m256i left) {
    left = _mm256_min_epu8(_mm256_abs_epi8(left), _mm256_set1_epi8(INT8_MAX));
    return _mm256_madd_epi16(_mm256_maddubs_epi16(left, left), _mm256_set1_epi16(1));
}

/* 32 values to the tile's row. Those too large for the 16 bits that they are packed to become too
 * large for int8. */
SPECIALISED void quantise_32(const __m256i z[4], int8_t *row, __m256i *residual) {
    const __m256i half = _mm256_set1_epi16(128), low_byte = _mm256_set1_epi16(255);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i a = _mm256_packs_epi32(z[0], z[1]), b = _mm256_packs_epi32(z[2], z[3]);
    __m256i left = _mm256_or_si256(_mm256_and_si256(a, low_byte), _mm256_slli_epi16(b, 8));
    *residual = _mm256_add_epi32(*residual, squares_of(left));
    a = _mm256_srai_epi16(_mm256_adds_epi16(a, half), 8);
    b = _mm256_srai_epi16(_mm256_adds_epi16(b, half), 8);
    _mm256_storeu_si256((void *)row, _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order));
}

struct range {
    __m256i largest, smallest;
};

SPECIALISED void quantise_32_wide(const __m256i z[4], int16_t *row, __m256i *residual,
                                  struct range *range) {
    __m256i q[4], left[4];
    for (size_t i = 0; i < 4; i++) {
        q[i] = _mm256_srai_epi32(_mm256_add_epi32(z[i], _mm256_set1_epi32(128)), 8);
        left[i] = _mm256_sub_epi32(z[i], _mm256_slli_epi32(q[i], 8));
        range->largest = _mm256_max_epi32(range->largest, q[i]);
        range->smallest = _mm256_min_epi32(range->smallest, q[i]);
    }
    __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(left[0], left[1]),
                                       _mm256_packs_epi32(left[2], left[3]));
    *residual = _mm256_add_epi32(*residual, squares_of(bytes));
    __m256i a = _mm256_packs_epi32(q[0], q[1]), b = _mm256_packs_epi32(q[2], q[3]);
    _mm256_storeu_si256((void *)row, _mm256_permute4x64_epi64(a, 0xd8));
    _mm256_storeu_si256((void *)(row + 16), _mm256_permute4x64_epi64(b, 0xd8));
}

SPECIALISED void quantise_token(struct coding coding, const struct token *token, void *row,
                                uint32_t *residual, struct range *range) {
    __m256i sum = _mm256_loadu_si256((const void *)residual);
    for (size_t c = 0; c < token->channels; c += 32) {
        __m256i z[4];
        for (size_t i = 0; i < 4; i++)
            z[i] = fine_8(coding.dtype, token, c + i * EIGHT);
        if (coding.wide)
            quantise_32_wide(z, (int16_t *)row + c, &sum, range);
        else
            quantise_32(z, (int8_t *)row + c, &sum);
    }
    _mm256_storeu_si256((void *)residual, sum);
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
SPECIALISED uint32_t magnitude8(const int8_t *q, size_t tokens, __m256i *largest) {
    __m256i sum = _mm256_setzero_si256();
    for (size_t t = 0; t < tokens; t += 32) {
        __m256i x = _mm256_abs_epi8(_mm256_loadu_si256((const void *)(q + t)));
        if (tokens - t < 32)
            x = _mm256_and_si256(x, first_bytes(tokens - t));
        *largest = _mm256_max_epu8(*largest, x);
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

/* Returns whether all int8 are below INT8_MAX. */
SPECIALISED bool magnitudes(bool wide, const void *q, size_t channels, size_t tokens,
                            uint32_t *magnitude) {
    __m256i largest = _mm256_setzero_si256();
    for (size_t c = 0; c < channels; c++)
        magnitude[c] = wide ? magnitude16((const int16_t *)q + c * RANS_ROW_VALUES, tokens)
                            : magnitude8((const int8_t *)q + c * RANS_ROW_VALUES, tokens, &largest);
    __m256i beyond = _mm256_subs_epu8(largest, _mm256_set1_epi8(INT8_MAX - 1));
    return _mm256_testz_si256(beyond, beyond);
}

SPECIALISED void quantise_tokens(struct coding coding, const struct page_source_rows *in,
                                 const float *means, const float *fine, void *q,
                                 struct page_sums *sums, struct range *range) {
    _Alignas(32) PAGE_SCRATCH int16_t tile[TURNED * PAGE_BLOCK];
    size_t row_bytes = PAGE_BLOCK * (coding.wide ? 2 : 1);
    for (size_t t0 = 0; t0 < in->tokens; t0 += TURNED) {
        for (size_t t = t0; t < t0 + TURNED && t < in->tokens; t++) {
            struct token token = {source_row(in, t), means, fine[t], in->channels};
            fetch_ahead(in, t, in->channels * value_bytes(coding.dtype));
            quantise_token(coding, &token, (uint8_t *)tile + (t - t0) * row_bytes,
                           sums->residual[t], range);
        }
        turn_tile(coding.wide, tile, in->channels, t0, q);
    }
}

static bool are_int16(const struct range *range) {
    __m256i beyond =
        _mm256_or_si256(_mm256_cmpgt_epi32(range->largest, _mm256_set1_epi32(INT16_MAX)),
                        _mm256_cmpgt_epi32(_mm256_set1_epi32(INT16_MIN), range->smallest));
    return _mm256_testz_si256(beyond, beyond);
}

SPECIALISED uint32_t quantise(enum page_dtype dtype, bool wide, const struct page_source_rows *in,
                              const float *mean, const float *fine, void *q,
                              struct page_sums *sums) {
    struct coding coding = {.dtype = dtype, .wide = wide};
    struct range range = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    float means[PAGE_BLOCK] = {0};
    memcpy(means, mean, in->channels * sizeof *mean);
    const struct page_source_rows whole = {in->rows, in->offset_bytes, in->tokens, PAGE_BLOCK};
    if (!wide && in->channels == PAGE_BLOCK)
        quantise_tokens(coding, &whole, means, fine, q, sums, &range);
    else
        quantise_tokens(coding, in, means, fine, q, sums, &range);
    bool small = magnitudes(wide, q, in->channels, in->tokens, sums->magnitude);
    return (wide ? are_int16(&range) : small) ? 0 : 1;
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
                                          const float *fine, int8_t *q, struct page_sums *sums) {  \
        return quantise(dtype, false, in, mean, fine, q, sums);                                    \
    }                                                                                              \
    uint32_t page_quantise16_##name##_avx2(const struct page_source_rows *in, const float *mean,   \
                                           const float *fine, int16_t *q,                          \
                                           struct page_sums *sums) {                               \
        return quantise(dtype, true, in, mean, fine, q, sums);                                     \
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
