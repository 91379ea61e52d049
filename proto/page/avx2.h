/* The AVX2 table's kernels, and what its files share. See kernels.h for what each does.
 *
 * Compiled for x86-64-v3 (AVX2, BMI2, F16C, FMA); dispatch.c asks the processor first.
 */
#ifndef PROTO_PAGE_AVX2_H
#define PROTO_PAGE_AVX2_H

#include "proto/page/kernels.h"

#include <immintrin.h>
#include <string.h>

/* Compiled into each caller, for the constants that it passes. */
#define SPECIALISED static inline __attribute__((always_inline))

bool page_rans_decode8_avx2(const struct rans_decode_job *jobs, size_t count);
bool page_rans_decode16_avx2(const struct rans_decode_job *jobs, size_t count);
void page_rans_encode8_avx2(const struct rans_encode_job *jobs, size_t count);
void page_rans_encode16_avx2(const struct rans_encode_job *jobs, size_t count);
uint32_t page_row_cost_avx2(const int16_t *values, size_t count, unsigned low_bits,
                            const uint16_t cost[PAGE_SYMBOLS]);

void page_widen_avx2(const void *halves, void *floats, size_t count);
void page_halve8_avx2(int8_t *q, size_t channels, size_t tokens, unsigned shift, int up,
                      uint32_t *magnitude);

#define PAGE_DECLARE(dtype)                                                                        \
    void page_sum_##dtype##_avx2(const struct page_source_rows *in, float *sum);                   \
    void page_deviation_##dtype##_avx2(const struct page_source_rows *in, const float *mean,       \
                                       float(*lanes)[PAGE_LANES]);                                 \
    uint32_t page_quantise8_##dtype##_avx2(const struct page_source_rows *in, const float *mean,   \
                                           const float *fine, int8_t *q, struct page_sums *sums);  \
    uint32_t page_quantise16_##dtype##_avx2(const struct page_source_rows *in, const float *mean,  \
                                            const float *fine, int16_t *q,                         \
                                            struct page_sums *sums);                               \
    void page_dequantise8_##dtype##_avx2(const int8_t *q, const float *mean, const float *steps,   \
                                         float phase, const struct page_target_rows *out);         \
    void page_dequantise16_##dtype##_avx2(const int16_t *q, const float *mean, const float *steps, \
                                          float phase, const struct page_target_rows *out);        \
    void page_fast8_encode_##dtype##_avx2(const struct page_source_rows *in,                       \
                                          const struct page_grid *grid, uint8_t *q,                \
                                          size_t token_bytes, struct page_fast8_sums *sums);       \
    void page_fast8_decode_##dtype##_avx2(const uint8_t *q, size_t token_bytes, const float *low,  \
                                          const float *scale, const struct page_target_rows *out);

PAGE_DECLARE(f16)
PAGE_DECLARE(bf16)
PAGE_DECLARE(f32)
#undef PAGE_DECLARE

/* The 64 states, lane by lane: their low and their high bytes. */
struct lane_states {
    __m256i low[2], high[2];
};

SPECIALISED void load_states(const uint16_t *state, struct lane_states *lanes) {
    const __m256i low = _mm256_set1_epi16(255);
    for (int i = 0; i < 2; i++) {
        __m256i a = _mm256_loadu_si256((const void *)(state + 32 * i));
        __m256i b = _mm256_loadu_si256((const void *)(state + 32 * i + 16));
        __m256i lows = _mm256_packus_epi16(_mm256_and_si256(a, low), _mm256_and_si256(b, low));
        __m256i highs = _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
        lanes->low[i] = _mm256_permute4x64_epi64(lows, 0xd8);
        lanes->high[i] = _mm256_permute4x64_epi64(highs, 0xd8);
    }
}

SPECIALISED void store_states(const struct lane_states *lanes, uint16_t *state) {
    for (int i = 0; i < 2; i++) {
        __m256i lows = _mm256_permute4x64_epi64(lanes->low[i], 0xd8);
        __m256i highs = _mm256_permute4x64_epi64(lanes->high[i], 0xd8);
        _mm256_storeu_si256((void *)(state + 32 * i), _mm256_unpacklo_epi8(lows, highs));
        _mm256_storeu_si256((void *)(state + 32 * i + 16), _mm256_unpackhi_epi8(lows, highs));
    }
}

/* Indices 0..31 as the byte shuffle wants them: it gives 0 where an index has its top bit set. */
struct table_index {
    __m256i first, second; /* into the table's halves */
};

SPECIALISED struct table_index table_index(__m256i index) {
    __m256i first = _mm256_add_epi8(index, _mm256_set1_epi8(0x70));
    return (struct table_index){first, _mm256_xor_si256(first, _mm256_set1_epi8((char)0x80))};
}

SPECIALISED __m256i both_halves(const uint8_t *sixteen) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)sixteen));
}

SPECIALISED __m256i look_up(const uint8_t table[32], struct table_index index) {
    return _mm256_or_si256(_mm256_shuffle_epi8(both_halves(table), index.first),
                           _mm256_shuffle_epi8(both_halves(table + 16), index.second));
}

/* All ones in the first `count` of 32 bytes. */
SPECIALISED __m256i first_bytes(size_t count) {
    const __m256i place =
        _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
                         21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
    return _mm256_cmpgt_epi8(_mm256_set1_epi8((char)(count < 32 ? count : 32)), place);
}

/* Bits of a plane, one a byte, each 0 or all ones. */
SPECIALISED __m256i spread_bits(uint32_t bits) {
    const __m256i byte =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201u);
    __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), byte);
    return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
}

#endif
