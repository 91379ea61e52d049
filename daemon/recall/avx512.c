/* Recall's inner loops for AVX-512: four rows at a time, each in two sums of 16 lanes. */
#include "daemon/recall/kernels.h"
#include "daemon/recall/kvq_retriever.h"

#include <immintrin.h>

/* The four rows are read side by side, which no processor foresees: what comes behind them is
 * prefetched, line after line. */
enum { ROWS = 4, LANES = 16, LINE_BYTES = 64, AHEAD_BYTES = 8192 };

static inline size_t number_bytes(enum kvq_retriever_dtype dtype) {
    return dtype == KVQ_RETRIEVER_F32 ? 4 : 2;
}

static inline __m512 load(enum kvq_retriever_dtype dtype, const char *at) {
    if (dtype == KVQ_RETRIEVER_F32)
        return _mm512_loadu_ps(at);
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)at));
}

static inline __m512 load_some(enum kvq_retriever_dtype dtype, __mmask16 some, const char *at) {
    if (dtype == KVQ_RETRIEVER_F32)
        return _mm512_maskz_loadu_ps(some, at);
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(some, at));
}

/* Were it not always inlined, gcc would take calls that only prefetch for calls that do nothing. */
__attribute__((always_inline)) static inline void prefetch(const char *at, size_t bytes) {
    for (size_t i = 0; i < bytes; i += LINE_BYTES)
        _mm_prefetch(at + i, _MM_HINT_T0);
}

static inline __m128 fold_to_four(__m512 sum) {
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps(sum, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

/* The sums of four registers' lanes. */
static inline __m128 fold(const __m512 sums[ROWS]) {
    __m128 ab = _mm_hadd_ps(fold_to_four(sums[0]), fold_to_four(sums[1]));
    __m128 cd = _mm_hadd_ps(fold_to_four(sums[2]), fold_to_four(sums[3]));
    return _mm_hadd_ps(ab, cd);
}

__attribute__((always_inline)) static inline __m128 dots_of_four(enum kvq_retriever_dtype dtype,
                                                                 const float *query, size_t dim,
                                                                 const char *const rows[ROWS]) {
    __m512 even[ROWS], odd[ROWS];
    size_t bytes = number_bytes(dtype), i = 0;
    for (size_t r = 0; r < ROWS; r++)
        even[r] = odd[r] = _mm512_setzero_ps();
    for (; i + 2 * LANES <= dim; i += 2 * LANES) {
        __m512 first = _mm512_loadu_ps(query + i), second = _mm512_loadu_ps(query + i + LANES);
        prefetch(rows[0] + AHEAD_BYTES + i * bytes * ROWS, 2 * LANES * bytes * ROWS);
        for (size_t r = 0; r < ROWS; r++) {
            const char *at = rows[r] + i * bytes;
            even[r] = _mm512_fmadd_ps(first, load(dtype, at), even[r]);
            odd[r] = _mm512_fmadd_ps(second, load(dtype, at + LANES * bytes), odd[r]);
        }
    }
    for (; i < dim; i += LANES) {
        __mmask16 some = (__mmask16)(dim - i < LANES ? (1U << (dim - i)) - 1 : 0xffff);
        __m512 part = _mm512_maskz_loadu_ps(some, query + i);
        for (size_t r = 0; r < ROWS; r++)
            even[r] = _mm512_fmadd_ps(part, load_some(dtype, some, rows[r] + i * bytes), even[r]);
    }
    for (size_t r = 0; r < ROWS; r++)
        even[r] = _mm512_add_ps(even[r], odd[r]);
    return fold(even);
}

/* A group's missing rows are its last one again. */
__attribute__((always_inline)) static inline void dots_of(enum kvq_retriever_dtype dtype,
                                                          const float *query, size_t dim,
                                                          const char *row, size_t count,
                                                          float *dots) {
    size_t row_bytes = dim * number_bytes(dtype);
    for (size_t first = 0; first < count; first += ROWS) {
        const char *rows[ROWS];
        for (size_t r = 0; r < ROWS; r++)
            rows[r] = row + (first + r < count ? first + r : count - 1) * row_bytes;
        __mmask8 some = (__mmask8)(count - first < ROWS ? (1U << (count - first)) - 1 : 0xf);
        _mm_mask_storeu_ps(dots + first, some, dots_of_four(dtype, query, dim, rows));
    }
}

static void dots_f32(const float *query, size_t dim, const void *rows, size_t count, float *dots) {
    dots_of(KVQ_RETRIEVER_F32, query, dim, rows, count, dots);
}

static void dots_f16(const float *query, size_t dim, const void *rows, size_t count, float *dots) {
    dots_of(KVQ_RETRIEVER_F16, query, dim, rows, count, dots);
}

const struct recall_kernels recall_kernels_avx512 = {"avx512", {dots_f32, dots_f16}};
