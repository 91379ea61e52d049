/* Tokens of floats to what the encoder wants to know of them, and to tiles of integers. */
#include "proto/page/avx512_values.h"
#include "proto/page/workspace.h"

SPECIALISED const uint8_t *row_of(const struct page_source_rows *in, size_t token) {
    return (const uint8_t *)in->rows[token] + in->offset_bytes;
}

/* ---- sums ---- */

SPECIALISED void sum_rows(enum page_dtype dtype, const struct page_source_rows *in, float *sum,
                          const __mmask16 live[PARTS]) {
    __m512 sums[PARTS];
    load_parts(sum, live, sums);
    for (size_t t = 0; t < in->tokens; t++) {
        const uint8_t *row = row_of(in, t);
#pragma GCC unroll 4
        for (size_t part = 0; part < PARTS; part++)
            sums[part] =
                _mm512_add_ps(sums[part], load_values(dtype, row, part * VECTOR, live[part]));
    }
#pragma GCC unroll 4
    for (size_t part = 0; part < PARTS; part++)
        _mm512_mask_storeu_ps(sum + part * VECTOR, live[part], sums[part]);
}

SPECIALISED void sum_tiles(enum page_dtype dtype, const struct page_source_rows *in, float *sum) {
    const __mmask16 whole[PARTS] = {0xffff, 0xffff, 0xffff, 0xffff};
    struct page_source_rows tile = *in;
    for (size_t c = 0; c < in->channels; c += PAGE_BLOCK) {
        __mmask16 live[PARTS];
        tile.channels = in->channels - c < PAGE_BLOCK ? in->channels - c : PAGE_BLOCK;
        live_parts(tile.channels, live);
        if (tile.channels == PAGE_BLOCK)
            sum_rows(dtype, &tile, sum + c, whole);
        else
            sum_rows(dtype, &tile, sum + c, live);
        tile.offset_bytes += PAGE_BLOCK * (dtype == PAGE_F32 ? sizeof(float) : sizeof(uint16_t));
    }
}

SPECIALISED void deviation_rows(enum page_dtype dtype, const struct page_source_rows *in,
                                const float *mean, float (*lanes)[PAGE_LANES],
                                const __mmask16 live[PARTS]) {
    __m512 means[PARTS];
    load_parts(mean, live, means);
    for (size_t t = 0; t < in->tokens; t++) {
        const uint8_t *row = row_of(in, t);
        __m512 lane = _mm512_loadu_ps(lanes[t]);
#pragma GCC unroll 4
        for (size_t part = 0; part < PARTS; part++) {
            __m512 x = load_values(dtype, row, part * VECTOR, live[part]);
            x = _mm512_sub_ps(x, means[part]); /* 0 where there is no channel */
            lane = _mm512_add_ps(lane, _mm512_mul_ps(x, x));
        }
        _mm512_storeu_ps(lanes[t], lane);
    }
}

/* ---- quantising ---- */

/* Where a token's channels stand in its 64 bytes: packing leaves them as four by four groups of
 * four, turned. */
SPECIALISED size_t channel_at(size_t quarter, size_t i) {
    return i / 4 * 16 + quarter * 4 + i % 4;
}

struct channels {
    __m512 mean[PARTS];
    __mmask16 live[PARTS];
};

/* What a kernel is made for; `whole`: the tile has all its channels. */
struct kind {
    enum page_dtype dtype;
    bool wide, whole;
};

/* 256 to a step. */
SPECIALISED void load_fine(enum page_dtype dtype, const struct channels *channels,
                           const uint8_t *row, float fine, __m512i z[PARTS]) {
#pragma GCC unroll 4
    for (size_t part = 0; part < PARTS; part++) {
        __m512 x = load_values(dtype, row, part * VECTOR, channels->live[part]);
        x = _mm512_sub_ps(x, channels->mean[part]);
        z[part] = _mm512_cvtps_epi32(_mm512_mul_ps(x, _mm512_set1_ps(fine)));
    }
}

/* Squares of what is left of steps, in 64 bytes. */
SPECIALISED void add_residual(__m512i left, uint32_t *lanes) {
    left = _mm512_min_epu8(_mm512_abs_epi8(left), _mm512_set1_epi8(INT8_MAX));
    __m512i sum = _mm512_loadu_si512(lanes);
    _mm512_storeu_si512(lanes, _mm512_dpbusd_epi32(sum, left, left));
}

