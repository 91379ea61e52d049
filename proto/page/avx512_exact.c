/* Exact's kernels of bfloat16 and float32, whose upper half is laid out alike: a token's 64
 * channels at a time. Wide rows, which pages with zeros have, are left to the portable C, compiled
 * for AVX2.
 */
#define PAGE_TARGET x86_64_v3
#include "proto/page/avx512_tiles.h"
#include "proto/page/portable.h"

/* 64 channels of 16 bits. */
struct words {
    __m512i half[2];
};

SPECIALISED const uint8_t *source_row(const struct page_source_rows *in, size_t token) {
    return (const uint8_t *)in->rows[token] + in->offset_bytes;
}

SPECIALISED struct words load_words(const void *from, size_t channels) {
    const uint8_t *bytes = from;
    return (struct words){{_mm512_maskz_loadu_epi16(live_half(channels, 0), bytes),
                           _mm512_maskz_loadu_epi16(live_half(channels, 1), bytes + 64)}};
}

SPECIALISED void store_words(void *to, size_t channels, struct words words) {
    uint8_t *bytes = to;
    _mm512_mask_storeu_epi16(bytes, live_half(channels, 0), words.half[0]);
    _mm512_mask_storeu_epi16(bytes + 64, live_half(channels, 1), words.half[1]);
}

/* The low bytes of words, and words of bytes. */
SPECIALISED __m512i bytes_of(struct words words) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(words.half[0])),
                              _mm512_cvtepi16_epi8(words.half[1]), 1);
}

SPECIALISED __m512i words_of(__m512i bytes, int half) {
    return _mm512_cvtepu8_epi16(half == 0 ? _mm512_castsi512_si256(bytes)
                                          : _mm512_extracti64x4_epi64(bytes, 1));
}

/* The upper and the lower 16 bits of 64 float32. */
SPECIALISED void load_float_words(const uint8_t *from, size_t channels, struct words *upper,
                                  struct words *lower) {
    for (int half = 0; half < 2; half++) {
        __m256i up[2], low[2];
        for (int part = 0; part < 2; part++) {
            size_t at = 32 * (size_t)half + 16 * (size_t)part;
            __mmask16 live = first_of_16(channels > at ? channels - at : 0);
            __m512i x = _mm512_maskz_loadu_epi32(live, from + 4 * at);
            low[part] = _mm512_cvtepi32_epi16(x);
            up[part] = _mm512_cvtepi32_epi16(_mm512_srli_epi32(x, 16));
        }
        lower->half[half] = _mm512_inserti64x4(_mm512_castsi256_si512(low[0]), low[1], 1);
        upper->half[half] = _mm512_inserti64x4(_mm512_castsi256_si512(up[0]), up[1], 1);
    }
}

SPECIALISED struct words load_upper(enum page_dtype dtype, const uint8_t *row, size_t channels) {
    struct words upper, lower;
    if (dtype != PAGE_F32)
        return load_words(row, channels);
    load_float_words(row, channels, &upper, &lower);
    return upper;
}

/* exponent * 2 + sign */
SPECIALISED __m512i codes_of(__m512i words) {
    __m512i exponent = _mm512_srli_epi16(words, 6);
    return _mm512_ternarylogic_epi32(_mm512_srli_epi16(words, 15), exponent,
                                     _mm512_set1_epi16(0x1fe), 0xf8);
}

/* ---- survey ---- */

SPECIALISED void survey(enum page_dtype dtype, const struct page_source_rows *in,
                        struct page_survey *out) {
    const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi16(1);
    struct words sum = {{zero, zero}}, largest = sum, negatives = sum;
    struct words smallest = {{_mm512_set1_epi16(255), _mm512_set1_epi16(255)}};
    for (size_t t = 0; t < in->tokens; t++) {
        struct words words = load_upper(dtype, source_row(in, t), in->channels);
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            __m512i code = codes_of(words.half[half]), e = _mm512_srli_epi16(code, 1);
            sum.half[half] = _mm512_add_epi16(sum.half[half], e);
            largest.half[half] = _mm512_max_epi16(largest.half[half], e);
            smallest.half[half] = _mm512_min_epi16(smallest.half[half], e);
            negatives.half[half] =
                _mm512_add_epi16(negatives.half[half], _mm512_and_si512(code, one));
        }
    }
    __mmask64 live = first_of_64(in->channels);
    store_words(out->sum, PAGE_BLOCK, sum);
    _mm512_storeu_si512(out->largest, bytes_of(largest));
    _mm512_storeu_si512(out->smallest, _mm512_maskz_mov_epi8(live, bytes_of(smallest)));
    _mm512_storeu_si512(out->negatives, bytes_of(negatives));
}

/* ---- bit strings ---- */

SPECIALISED size_t low_bytes(enum page_dtype dtype, size_t channels) {
    return dtype == PAGE_F32 ? 2 * channels : 0;
}

