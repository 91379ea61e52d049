/* A vector's codes are taken out of its unit by one instruction (GFNI), and four channels of
 * sixteen blocks multiplied and added by another (VNNI). */
#include <immintrin.h>

#include "daemon/recall/key_floats.h"
#include "proto/page/summary.h"

enum { QUAD = 4, VECTORS = SUMMARY_UNIT_VECTORS, GROUPS_MOST = 2, QUERIES_AT_ONCE = 4, LINE = 64 };

#define INLINED static inline __attribute__((always_inline))

/* A matrix whose result has the bits `first` on of a byte as its bits `to` on, so many. */
INLINED __m512i bits(unsigned first, unsigned count, unsigned to) {
    uint64_t matrix = 0;
    for (unsigned i = 0; i < count; i++)
        matrix |= (uint64_t)(1U << (first + i)) << 8 * (7 - to - i);
    return _mm512_set1_epi64((long long)matrix);
}

INLINED __m512i take(__m512i bytes, __m512i matrix) {
    return _mm512_gf2p8affine_epi64_epi8(bytes, matrix, 0);
}

INLINED __m512i load(const uint8_t *unit, size_t third) {
    return _mm512_loadu_si512(unit + third * SUMMARY_VECTOR_BYTES);
}

INLINED void unpack(const uint8_t *unit, __m512i codes[VECTORS]) {
    const __m512i code = _mm512_set1_epi8(SUMMARY_CODE_MAX), second = bits(3, 3, 0);
    const __m512i two = bits(6, 2, 0), third = bits(6, 1, 2), last = bits(7, 1, 2);
    __m512i a = load(unit, 0), b = load(unit, 1), c = load(unit, 2);
    codes[0] = _mm512_and_si512(a, code);
    codes[1] = take(a, second);
    codes[2] = _mm512_and_si512(b, code);
    codes[3] = take(b, second);
    codes[4] = _mm512_and_si512(c, code);
    codes[5] = take(c, second);
    codes[6] = _mm512_or_si512(take(a, two), take(b, third));
    codes[7] = _mm512_or_si512(take(c, two), take(b, last));
}

INLINED __m512i weights_of(const int8_t *quad) {
    int32_t four;
    memcpy(&four, quad, sizeof four);
    return _mm512_set1_epi32(four);
}

INLINED void some_queries(const struct key_job *job, size_t query, size_t queries, size_t groups) {
    __m512i sums[QUERIES_AT_ONCE][GROUPS_MOST], codes[VECTORS];
    const int8_t *weights = job->weights + query * job->weights_apart;
    for (size_t q = 0; q < queries; q++)
        for (size_t g = 0; g < groups; g++)
            sums[q][g] = _mm512_setzero_si512();
    for (size_t first = 0; first < job->vectors; first += VECTORS) {
        unpack(job->units + first / VECTORS * SUMMARY_UNIT_BYTES, codes);
#pragma GCC unroll 8
        for (size_t v = 0; v < VECTORS; v++)
#pragma GCC unroll 4
            for (size_t q = 0; q < queries; q++)
                sums[q][v % groups] = _mm512_dpbusd_epi32(
                    sums[q][v % groups], codes[v],
                    weights_of(weights + q * job->weights_apart + (first + v) / groups * QUAD));
    }
    for (size_t q = 0; q < queries; q++)
        for (size_t g = 0; g < groups; g++)
            _mm512_storeu_si512(job->sums + ((query + q) * groups + g) * SUMMARY_LANES, sums[q][g]);
}

INLINED void all_queries(const struct key_job *job, size_t groups) {
    size_t q = 0;
    for (; q + QUERIES_AT_ONCE <= job->queries; q += QUERIES_AT_ONCE)
        some_queries(job, q, QUERIES_AT_ONCE, groups);
    for (; q < job->queries; q++)
        some_queries(job, q, 1, groups);
}

static void prefetch(const struct key_job *job) {
    size_t bytes = job->vectors / VECTORS * SUMMARY_UNIT_BYTES;
    for (size_t i = 0; job->next && i < bytes; i += LINE)
        _mm_prefetch((const char *)job->next + i, _MM_HINT_T0);
}

static void dots(const struct key_job *job) {
    prefetch(job);
    if (job->groups == 1)
        all_queries(job, 1);
    else
        all_queries(job, 2);
}

const struct key_kernels key_kernels_avx512 = {
    .name = "avx512", .weigh = key_weigh, .dots = dots, .exponentials = key_exponentials};