/* Values too large for the 16 bits that they are packed to become too large for int8. */
SPECIALISED void quantise_token8(const __m512i z[PARTS], int8_t *q, uint32_t *residual) {
    __m512i a = _mm512_packs_epi32(z[0], z[1]), b = _mm512_packs_epi32(z[2], z[3]);
    const __m512i half = _mm512_set1_epi16(128), low_byte = _mm512_set1_epi16(255);
    add_residual(_mm512_ternarylogic_epi32(low_byte, a, _mm512_slli_epi16(b, 8), 0xca), residual);
    a = _mm512_srai_epi16(_mm512_adds_epi16(a, half), 8);
    b = _mm512_srai_epi16(_mm512_adds_epi16(b, half), 8);
    _mm512_store_si512(q, _mm512_packs_epi16(a, b));
}

/* What a tile's tokens add up to; the range is that of wide ones. */
struct tokens {
    uint32_t (*residual)[PAGE_LANES];
    __m512i largest, smallest;
};

/* Low bytes and high bytes of int16. */
SPECIALISED void quantise_token16(const __m512i z[PARTS], int8_t *low, int8_t *high,
                                  uint32_t *residual, struct tokens *tokens) {
    __m512i q[PARTS], left[PARTS];
    for (size_t part = 0; part < PARTS; part++) {
        q[part] = _mm512_srai_epi32(_mm512_add_epi32(z[part], _mm512_set1_epi32(128)), 8);
        left[part] = _mm512_sub_epi32(z[part], _mm512_slli_epi32(q[part], 8));
        tokens->largest = _mm512_max_epi32(tokens->largest, q[part]);
        tokens->smallest = _mm512_min_epi32(tokens->smallest, q[part]);
    }
    add_residual(_mm512_packs_epi16(_mm512_packs_epi32(left[0], left[1]),
                                    _mm512_packs_epi32(left[2], left[3])),
                 residual);
    __m512i a = _mm512_packs_epi32(q[0], q[1]), b = _mm512_packs_epi32(q[2], q[3]);
    __m512i low_byte = _mm512_set1_epi16(255);
    _mm512_store_si512(
        low, _mm512_packus_epi16(_mm512_and_si512(a, low_byte), _mm512_and_si512(b, low_byte)));
    _mm512_store_si512(high, _mm512_packs_epi16(_mm512_srai_epi16(a, 8), _mm512_srai_epi16(b, 8)));
}

SPECIALISED void store_rows8(const struct half *low, size_t channels, int8_t *q) {
#pragma GCC unroll 4
    for (size_t i = 0; i < 16; i++) {
        __m512i rows[4];
        join_groups(low->bytes, i, rows);
#pragma GCC unroll 4
        for (size_t quarter = 0; quarter < 4; quarter++)
            if (channels == PAGE_BLOCK || channel_at(quarter, i) < channels)
                _mm512_store_si512(q + channel_at(quarter, i) * RANS_ROW_VALUES, rows[quarter]);
    }
}

static void store_rows16(const struct half *low, const struct half *high, size_t channels,
                         int16_t *q) {
    for (size_t i = 0; i < 16; i++) {
        __m512i lows[4], highs[4];
        join_groups(low->bytes, i, lows);
        join_groups(high->bytes, i, highs);
        for (size_t quarter = 0; quarter < 4; quarter++) {
            if (channel_at(quarter, i) >= channels)
                continue;
            int16_t *row = q + channel_at(quarter, i) * RANS_ROW_VALUES;
            for (int part = 0; part < 2; part++) {
                __m256i l = part ? _mm512_extracti64x4_epi64(lows[quarter], 1)
                                 : _mm512_castsi512_si256(lows[quarter]);
                __m256i h = part ? _mm512_extracti64x4_epi64(highs[quarter], 1)
                                 : _mm512_castsi512_si256(highs[quarter]);
                __m512i value = _mm512_slli_epi16(_mm512_cvtepu8_epi16(h), 8);
                value = _mm512_or_si512(value, _mm512_cvtepu8_epi16(l));
                _mm512_store_si512(row + 32 * part, value);
            }
        }
    }
}

/* ---- magnitudes ---- */

/* Eight partial sums of a row. */
SPECIALISED __m512i magnitude8(const int8_t *q, const __mmask64 live[2], __m512i *largest) {
    __m512i zero = _mm512_setzero_si512();
    __m512i a = _mm512_abs_epi8(_mm512_maskz_loadu_epi8(live[0], q));
    __m512i b = _mm512_abs_epi8(_mm512_maskz_loadu_epi8(live[1], q + 64));
    *largest = _mm512_max_epu8(*largest, _mm512_max_epu8(a, b));
    return _mm512_add_epi64(_mm512_sad_epu8(a, zero), _mm512_sad_epu8(b, zero));
}