SPECIALISED size_t string_bytes(size_t channels) {
    return (7 * channels + 7) / 8;
}

SPECIALISED size_t rest_bytes(enum page_dtype dtype, size_t channels) {
    return low_bytes(dtype, channels) + string_bytes(channels);
}

/* Seven bits of each byte, eight bytes to seven. */
SPECIALISED __m512i pack7(__m512i bytes) {
    const __m512i seven = _mm512_set_epi64(
        0x0000000000000000, 0x3e3d3c3b3a393836, 0x3534333231302e2d, 0x2c2b2a2928262524,
        0x232221201e1d1c1b, 0x1a19181615141312, 0x11100e0d0c0b0a09, 0x0806050403020100);
    __m512i pairs = _mm512_maddubs_epi16(_mm512_set1_epi16((short)0x8001), bytes);
    __m512i fours = _mm512_madd_epi16(pairs, _mm512_set1_epi32((1 << 14) << 16 | 1));
    __m512i upper = _mm512_slli_epi64(_mm512_srli_epi64(fours, 32), 28);
    __m512i eights = _mm512_or_si512(upper, _mm512_and_si512(fours, _mm512_set1_epi64(0xffffffff)));
    return _mm512_permutexvar_epi8(seven, eights);
}

SPECIALISED __m512i unpack7(const uint8_t *bits) {
    const __m512i eight = _mm512_set_epi64(
        0x3837363534333231, 0x31302f2e2d2c2b2a, 0x2a29282726252423, 0x232221201f1e1d1c,
        0x1c1b1a1918171615, 0x1514131211100f0e, 0x0e0d0c0b0a090807, 0x0706050403020100);
    const __m512i shifts = _mm512_set1_epi64(0x312a231c150e0700);
    __m512i string = _mm512_permutexvar_epi8(eight, _mm512_loadu_si512(bits));
    return _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts, string), _mm512_set1_epi8(127));
}

/* ---- split ---- */

SPECIALISED __m512i split_token(enum page_dtype dtype, const uint8_t *row, size_t channels,
                                const struct page_codes *codes, uint8_t *low) {
    struct words words, lower, v;
    if (dtype == PAGE_F32) {
        load_float_words(row, channels, &words, &lower);
        store_words(low, channels, lower);
    } else {
        words = load_words(row, channels);
    }
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        __m512i base = _mm512_load_si512(codes->base + 32 * half);
        __m512i flip = _mm512_loadu_si512(codes->flip + 32 * half);
        __m512i code = codes_of(words.half[half]);
        v.half[half] = _mm512_sub_epi16(base, _mm512_xor_si512(code, flip));
    }
    __m512i string = pack7(_mm512_and_si512(bytes_of(words), _mm512_set1_epi8(127)));
    _mm512_mask_storeu_epi8(low + low_bytes(dtype, channels), first_of_64(string_bytes(channels)),
                            string);
    return bytes_of(v);
}

SPECIALISED void split8(enum page_dtype dtype, const struct page_source_rows *in,
                        const struct page_codes *codes, int8_t *v, uint8_t *rest) {
    for (size_t first = 0; first < in->tokens; first += HALF_TOKENS) {
        struct half half;
        size_t left = in->tokens - first, count = left < HALF_TOKENS ? left : HALF_TOKENS;
        for (size_t i = 0; i < HALF_TOKENS; i++) {
            __m512i bytes = _mm512_setzero_si512();
            if (i < count)
                bytes = split_token(dtype, source_row(in, first + i), in->channels, codes,
                                    rest + (first + i) * rest_bytes(dtype, in->channels));
            _mm512_store_si512(half.bytes[i], bytes);
        }
        turn_half(&half);
        for (size_t i = 0; i < 16; i++) {
            __m512i rows[4];
            join_groups(half.bytes, i, rows);
            for (size_t quarter = 0; quarter < 4; quarter++)
                if (16 * quarter + i < in->channels)
                    _mm512_store_si512(v + (16 * quarter + i) * RANS_ROW_VALUES + first,
                                       rows[quarter]);
        }
    }
}

/* ---- join ---- */

SPECIALISED __m512i turned_half(const struct turned *turned, int half, size_t token) {
    __m256i bytes = _mm256_castsi128_si256(turned_bytes(turned, 2 * (size_t)half, token));
    bytes = _mm256_inserti128_si256(bytes, turned_bytes(turned, 2 * (size_t)half + 1, token), 1);
    return _mm512_cvtepi8_epi16(bytes);
}

