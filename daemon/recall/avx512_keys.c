/* Codes are not unpacked but masked, and stay where they stand in their bytes, as a multiple of
 * what they are: four channels of sixteen blocks are multiplied and added by one instruction
 * (VNNI), and the sums divided at the end. */
#include <immintrin.h>

#include "daemon/recall/key_common.h"
#include "proto/page/summary.h"

enum { QUAD = 4, VECTORS = SUMMARY_UNIT_VECTORS, TERMS = 10 };
enum { PAIRED = 32 /* channels of 16 bits */ };

#define INLINED static inline __attribute__((always_inline))

/* Bits of one of a unit's three bytes: 2^shift times what they are worth in a vector's code. */
static const struct term {
    uint8_t third, mask, vector, shift;
} terms[TERMS] = {{0, 0x07, 0, 0}, {0, 0x38, 1, 3}, {1, 0x07, 2, 0}, {1, 0x38, 3, 3},
                  {2, 0x07, 4, 0}, {2, 0x38, 5, 3}, {0, 0xc0, 6, 6}, {1, 0x40, 6, 4},
                  {2, 0xc0, 7, 6}, {1, 0x80, 7, 5}};

INLINED __m512i weights_of(const int8_t *quad) {
    int32_t four;
    memcpy(&four, quad, sizeof four);
    return _mm512_set1_epi32(four);
}

/* --- scores --- */

INLINED __m512i constant(int32_t value) {
    return _mm512_set1_epi32(value);
}

/* As key_power(). */
INLINED __m512 power(__m512i of, int32_t one) {
    __m512i bits = _mm512_max_epi32(_mm512_add_epi32(of, constant(one)), constant(0));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, KEY_MANTISSA_SHIFT));
}

/* Of a group of a query; the order of operands makes what is no number the least. */
INLINED __m512i scores_of(const struct key_job *job, size_t query, size_t group, __m512i dots) {
    const struct key_line *line = &job->lines[query];
    __m512 exact =
        _mm512_add_ps(_mm512_set1_ps(line->base),
                      _mm512_mul_ps(_mm512_set1_ps(line->unit), _mm512_cvtepi32_ps(dots)));
    exact = _mm512_max_ps(exact, _mm512_set1_ps(-KEY_SCORE_MAX));
    __m512i scores = _mm512_cvtps_epi32(_mm512_min_ps(exact, _mm512_set1_ps(KEY_SCORE_MAX)));
    if (job->left_out) {
        __m128i out = _mm_loadu_si128((const __m128i *)(job->left_out + group * KEY_LANES));
        scores =
            _mm512_mask_mov_epi32(scores, _mm_test_epi8_mask(out, out), constant(-KEY_SCORE_MAX));
    }
    int16_t *to = job->scores + query * job->scores_apart + group * KEY_LANES;
    _mm256_storeu_si256((__m256i *)to, _mm512_cvtepi32_epi16(scores));
    return scores;
}

/* As key_add(). */
INLINED void finish(const struct key_job *job, size_t query, size_t groups, __m512i even,
                    __m512i odd) {
    struct key_sum *sum = &job->sums[query];
    __m512i first = scores_of(job, query, 0, even), second = constant(2 * KEY_BASE_MIN);
    if (groups > 1)
        second = scores_of(job, query, 1, odd);
    __m512i before = _mm512_loadu_si512(sum->bases), larger = _mm512_max_epi32(first, second);
    __m512i above =
        _mm512_add_epi32(_mm512_and_si512(larger, constant(-KEY_DOUBLING)), constant(KEY_DOUBLING));
    __m512i base = _mm512_max_epi32(above, before);
    __m512 added = power(_mm512_sub_epi32(first, base), KEY_ONE_BETWEEN);
    added = _mm512_add_ps(added, power(_mm512_sub_epi32(second, base), KEY_ONE_BETWEEN));
    __m512 kept =
        _mm512_mul_ps(_mm512_loadu_ps(sum->sums), power(_mm512_sub_epi32(before, base), KEY_ONE));
    _mm512_storeu_ps(sum->sums, _mm512_add_ps(kept, added));
    _mm512_storeu_si512(sum->bases, base);
}

/* --- codes times weights --- */

/* Of those terms of a query that are of vectors of the group. */
INLINED __m512i added_up(const __m512i sums[TERMS], size_t group, size_t groups) {
    __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 10
    for (size_t t = 0; t < TERMS; t++)
        if (terms[t].vector % groups == group)
            sum = _mm512_add_epi32(sum, _mm512_srai_epi32(sums[t], terms[t].shift));
    return sum;
}