/* A row's sum takes 15 bits, so four rows are added up at once. Returns whether all are below
 * INT8_MAX. */
static bool magnitudes8(const int8_t *q, size_t channels, size_t tokens, uint32_t *magnitude) {
    const __mmask64 live[2] = {first_of_64(tokens), first_of_64(tokens > 64 ? tokens - 64 : 0)};
    __m512i largest = _mm512_setzero_si512();
    for (size_t c = 0; c < channels; c += 4) {
        __m512i four = _mm512_setzero_si512();
        size_t count = channels - c < 4 ? channels - c : 4;
        for (size_t i = count; i-- > 0;)
            four = _mm512_or_si512(_mm512_slli_epi64(four, 16),
                                   magnitude8(q + (c + i) * RANS_ROW_VALUES, live, &largest));
        uint64_t sums = (uint64_t)_mm512_reduce_add_epi64(four);
        for (size_t i = 0; i < count; i++)
            magnitude[c + i] = (uint32_t)(sums >> 16 * i & 0xffff);
    }
    return _mm512_cmpge_epu8_mask(largest, _mm512_set1_epi8(INT8_MAX)) == 0;
}

static void magnitudes16(const int16_t *q, size_t channels, size_t tokens, uint32_t *magnitude) {
    for (size_t c = 0; c < channels; c++) {
        __m512i sums = _mm512_setzero_si512();
        for (size_t t = 0; t < tokens; t += VECTOR) {
            __m256i values =
                _mm256_maskz_loadu_epi16(first_of_16(tokens - t), q + c * RANS_ROW_VALUES + t);
            sums = _mm512_add_epi32(sums, _mm512_abs_epi32(_mm512_cvtepi16_epi32(values)));
        }
        magnitude[c] = (uint32_t)_mm512_reduce_add_epi32(sums);
    }
}

/* ---- tiles ---- */

SPECIALISED void quantise_half(struct kind kind, const struct page_source_rows *in,
                               const struct channels *channels, const float *fine, size_t first,
                               void *q, struct tokens *tokens) {
    PAGE_SCRATCH struct half low, high;
    size_t count = in->tokens - first < HALF_TOKENS ? in->tokens - first : HALF_TOKENS;
    for (size_t t = 0; t < count; t++) {
        __m512i z[PARTS];
        load_fine(kind.dtype, channels, row_of(in, first + t), fine[first + t], z);
        if (kind.wide)
            quantise_token16(z, low.bytes[t], high.bytes[t], tokens->residual[first + t], tokens);
        else
            quantise_token8(z, low.bytes[t], tokens->residual[first + t]);
    }
    for (size_t t = count; t < HALF_TOKENS; t++)
        _mm512_store_si512(low.bytes[t], _mm512_setzero_si512());
    turn_half(&low);
    if (!kind.wide) {
        store_rows8(&low, kind.whole ? PAGE_BLOCK : in->channels, (int8_t *)q + first);
        return;
    }
    for (size_t t = count; t < HALF_TOKENS; t++)
        _mm512_store_si512(high.bytes[t], _mm512_setzero_si512());
    turn_half(&high);
    store_rows16(&low, &high, in->channels, (int16_t *)q + first);
}

/* Returns whether all q's fit. */
SPECIALISED bool quantise_rows(struct kind kind, const struct page_source_rows *in,
                               const float *mean, const float *fine, void *q,
                               struct page_sums *sums) {
    struct tokens tokens = {sums->residual, _mm512_setzero_si512(), _mm512_setzero_si512()};
    struct channels channels;
    live_parts(kind.whole ? PAGE_BLOCK : in->channels, channels.live);
    load_parts(mean, channels.live, channels.mean);
    for (size_t first = 0; first < in->tokens; first += HALF_TOKENS)
        quantise_half(kind, in, &channels, fine, first, q, &tokens);
    if (!kind.wide)
        return magnitudes8(q, in->channels, in->tokens, sums->magnitude);
    magnitudes16(q, in->channels, in->tokens, sums->magnitude);
    return _mm512_reduce_max_epi32(tokens.largest) <= INT16_MAX &&
           _mm512_reduce_min_epi32(tokens.smallest) >= INT16_MIN;
}

