/* Half a vector at a time, eight blocks: pairs of channels are added up in 16 bits within a unit,
 * where no more than 8 * 2 * 7 * 127 comes together. */
#include <immintrin.h>

#include "daemon/recall/key_common.h"
#include "proto/page/summary.h"

enum { QUAD = 4, VECTORS = SUMMARY_UNIT_VECTORS, HALF = 32, BLOCKS = 8, QUERIES_AT_ONCE = 4 };

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
                      __m256i sums[KEY_GROUPS_MAX]) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i pairs[KEY_GROUPS_MAX] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (size_t v = 0; v < VECTORS; v++)
        pairs[v % groups] = _mm256_add_epi16(
            pairs[v % groups],
            _mm256_maddubs_epi16(codes[v], weights_of(weights + v / groups * QUAD)));
    for (size_t g = 0; g < groups; g++)
        sums[g] = _mm256_add_epi32(sums[g], _mm256_madd_epi16(pairs[g], ones));
}

/* Of one half of the blocks of each group. */
INLINED void some_queries(const struct key_job *job, size_t half, size_t query, size_t queries,
                          size_t groups, int32_t *dots) {
    __m256i sums[QUERIES_AT_ONCE][KEY_GROUPS_MAX], codes[VECTORS];
    const int8_t *weights = job->weights + query * job->weights_apart;
    for (size_t q = 0; q < queries; q++)
        for (size_t g = 0; g < groups; g++)
            sums[q][g] = _mm256_setzero_si256();
    for (size_t first = 0; first < job->vectors; first += VECTORS) {
        const uint8_t *unit = job->units + first / VECTORS * SUMMARY_UNIT_BYTES;
        key_prefetch(unit, half == 0 ? SUMMARY_UNIT_BYTES : 0);
        unpack(unit + half * HALF, codes);
        for (size_t q = 0; q < queries; q++)
            add_unit(codes, weights + q * job->weights_apart + first / groups * QUAD, groups,
                     sums[q]);
    }
    for (size_t q = 0; q < queries; q++)
        for (size_t g = 0; g < groups; g++)
            _mm256_storeu_si256(
                (__m256i *)(dots + ((query + q) * groups + g) * SUMMARY_LANES + half * BLOCKS),
                sums[q][g]);
}

INLINED void all_queries(const struct key_job *job, size_t half, size_t groups, int32_t *dots) {
    size_t q = 0;
    for (; q + QUERIES_AT_ONCE <= job->queries; q += QUERIES_AT_ONCE)
        some_queries(job, half, q, QUERIES_AT_ONCE, groups, dots);
    for (; q < job->queries; q++)
        some_queries(job, half, q, 1, groups, dots);
}

static void score(const struct key_job *job) {
    int32_t dots[KEY_QUERIES_MAX * KEY_GROUPS_MAX * SUMMARY_LANES];
    for (size_t half = 0; half < 2; half++)
        if (job->groups == 1)
            all_queries(job, half, 1, dots);
        else
            all_queries(job, half, 2, dots);
    key_finish(job, dots);
}

/* --- weighing --- */

/* Of sixteen channels. */
INLINED __m256i product(const struct key_weighing *weighing, size_t c) {
    __m256i steps = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(weighing->steps + c)));
    __m256i query = _mm256_loadu_si256((const __m256i *)(weighing->query + c));
    return _mm256_mulhrs_epi16(query, _mm256_slli_epi16(steps, 7));
}

INLINED __m256i centre(const struct key_weighing *weighing, size_t c) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(weighing->centres + c));
    return _mm256_madd_epi16(_mm256_loadu_si256((const __m256i *)(weighing->query + c)),
                             _mm256_cvtepi8_epi16(bytes));
}

INLINED int32_t added_up(__m256i lanes) {
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
    return _mm_cvtsi128_si32(sum);
}

/* The only instruction for it finds the least of eight. */
INLINED int32_t largest_of(__m256i lanes) {
    __m128i most = _mm_max_epi16(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
    return UINT16_MAX &
           ~_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_xor_si128(most, _mm_set1_epi16(-1))));
}

static void weigh(struct key_weighing *weighing) {
    __m256i largest = _mm256_setzero_si256(), centres = largest, sum = largest;
    for (size_t c = 0; c < weighing->channels; c += KEY_LANES) {
        largest = _mm256_max_epi16(largest, _mm256_abs_epi16(product(weighing, c)));
        centres = _mm256_add_epi32(centres, centre(weighing, c));
    }
    weighing->scale = key_scale(largest_of(largest));
    for (size_t c = 0; c < weighing->channels; c += KEY_LANES) {
        __m256i weights =
            _mm256_mulhrs_epi16(product(weighing, c), _mm256_set1_epi16((int16_t)weighing->scale));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(weights, _mm256_set1_epi16(1)));
        _mm_storeu_si128(
            (__m128i *)(weighing->weights + c),
            _mm_packs_epi16(_mm256_castsi256_si128(weights), _mm256_extracti128_si256(weights, 1)));
    }
    weighing->sum = added_up(sum);
    weighing->centre = added_up(centres);
}

const struct key_kernels key_kernels_avx2 = {
    .name = "avx2", .weigh = weigh, .score = score, .best = key_best};
