/* Exact's kernels of float16, a token's 64 channels at a time. The high byte of a value is its
 * sign, its exponent and two bits of mantissa: GF2P8AFFINEQB moves them about, all else is bytes.
 */
#include "proto/page/avx512_bytes.h"
#include "proto/page/avx512_tiles.h"
#include "proto/page/workspace.h"

/* From a high byte to exponent * 2 + sign and back, as matrices over bits. */
static const long long CODE_OF_HIGH = (long long)0x8004081020400000;
static const long long HIGH_OF_CODE = 0x0000020408102001;
/* ... and what that is made of. */
static const long long EXPONENT_OF_CODE = 0x0204081020000000, SIGN_OF_CODE = 0x0100000000000000;

enum { BYTES_SUMMED = 8 }; /* exponents whose sum a byte holds */

SPECIALISED __m512i map_bits(__m512i bytes, long long matrix) {
    return _mm512_gf2p8affine_epi64_epi8(bytes, _mm512_set1_epi64(matrix), 0);
}

struct token {
    __m512i low, high;
};

SPECIALISED struct token load_token(const struct page_source_rows *in, size_t t, size_t channels) {
    const uint8_t *row = (const uint8_t *)in->rows[t] + in->offset_bytes;
    __m512i a = _mm512_maskz_loadu_epi16(live_half(channels, 0), row);
    __m512i b = _mm512_maskz_loadu_epi16(live_half(channels, 1), row + 64);
    return (struct token){low_bytes_of(a, b), high_bytes_of(a, b)};
}

SPECIALISED size_t rest_bytes(size_t channels) {
    return channels + (channels + 3) / 4;
}

/* The low bytes of 64 channels' numbers. */
SPECIALISED __m512i bytes_of(const void *words) {
    const uint8_t *at = words;
    return low_bytes_of(_mm512_loadu_si512(at), _mm512_loadu_si512(at + 64));
}

/* ---- survey ---- */

SPECIALISED void add_bytes(__m512i sum[2], __m512i bytes) {
    sum[0] = _mm512_add_epi16(sum[0], _mm512_cvtepu8_epi16(_mm512_castsi512_si256(bytes)));
    sum[1] = _mm512_add_epi16(sum[1], _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(bytes, 1)));
}

SPECIALISED void survey(const struct page_source_rows *in, size_t channels,
                        struct page_survey *out) {
    __m512i sum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    __m512i largest = sum[0], negatives = sum[0];
    __m512i smallest = _mm512_maskz_set1_epi8(first_of_64(channels), -1);
    for (size_t t = 0; t < in->tokens;) {
        size_t left = in->tokens - t, end = t + (left < BYTES_SUMMED ? left : BYTES_SUMMED);
        __m512i bytes = _mm512_setzero_si512();
        for (; t < end; t++) {
            __m512i code = map_bits(load_token(in, t, channels).high, CODE_OF_HIGH);
            __m512i exponent = map_bits(code, EXPONENT_OF_CODE);
            bytes = _mm512_add_epi8(bytes, exponent);
            largest = _mm512_max_epu8(largest, exponent);
            smallest = _mm512_min_epu8(smallest, exponent);
            negatives = _mm512_add_epi8(negatives, map_bits(code, SIGN_OF_CODE));
        }
        add_bytes(sum, bytes);
    }
    _mm512_storeu_si512(out->sum, sum[0]);
    _mm512_storeu_si512(out->sum + 32, sum[1]);
    _mm512_storeu_si512(out->largest, largest);
    _mm512_storeu_si512(out->smallest, smallest);
    _mm512_storeu_si512(out->negatives, negatives);
}

static void survey_f16(const struct page_source_rows *in, struct page_survey *out) {
    if (in->channels == PAGE_BLOCK)
        survey(in, PAGE_BLOCK, out);
    else
        survey(in, in->channels, out);
}

/* ---- split ---- */

/* The lowest two bits of each byte, four bytes to one. */
SPECIALISED __m128i pack2(__m512i bytes) {
    bytes = _mm512_and_si512(bytes, _mm512_set1_epi8(3));
    __m512i pairs = _mm512_maddubs_epi16(bytes, _mm512_set1_epi16(0x0401));
    __m512i fours = _mm512_madd_epi16(pairs, _mm512_set1_epi32(16 << 16 | 1));
    return _mm512_cvtepi32_epi8(fours);
}

SPECIALISED void store_rest(struct token token, size_t channels, uint8_t *to) {
    __m128i string = pack2(token.high);
    if (channels == PAGE_BLOCK) {
        _mm512_storeu_si512(to, token.low);
        _mm_storeu_si128((__m128i *)(void *)(to + PAGE_BLOCK), string);
    } else {
        _mm512_mask_storeu_epi8(to, first_of_64(channels), token.low);
        _mm_mask_storeu_epi8(to + channels, first_of_16((channels + 3) / 4), string);
    }
}