SPECIALISED uint32_t quantise(enum page_dtype dtype, bool wide, const struct page_source_rows *in,
                              const float *mean, const float *fine, void *q,
                              struct page_sums *sums) {
    if (in->channels == PAGE_BLOCK)
        return quantise_rows((struct kind){dtype, wide, true}, in, mean, fine, q, sums) ? 0 : 1;
    return quantise_rows((struct kind){dtype, wide, false}, in, mean, fine, q, sums) ? 0 : 1;
}

#define QUANTISE(name, dtype)                                                                      \
    void page_sum_##name##_avx512(const struct page_source_rows *in, float *sum) {                 \
        sum_tiles(dtype, in, sum);                                                                 \
    }                                                                                              \
    void page_deviation_##name##_avx512(const struct page_source_rows *in, const float *mean,      \
                                        float(*lanes)[PAGE_LANES]) {                               \
        const __mmask16 whole[PARTS] = {0xffff, 0xffff, 0xffff, 0xffff};                           \
        __mmask16 live[PARTS];                                                                     \
        live_parts(in->channels, live);                                                            \
        if (in->channels == PAGE_BLOCK)                                                            \
            deviation_rows(dtype, in, mean, lanes, whole);                                         \
        else                                                                                       \
            deviation_rows(dtype, in, mean, lanes, live);                                          \
    }                                                                                              \
    uint32_t page_quantise8_##name##_avx512(const struct page_source_rows *in, const float *mean,  \
                                            const float *fine, int8_t *q,                          \
                                            struct page_sums *sums) {                              \
        return quantise(dtype, false, in, mean, fine, q, sums);                                    \
    }                                                                                              \
    uint32_t page_quantise16_##name##_avx512(const struct page_source_rows *in, const float *mean, \
                                             const float *fine, int16_t *q,                        \
                                             struct page_sums *sums) {                             \
        return quantise(dtype, true, in, mean, fine, q, sums);                                     \
    }

QUANTISE(f16, PAGE_F16)
QUANTISE(bf16, PAGE_BF16)
QUANTISE(f32, PAGE_F32)

/* ---- ageing ---- */

SPECIALISED __m512i halve(__m512i q, unsigned shift, __m512i up) {
    return _mm512_sra_epi16(_mm512_add_epi16(q, up), _mm_cvtsi32_si128((int)shift));
}

/* In unsigned bytes from 128 on, where a shift has no sign to keep; a carry of the bits that fall
 * away is added apart. */
void page_halve8_avx512(int8_t *q, size_t channels, size_t tokens, unsigned shift, int up,
                        uint32_t *magnitude) {
    const __m512i zero = _mm512_set1_epi8((char)(128 >> shift)), sign = _mm512_set1_epi8(-128);
    const __m512i kept = _mm512_set1_epi8((char)(255 >> shift)), one = _mm512_set1_epi8(1);
    const __m512i rest = _mm512_set1_epi8((char)((1 << shift) - 1));
    const __m512i no_carry = _mm512_set1_epi8((char)((1 << shift) - 1 - up));
    __m128i by = _mm_cvtsi32_si128((int)shift);
    for (size_t i = 0; i < channels * RANS_ROW_VALUES; i += 64) {
        __m512i value = _mm512_load_si512(q + i);
        __mmask64 carry = _mm512_cmpgt_epu8_mask(_mm512_and_si512(value, rest), no_carry);
        __m512i half = _mm512_srl_epi16(_mm512_xor_si512(value, sign), by);
        half = _mm512_sub_epi8(_mm512_and_si512(half, kept), zero);
        _mm512_store_si512(q + i, _mm512_mask_add_epi8(half, carry, half, one));
    }
    magnitudes8(q, channels, tokens, magnitude);
}

/* Without overflow: the bits that fall away are added apart. */
void page_halve16_avx512(int16_t *q, size_t channels, size_t tokens, unsigned shift, int up,
                         uint32_t *magnitude) {
    __m512i ups = _mm512_set1_epi16((short)up), rest = _mm512_set1_epi16((short)((1 << shift) - 1));
    __m128i by = _mm_cvtsi32_si128((int)shift);
    for (size_t i = 0; i < channels * RANS_ROW_VALUES; i += 32) {
        __m512i value = _mm512_load_si512(q + i);
        __m512i carry = halve(_mm512_and_si512(value, rest), shift, ups);
        value = _mm512_add_epi16(_mm512_sra_epi16(value, by), carry);
        _mm512_store_si512(q + i, value);
    }
    magnitudes16(q, channels, tokens, magnitude);
}
