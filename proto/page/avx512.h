/* The AVX-512 table's kernels, and what its files share. See kernels.h for what each does.
 *
 * Compiled for x86-64-v4 with VBMI, VBMI2, BITALG, VNNI and GFNI; dispatch.c asks the processor
 * first.
 */
#ifndef PROTO_PAGE_AVX512_H
#define PROTO_PAGE_AVX512_H

#include "proto/page/kernels.h"

#include <immintrin.h>

/* Compiled into each caller, for the constants that it passes. */
#define SPECIALISED static inline __attribute__((always_inline))

/* The first `count` of 64, or of 32, 16. */
SPECIALISED __mmask64 first_of_64(size_t count) {
    return _bzhi_u64(~(uint64_t)0, count < 64 ? (unsigned)count : 64);
}

SPECIALISED __mmask32 first_of_32(size_t count) {
    return (__mmask32)first_of_64(count < 32 ? count : 32);
}

SPECIALISED __mmask16 first_of_16(size_t count) {
    return (__mmask16)first_of_64(count < 16 ? count : 16);
}

/* Of a tile's channels, the first 32 or the others. */
SPECIALISED __mmask32 live_half(size_t channels, int half) {
    return (__mmask32)(first_of_64(channels) >> 32 * half);
}

/* 64 bytes; `streaming` only to where a cache line begins. */
SPECIALISED void store_line(void *to, __m512i line, bool streaming) {
    if (streaming)
        _mm512_stream_si512(to, line);
    else
        _mm512_storeu_si512(to, line);
}

/* Keeps a value in a register: compilers would make constants anew in every turn of a loop, which
 * takes the port that permutations need. */
SPECIALISED __m512i held(__m512i value) {
    __asm__("" : "+v"(value));
    return value;
}

bool page_rans_decode8_avx512(const struct rans_decode_job *jobs, size_t count);
bool page_rans_decode16_avx512(const struct rans_decode_job *jobs, size_t count);
bool page_overlap_f16_avx512(const struct rans_decode_job *jobs, const struct page_tile *tiles,
                             size_t count);
bool page_overlap_bf16_avx512(const struct rans_decode_job *jobs, const struct page_tile *tiles,
                              size_t count);
bool page_overlap_f32_avx512(const struct rans_decode_job *jobs, const struct page_tile *tiles,
                             size_t count);
void page_rans_encode8_avx512(const struct rans_encode_job *jobs, size_t count);
void page_rans_encode16_avx512(const struct rans_encode_job *jobs, size_t count);

void page_widen_avx512(const void *halves, void *floats, size_t count);
void page_halve8_avx512(int8_t *q, size_t channels, size_t tokens, unsigned shift, int up,
                        uint32_t *magnitude);
void page_halve16_avx512(int16_t *q, size_t channels, size_t tokens, unsigned shift, int up,
                         uint32_t *magnitude);

extern const struct page_exact_kernels page_exact_f16_avx512, page_exact_bf16_avx512,
    page_exact_f32_avx512;

void page_range16_avx512(const struct page_source_rows *in, int16_t *low, int16_t *high);
void page_range32_avx512(const float *row, size_t count, float *low, float *high);
uint32_t page_row_cost_avx512(const int16_t *values, size_t count, unsigned low_bits,
                              const uint16_t cost[PAGE_SYMBOLS]);

#define PAGE_AVX512_DECLARE(dtype)                                                                 \
    void page_sum_##dtype##_avx512(const struct page_source_rows *in, float *sum);                 \
    void page_squares_##dtype##_avx512(const void *values, size_t count, float *lanes);            \
    void page_deviation_##dtype##_avx512(const struct page_source_rows *in, const float *mean,     \
                                         float(*lanes)[PAGE_LANES]);                               \
    uint32_t page_quantise8_##dtype##_avx512(const struct page_source_rows *in, const float *mean, \
                                             const float *fine, int8_t *q,                         \
                                             struct page_sums *sums);                              \
    uint32_t page_quantise16_##dtype##_avx512(const struct page_source_rows *in,                   \
                                              const float *mean, const float *fine, int16_t *q,    \
                                              struct page_sums *sums);                             \
    void page_dequantise8_##dtype##_avx512(const int8_t *q, const float *mean, const float *steps, \
                                           float phase, const struct page_target_rows *out);       \
    void page_dequantise16_##dtype##_avx512(const int16_t *q, const float *mean,                   \
                                            const float *steps, float phase,                       \
                                            const struct page_target_rows *out);                   \
    void page_fast8_encode_##dtype##_avx512(const struct page_source_rows *in,                     \
                                            const struct page_grid *grid, uint8_t *q,              \
                                            size_t token_bytes, struct page_fast8_sums *sums);     \
    void page_fast8_decode_##dtype##_avx512(const uint8_t *q, size_t token_bytes,                  \
                                            const float *low, const float *scale,                  \
                                            const struct page_target_rows *out);

PAGE_AVX512_DECLARE(f16)
PAGE_AVX512_DECLARE(bf16)
PAGE_AVX512_DECLARE(f32)
#undef PAGE_AVX512_DECLARE

#endif