SPECIALISED void store_half(const struct half *half, size_t channels, int8_t *v) {
    for (size_t i = 0; i < 16; i++) {
        __m512i rows[4];
        join_groups(half->bytes, i, rows);
        for (size_t quarter = 0; quarter < 4; quarter++)
            if (16 * quarter + i < channels)
                _mm512_store_si512(v + (16 * quarter + i) * RANS_ROW_VALUES, rows[quarter]);
    }
}

SPECIALISED void split(const struct page_source_rows *in, size_t channels,
                       const struct page_codes *codes, int8_t *v, uint8_t *rest) {
    const __m512i base = bytes_of(codes->base), flip = bytes_of(codes->flip);
    for (size_t first = 0; first < in->tokens; first += HALF_TOKENS) {
        PAGE_SCRATCH struct half half;
        size_t left = in->tokens - first, count = left < HALF_TOKENS ? left : HALF_TOKENS;
        for (size_t i = 0; i < count; i++, rest += rest_bytes(channels)) {
            struct token token = load_token(in, first + i, channels);
            __m512i code = _mm512_xor_si512(map_bits(token.high, CODE_OF_HIGH), flip);
            _mm512_store_si512(half.bytes[i], _mm512_sub_epi8(base, code));
            store_rest(token, channels, rest);
        }
        turn_half(&half);
        store_half(&half, channels, v + first);
    }
}

static void split8_f16(const struct page_source_rows *in, const struct page_codes *codes, int8_t *v,
                       uint8_t *rest) {
    if (in->channels == PAGE_BLOCK)
        split(in, PAGE_BLOCK, codes, v, rest);
    else
        split(in, in->channels, codes, v, rest);
}

/* ---- join ---- */

/* Two bits to each byte; what stands above them is to be ignored. */
SPECIALISED __m512i unpack2(const uint8_t *string) {
    const __m512i shifts = _mm512_set_epi64(
        0x3e3c3a3836343230, 0x2e2c2a2826242220, 0x1e1c1a1816141210, 0x0e0c0a0806040200,
        0x3e3c3a3836343230, 0x2e2c2a2826242220, 0x1e1c1a1816141210, 0x0e0c0a0806040200);
    __m512i bits = _mm512_broadcastq_epi64(_mm_loadu_si64(string));
    bits = _mm512_mask_broadcastq_epi64(bits, 0xf0, _mm_loadu_si64(string + 8));
    return _mm512_multishift_epi64_epi8(shifts, bits);
}

SPECIALISED struct token join_token(__m512i code, const uint8_t *rest, size_t channels) {
    __m512i high = map_bits(code, HIGH_OF_CODE);
    high = _mm512_ternarylogic_epi32(high, unpack2(rest + channels), _mm512_set1_epi8(3), 0xf8);
    return (struct token){_mm512_loadu_si512(rest), high};
}

SPECIALISED void store_token(uint8_t *to, struct token token, size_t channels, bool streaming) {
    __m512i lower = lower_words_of(token.low, token.high);
    __m512i upper = upper_words_of(token.low, token.high);
    if (channels == PAGE_BLOCK) {
        store_line(to, lower, streaming && (uintptr_t)to % 64 == 0);
        store_line(to + 64, upper, streaming && (uintptr_t)to % 64 == 0);
    } else {
        _mm512_mask_storeu_epi16(to, live_half(channels, 0), lower);
        _mm512_mask_storeu_epi16(to + 64, live_half(channels, 1), upper);
    }
}

SPECIALISED void join(const int8_t *v, size_t channels, const struct page_codes *codes,
                      const uint8_t *rest, const struct page_target_rows *out) {
    const __m512i base = bytes_of(codes->base), flip = bytes_of(codes->flip);
    for (size_t first = 0; first < out->last; first += HALF_TOKENS) {
        PAGE_SCRATCH struct turned turned;
        if (first + HALF_TOKENS <= out->first)
            continue;
        turn(v + first, channels, &turned);
        for (size_t i = 0; i < 16; i++) {
            __m512i rows[4];
            join_groups(turned.bytes[0], i, rows);
#pragma GCC unroll 4
            for (size_t quarter = 0; quarter < 4; quarter++) {
                size_t t = first + 16 * quarter + i;
                if (t < out->first || t >= out->last)
                    continue;
                fetch_next_tile(rest + t * rest_bytes(channels), rest_bytes(channels));
                __m512i code = _mm512_xor_si512(_mm512_sub_epi8(base, rows[quarter]), flip);
                struct token token = join_token(code, rest + t * rest_bytes(channels), channels);
                store_token((uint8_t *)out->rows[t] + out->offset_bytes, token, channels,
                            out->streaming);
            }
        }
    }
}

static void join8_f16(const int8_t *v, const struct page_codes *codes, const uint8_t *rest,
                      const struct page_target_rows *out) {
    if (out->channels == PAGE_BLOCK)
        join(v, PAGE_BLOCK, codes, rest, out);
    else
        join(v, out->channels, codes, rest, out);
}

const struct page_exact_kernels page_exact_f16_avx512 = {
    .survey = survey_f16, .split8 = split8_f16, .join8 = join8_f16};