/* Exponent and sign where they stand in 16 bits. */
SPECIALISED struct words join_codes(const struct turned *v, size_t token,
                                    const struct page_codes *codes) {
    struct words words;
    const __m512i exponents = _mm512_set1_epi16(0x7f80);
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        __m512i base = _mm512_load_si512(codes->base + 32 * half);
        __m512i flip = _mm512_loadu_si512(codes->flip + 32 * half);
        __m512i code = _mm512_sub_epi16(base, turned_half(v, half, token));
        code = _mm512_xor_si512(code, flip);
        words.half[half] = _mm512_ternarylogic_epi32(_mm512_slli_epi16(code, 15),
                                                     _mm512_slli_epi16(code, 6), exponents, 0xf8);
    }
    return words;
}

SPECIALISED void join_floats(const struct words *upper, const uint8_t *low, size_t channels,
                             uint8_t *to) {
#pragma GCC unroll 4
    for (int part = 0; part < PARTS; part++) {
        size_t at = VECTOR * (size_t)part;
        __mmask16 live = first_of_16(channels > at ? channels - at : 0);
        __m512i half = upper->half[part / 2];
        __m512i x = _mm512_cvtepu16_epi32(part % 2 ? _mm512_extracti64x4_epi64(half, 1)
                                                   : _mm512_castsi512_si256(half));
        __m512i lower = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(live, low + 2 * at));
        x = _mm512_or_si512(_mm512_slli_epi32(x, 16), lower);
        _mm512_mask_storeu_epi32(to + 4 * at, live, x);
    }
}

SPECIALISED void join_token(enum page_dtype dtype, struct words words, const uint8_t *low,
                            size_t channels, uint8_t *to, bool streaming) {
    __m512i fields = unpack7(low + low_bytes(dtype, channels));
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++)
        words.half[half] = _mm512_or_si512(words.half[half], words_of(fields, half));
    if (dtype == PAGE_F32) {
        join_floats(&words, low, channels, to);
    } else if (channels == PAGE_BLOCK) {
        store_line(to, words.half[0], streaming);
        store_line(to + 64, words.half[1], streaming);
    } else {
        store_words(to, channels, words);
    }
}

SPECIALISED void join8(enum page_dtype dtype, const int8_t *v, const struct page_codes *codes,
                       const uint8_t *rest, const struct page_target_rows *out) {
    struct turned turned;
    for (size_t t = out->first; t < out->last; t++) {
        if (t == out->first || t % HALF_TOKENS == 0)
            turn(v + t / HALF_TOKENS * HALF_TOKENS, out->channels, &turned);
        uint8_t *to = (uint8_t *)out->rows[t] + out->offset_bytes;
        const uint8_t *low = rest + t * rest_bytes(dtype, out->channels);
        fetch_next_tile(low, rest_bytes(dtype, out->channels));
        struct words words = join_codes(&turned, t, codes);
        if (out->streaming && out->channels == PAGE_BLOCK && (uintptr_t)to % 64 == 0)
            join_token(dtype, words, low, PAGE_BLOCK, to, true);
        else
            join_token(dtype, words, low, out->channels, to, false);
    }
}

#define EXACT(name, dtype)                                                                         \
    static void survey_##name(const struct page_source_rows *in, struct page_survey *out) {        \
        survey(dtype, in, out);                                                                    \
    }                                                                                              \
    static void split8_##name(const struct page_source_rows *in, const struct page_codes *codes,   \
                              int8_t *v, uint8_t *rest) {                                          \
        split8(dtype, in, codes, v, rest);                                                         \
    }                                                                                              \
    static void join8_##name(const int8_t *v, const struct page_codes *codes, const uint8_t *rest, \
                             const struct page_target_rows *out) {                                 \
        join8(dtype, v, codes, rest, out);                                                         \
    }

EXACT(bf16, PAGE_BF16)
EXACT(f32, PAGE_F32)

#define EXACT_WIDE(name)                                                                           \
    static void split16_##name(const struct page_source_rows *in, const struct page_codes *codes,  \
                               int16_t *v, uint8_t *rest) {                                        \
        PAGE_OF_TARGET(exact_##name##_).split16(in, codes, v, rest);                               \
    }                                                                                              \
    static void join16_##name(const int16_t *v, const struct page_codes *codes,                    \
                              const uint8_t *rest, const struct page_target_rows *out) {           \
        PAGE_OF_TARGET(exact_##name##_).join16(v, codes, rest, out);                               \
    }

EXACT_WIDE(bf16)
EXACT_WIDE(f32)

const struct page_exact_kernels page_exact_bf16_avx512 = {.survey = survey_bf16,
                                                          .split8 = split8_bf16,
                                                          .split16 = split16_bf16,
                                                          .join8 = join8_bf16,
                                                          .join16 = join16_bf16};
const struct page_exact_kernels page_exact_f32_avx512 = {.survey = survey_f32,
                                                         .split8 = split8_f32,
                                                         .split16 = split16_f32,
                                                         .join8 = join8_f32,
                                                         .join16 = join16_f32};
