/* A vector's codes are taken out of its unit by one instruction (GFNI), and
 * four channels of sixteen blocks multiplied and added by another (VNNI). */
#include <immintrin.h>

#include "daemon/recall/key_floats.h"
#include "proto/page/summary.h"

enum { QUAD = 4, VECTORS = SUMMARY_UNIT_VECTORS, GROUPS_MOST = 2, QUERIES_AT_ONCE = 4, LINE = 64 };
enum { CHAINS = 2 }; /* of sums that do not wait for each other */

#define INLINED static inline __attribute__((always_inline))

/* A matrix whose result has the bits `first` on of a byte as its bits `to` on,
 * so many. */
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

/* A unit, a few lines at a time: what is asked for at once waits for what was asked for before. */
INLINED void prefetch(const uint8_t *unit) {
    for (size_t i = 0; i < SUMMARY_UNIT_BYTES; i += LINE)
        _mm_prefetch((const char *)unit + i, _MM_HINT_T0);
}

INLINED void some_queries(const struct key_job *job, size_t query, size_t queries, size_t groups) {
    __attribute__((uninitialized)) __m512i sums[QUERIES_AT_ONCE][GROUPS_MOST][CHAINS],
        codes[VECTORS];
    const int8_t *weights = job->weights + query * job->weights_apart;
    for (size_t q = 0; q < queries; q++)
        for (size_t g = 0; g < groups; g++)
            for (size_t chain = 0; chain < CHAINS; chain++)
                sums[q][g][chain] = _mm512_setzero_si512();
    for (size_t first = 0; first < job->vectors; first += VECTORS) {
        size_t at = first / VECTORS * SUMMARY_UNIT_BYTES;
        if (job->next && query == 0)
            prefetch(job->next + at);
        unpack(job->units + at, codes);
#pragma GCC unroll 8
        for (size_t v = 0; v < VECTORS; v++)
#pragma GCC unroll 4
            for (size_t q = 0; q < queries; q++) {
                __m512i *sum = &sums[q][v % groups][v / groups % CHAINS];
                *sum = _mm512_dpbusd_epi32(
                    *sum, codes[v],
                    weights_of(weights + q * job->weights_apart + (first + v) / groups * QUAD));
            }
    }
    for (size_t q = 0; q < queries; q++)
        for (size_t g = 0; g < groups; g++)
            _mm512_storeu_si512(job->sums + ((query + q) * groups + g) * SUMMARY_LANES,
                                _mm512_add_epi32(sums[q][g][0], sums[q][g][1]));
}

INLINED void all_queries(const struct key_job *job, size_t groups) {
    size_t q = 0;
    for (; q + QUERIES_AT_ONCE <= job->queries; q += QUERIES_AT_ONCE)
        some_queries(job, q, QUERIES_AT_ONCE, groups);
    for (; q < job->queries; q++)
        some_queries(job, q, 1, groups);
}

static void dots(const struct key_job *job) {
    if (job->groups == 1)
        all_queries(job, 1);
    else
        all_queries(job, 2);
}

/* As key_fold() adds lanes up. */
INLINED float fold(__m512 lanes) {
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

INLINED __m512 unsigned_floats(const uint8_t *bytes) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)bytes)));
}

INLINED __m512 signed_floats(const int8_t *bytes) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)bytes)));
}

/* The largest product. */
INLINED float multiply(struct key_weighing *weighing) {
    __m512 largest = _mm512_setzero_ps(), lanes = _mm512_setzero_ps();
    for (size_t c = 0; c < weighing->channels; c += KEY_LANES) {
        __m512 query = _mm512_loadu_ps(weighing->query + c);
        __m512 product = _mm512_mul_ps(query, unsigned_floats(weighing->steps + c));
        largest = _mm512_max_ps(largest, _mm512_abs_ps(product));
        lanes = _mm512_add_ps(lanes, _mm512_mul_ps(query, signed_floats(weighing->centres + c)));
        _mm512_storeu_ps(weighing->products + c, product);
    }
    weighing->centre = fold(lanes);
    return _mm512_reduce_max_ps(largest);
}

static void weigh(struct key_weighing *weighing) {
    float largest = multiply(weighing);
    bool any = largest > KEY_PRODUCT_MIN;
    __m512 scale = _mm512_set1_ps(any ? KEY_WEIGHT_MAX / largest : 0);
    __m512i sum = _mm512_setzero_si512();
    for (size_t c = 0; c < weighing->channels; c += KEY_LANES) {
        __m512 product = _mm512_loadu_ps(weighing->products + c);
        __m512i weights = _mm512_cvtps_epi32(_mm512_mul_ps(product, scale));
        sum = _mm512_add_epi32(sum, weights);
        _mm_storeu_si128((__m128i *)(weighing->weights + c), _mm512_cvtepi32_epi8(weights));
    }
    weighing->unit = any ? largest / KEY_WEIGHT_MAX : 0;
    weighing->sum = _mm512_reduce_add_epi32(sum);
}

const struct key_kernels key_kernels_avx512 = {
    .name = "avx512", .weigh = weigh, .dots = dots, .exponentials = key_exponentials};