/* The bytes are masked again for each query: it takes less than to keep more sums would. */
INLINED void one_query(const struct key_job *job, size_t query, size_t groups) {
    __m512i sums[TERMS];
    const int8_t *weights = job->weights + query * job->weights_apart;
    const uint8_t *unit = job->units, *end = unit + job->vectors / VECTORS * SUMMARY_UNIT_BYTES;
    for (size_t t = 0; t < TERMS; t++)
        sums[t] = _mm512_setzero_si512();
    for (; unit < end; unit += SUMMARY_UNIT_BYTES, weights += VECTORS / groups * QUAD) {
        key_prefetch(unit, SUMMARY_UNIT_BYTES);
#pragma GCC unroll 10
        for (size_t t = 0; t < TERMS; t++) {
            __m512i bytes = _mm512_loadu_si512(unit + terms[t].third * SUMMARY_VECTOR_BYTES);
            __m512i codes = _mm512_and_si512(bytes, _mm512_set1_epi8((char)terms[t].mask));
            sums[t] = _mm512_dpbusd_epi32(sums[t], codes,
                                          weights_of(weights + terms[t].vector / groups * QUAD));
        }
    }
    finish(job, query, groups, added_up(sums, 0, groups),
           groups > 1 ? added_up(sums, 1, groups) : _mm512_setzero_si512());
}

INLINED void all_queries(const struct key_job *job, size_t groups) {
    for (size_t q = 0; q < job->queries; q++)
        one_query(job, q, groups);
}

static void score(const struct key_job *job) {
    if (job->groups == 1)
        all_queries(job, 1);
    else
        all_queries(job, 2);
}

/* --- weighing --- */

/* Of thirty-two channels, or of sixteen. */
INLINED __m256i row_at(const void *row, size_t c, bool whole) {
    const uint8_t *at = (const uint8_t *)row + c;
    return whole ? _mm256_loadu_si256((const __m256i *)at)
                 : _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)at));
}

INLINED __m512i query_at(const struct key_weighing *weighing, size_t c) {
    return _mm512_loadu_si512(weighing->query + c);
}

INLINED __m512i product(const struct key_weighing *weighing, size_t c, bool whole) {
    __m512i steps = _mm512_cvtepu8_epi16(row_at(weighing->steps, c, whole));
    return _mm512_mulhrs_epi16(query_at(weighing, c), _mm512_slli_epi16(steps, 7));
}

INLINED __m512i add_centres(__m512i sum, const struct key_weighing *weighing, size_t c,
                            bool whole) {
    __m512i centres = _mm512_cvtepi8_epi16(row_at(weighing->centres, c, whole));
    return _mm512_dpwssd_epi32(sum, query_at(weighing, c), centres);
}

/* The only instruction for it finds the least of eight. */
INLINED int32_t largest_of(__m512i lanes) {
    __m256i half =
        _mm256_max_epi16(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64(lanes, 1));
    __m128i most = _mm_max_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    return UINT16_MAX &
           ~_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_xor_si128(most, _mm_set1_epi16(-1))));
}

struct sums {
    __m512i largest, centre, weights;
};

INLINED void see(struct sums *sums, const struct key_weighing *weighing, size_t c, bool whole) {
    sums->largest = _mm512_max_epi16(sums->largest, _mm512_abs_epi16(product(weighing, c, whole)));
    sums->centre = add_centres(sums->centre, weighing, c, whole);
}

INLINED void write(struct sums *sums, const struct key_weighing *weighing, size_t c, int32_t scale,
                   bool whole) {
    __m512i weights =
        _mm512_mulhrs_epi16(product(weighing, c, whole), _mm512_set1_epi16((int16_t)scale));
    sums->weights = _mm512_dpwssd_epi32(sums->weights, weights, _mm512_set1_epi16(1));
    _mm256_storeu_si256((__m256i *)(weighing->weights + c), _mm512_cvtepi16_epi8(weights));
}

static void weigh(struct key_weighing *weighing) {
    const struct key_weighing given = *weighing;
    size_t whole = given.channels / PAIRED * PAIRED;
    struct sums sums = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    for (size_t c = 0; c < whole; c += PAIRED)
        see(&sums, &given, c, true);
    if (whole < given.channels)
        see(&sums, &given, whole, false);
    int32_t scale = key_scale(largest_of(sums.largest));
    for (size_t c = 0; c < whole; c += PAIRED)
        write(&sums, &given, c, scale, true);
    if (whole < given.channels)
        write(&sums, &given, whole, scale, false);
    weighing->scale = scale;
    weighing->sum = _mm512_reduce_add_epi32(sums.weights);
    weighing->centre = _mm512_reduce_add_epi32(sums.centre);
}

const struct key_kernels key_kernels_avx512 = {
    .name = "avx512", .weigh = weigh, .score = score, .best = key_best};
