/* Recall's inner loops for AVX2 with FMA and F16C: four rows at a time, each in two sums of 8
 * lanes. */
#include "daemon/recall/kernels.h"
#include "daemon/recall/kvq_retriever.h"

#include <immintrin.h>
#include <string.h>

/* The four rows are read side by side, which no processor foresees: what comes behind them is
 * prefetched, line after line. */
enum { ROWS = 4, LANES = 8, LINE_BYTES = 64, AHEAD_BYTES = 8192 };

static inline size_t number_bytes(enum kvq_retriever_dtype dtype) {
    return dtype == KVQ_RETRIEVER_F32 ? 4 : 2;
}

static inline __m256 load(enum kvq_retriever_dtype dtype, const char *at) {
    if (dtype == KVQ_RETRIEVER_F32)
        return _mm256_loadu_ps((const float *)at);
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)at));
}

/* Fewer numbers than fill a register, with zeros behind. */
static inline __m256 load_some(enum kvq_retriever_dtype dtype, size_t count, const char *at) {
    char padded[LANES * sizeof(float)] = {0};
    memcpy(padded, at, count * number_bytes(dtype));
    return load(dtype, padded);
}

/* Were it not always inlined, gcc would take calls that only prefetch for calls that do nothing. */
__attribute__((always_inline)) static inline void prefetch(const char *at, size_t bytes) {
    for (size_t i = 0; i < bytes; i += LINE_BYTES)
        _mm_prefetch(at + i, _MM_HINT_T0);
}

static inline __m128 fold_to_four(__m256 sum) {
    return _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
}

/* The sums of four registers' lanes. */
static inline __m128 fold(const __m256 sums[ROWS]) {
    __m128 ab = _mm_hadd_ps(fold_to_four(sums[0]), fold_to_four(sums[1]));
    __m128 cd = _mm_hadd_ps(fold_to_four(sums[2]), fold_to_four(sums[3]));
    return _mm_hadd_ps(ab, cd);
}

__attribute__((always_inline)) static inline __m128 dots_of_four(enum kvq_retriever_dtype dtype,
                                                                 const float *query, size_t dim,
                                                                 const char *const rows[ROWS]) {
    __m256 even[ROWS], odd[ROWS];
    size_t bytes = number_bytes(dtype), i = 0;
    for (size_t r = 0; r < ROWS; r++)
        even[r] = odd[r] = _mm256_setzero_ps();
    for (; i + 2 * LANES <= dim; i += 2 * LANES) {
        __m256 first = _mm256_loadu_ps(query + i), second = _mm256_loadu_ps(query + i + LANES);
        prefetch(rows[0] + AHEAD_BYTES + i * bytes * ROWS, 2 * LANES * bytes * ROWS);
        for (size_t r = 0; r < ROWS; r++) {
            const char *at = rows[r] + i * bytes;
            even[r] = _mm256_fmadd_ps(first, load(dtype, at), even[r]);
            odd[r] = _mm256_fmadd_ps(second, load(dtype, at + LANES * bytes), odd[r]);
        }
    }
    for (; i < dim; i += LANES) {
        size_t count = dim - i < LANES ? dim - i : LANES;
        __m256 part = load_some(KVQ_RETRIEVER_F32, count, (const char *)(query + i));
        for (size_t r = 0; r < ROWS; r++)
            even[r] = _mm256_fmadd_ps(part, load_some(dtype, count, rows[r] + i * bytes), even[r]);
    }
    for (size_t r = 0; r < ROWS; r++)
        even[r] = _mm256_add_ps(even[r], odd[r]);
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
        float four[ROWS];
        for (size_t r = 0; r < ROWS; r++)
            rows[r] = row + (first + r < count ? first + r : count - 1) * row_bytes;
        _mm_storeu_ps(four, dots_of_four(dtype, query, dim, rows));
        for (size_t r = 0; r < ROWS && first + r < count; r++)
            dots[first + r] = four[r];
    }
}

static void dots_f32(const float *query, size_t dim, const void *rows, size_t count, float *dots) {
    dots_of(KVQ_RETRIEVER_F32, query, dim, rows, count, dots);
}

static void dots_f16(const float *query, size_t dim, const void *rows, size_t count, float *dots) {
    dots_of(KVQ_RETRIEVER_F16, query, dim, rows, count, dots);
}

const struct recall_kernels recall_kernels_avx2 = {"avx2", {dots_f32, dots_f16}};
