/* Half a vector at a time, eight blocks: pairs of channels are added up in 16 bits within a unit,
 * where no more than 8 * 2 * 7 * 127 comes together. */
#include <immintrin.h>

#include "daemon/recall/key_floats.h"
#include "proto/page/summary.h"

enum { QUAD = 4, VECTORS = SUMMARY_UNIT_VECTORS, HALF = 32, BLOCKS = 8, GROUPS_MOST = 2 };
enum { QUERIES_AT_ONCE = 4, LINE = 64 };

#define INLINED static inline __attribute__((always_inline))

INLINED __m256i load(const uint8_t *unit, size_t third) {
    return _mm256_loadu_si256((const __m256i *)(unit + third * SUMMARY_VECTOR_BYTES));
}

INLINED __m256i lower(__m256i bytes, __m256i mask) {
    return _mm256_and_si256(bytes, mask);
}

INLINED void unpack(const uint8_t *unit, __m256i codes[VECTORS]) {
    const __m256i code = _mm256_set1_epi8(7), two = _mm256_set1_epi8(3), bit = _mm256_set1_epi8(4);
    __m256i a = load(unit, 0), b = load(unit, 1), c = load(unit, 2);
    codes[0] = lower(a, code);
    codes[1] = lower(_mm256_srli_epi16(a, 3), code);
    codes[2] = lower(b, code);
    codes[3] = lower(_mm256_srli_epi16(b, 3), code);
    codes[4] = lower(c, code);
    codes[5] = lower(_mm256_srli_epi16(c, 3), code);
    codes[6] =
        _mm256_or_si256(lower(_mm256_srli_epi16(a, 6), two), lower(_mm256_srli_epi16(b, 4), bit));
    codes[7] =
        _mm256_or_si256(lower(_mm256_srli_epi16(c, 6), two), lower(_mm256_srli_epi16(b, 5), bit));
}

INLINED __m256i weights_of(const int8_t *quad) {
    int32_t four;
    memcpy(&four, quad, sizeof four);
    return _mm256_set1_epi32(four);
}

/* A unit's codes of a query: onto the sums of each group. */
INLINED void add_unit(const __m256i codes[VECTORS], const int8_t *weights, size_t groups,
                      __m256i sums[GROUPS_MOST]) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i pairs[GROUPS_MOST] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (size_t v = 0; v < VECTORS; v++)
        pairs[v % groups] = _mm256_add_epi16(
            pairs[v % groups],
            _mm256_maddubs_epi16(codes[v], weights_of(weights + v / groups * QUAD)));
    for (size_t g = 0; g < groups; g++)
        sums[g] = _mm256_add_epi32(sums[g], _mm256_madd_epi16(pairs[g], ones));
}

/* Of one half of the blocks of each group. */
INLINED void some_queries(const struct key_job *job, size_t half, size_t query, size_t queries,
                          size_t groups) {
    __m256i sums[QUERIES_AT_ONCE][GROUPS_MOST], codes[VECTORS];
    const int8_t *weights = job->weights + query * job->weights_apart;
    for (size_t q = 0; q < queries; q++)
        for (size_t g = 0; g < groups; g++)
            sums[q][g] = _mm256_setzero_si256();
    for (size_t first = 0; first < job->vectors; first += VECTORS) {
        unpack(job->units + first / VECTORS * SUMMARY_UNIT_BYTES + half * HALF, codes);
        for (size_t q = 0; q < queries; q++)
            add_unit(codes, weights + q * job->weights_apart + first / groups * QUAD, groups,
                     sums[q]);
    }
    for (size_t q = 0; q < queries; q++)
        for (size_t g = 0; g < groups; g++)
            _mm256_storeu_si256(
                (__m256i *)(job->sums + ((query + q) * groups + g) * SUMMARY_LANES + half * BLOCKS),
                sums[q][g]);
}

INLINED void all_queries(const struct key_job *job, size_t half, size_t groups) {
    size_t q = 0;
    for (; q + QUERIES_AT_ONCE <= job->queries; q += QUERIES_AT_ONCE)
        some_queries(job, half, q, QUERIES_AT_ONCE, groups);
    for (; q < job->queries; q++)
        some_queries(job, half, q, 1, groups);
}

static void prefetch(const struct key_job *job) {
    size_t bytes = job->vectors / VECTORS * SUMMARY_UNIT_BYTES;
    for (size_t i = 0; job->next && i < bytes; i += LINE)
        _mm_prefetch((const char *)job->next + i, _MM_HINT_T0);
}

static void dots(const struct key_job *job) {
    prefetch(job);
    for (size_t half = 0; half < 2; half++)
        if (job->groups == 1)
            all_queries(job, half, 1);
        else
            all_queries(job, half, 2);
}

const struct key_kernels key_kernels_avx2 = {
    .name = "avx2", .weigh = key_weigh, .dots = dots, .exponentials = key_exponentials};
