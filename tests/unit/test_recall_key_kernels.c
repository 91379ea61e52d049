/* The kernels that score key summaries: every table does as the portable one and as exact
 * arithmetic do, and reads nothing behind its rows. */
#include <math.h>

#include "daemon/recall/key_choice.h"
#include "proto/page/summary.h"
#include "tests/fuzz/kernel_tables.h"
#include "tests/unit/test_page_kernels_support.h"

static uint64_t state = 88172645463325252U;

static bool use_table(size_t i) {
    if (kernel_table(i))
        page_kernels_use(kernel_table(i));
    return kernel_table(i) != NULL;
}

/* Of a query with the block in a lane of a group. */
static int32_t dot_of(const struct key_job *job, size_t query, size_t group, size_t lane) {
    uint8_t codes[SUMMARY_UNIT_VECTORS * SUMMARY_VECTOR_BYTES];
    int32_t sum = 0;
    for (size_t v = group; v < job->vectors; v += job->groups) {
        page_summary_unpack(job->units + v / SUMMARY_UNIT_VECTORS * SUMMARY_UNIT_BYTES, codes);
        for (size_t i = 0; i < 4; i++)
            sum += codes[v % SUMMARY_UNIT_VECTORS * SUMMARY_VECTOR_BYTES + 4 * lane + i] *
                   job->weights[query * job->weights_apart + v / job->groups * 4 + i];
    }
    return sum;
}

static int16_t score_in(const struct key_job *job, size_t query, size_t group, size_t lane) {
    if (job->left_out && job->left_out[group * SUMMARY_LANES + lane])
        return -KEY_SCORE_MAX;
    float exact =
        job->lines[query].base + job->lines[query].unit * (float)dot_of(job, query, group, lane);
    return (int16_t)lrintf(fminf(fmaxf(exact, -KEY_SCORE_MAX), KEY_SCORE_MAX));
}

static void empty(struct key_sum *sum) {
    for (size_t lane = 0; lane < KEY_LANES; lane++) {
        sum->bases[lane] = KEY_BASE_MIN;
        sum->sums[lane] = 0;
    }
}

static double doublings(int16_t score) {
    return score / (double)KEY_DOUBLING;
}

/* Of two jobs that scored the same. */
static void expect_sum(const struct key_sum *sum, const int16_t *scores, size_t count) {
    double all = 0, largest = -INFINITY, near = 0.04 / M_LN2 + 1.0 / KEY_DOUBLING;
    for (size_t i = 0; i < count; i++)
        largest = fmax(largest, doublings(scores[i]));
    for (size_t i = 0; i < count; i++)
        all += 2 * exp2(doublings(scores[i]) - largest);
    double expected = fmin(largest + log2(all), doublings(KEY_SCORE_MAX));
    ck_assert_double_le(fabs(doublings(key_sum_logarithm(sum)) - expected), near);
}

static void expect_scores(const struct key_job *job) {
    enum { APART = 70 };
    int16_t scores[8 * APART];
    struct key_sum sums[8];
    struct key_job with = *job;
    with.scores = scores;
    with.scores_apart = APART;
    with.sums = sums;
    for (size_t q = 0; q < job->queries; q++)
        empty(&sums[q]);
    key_kernels()->score(&with);
    key_kernels()->score(&with);
    for (size_t q = 0; q < job->queries; q++) {
        for (size_t i = 0; i < job->groups * SUMMARY_LANES; i++)
            ck_assert_int_eq(scores[q * APART + i],
                             score_in(job, q, i / SUMMARY_LANES, i % SUMMARY_LANES));
        expect_sum(&sums[q], scores + q * APART, job->groups * SUMMARY_LANES);
    }
}

static void fill_lines(struct key_line lines[8]) {
    for (size_t q = 0; q < 8; q++)
        lines[q] = (struct key_line){.base = 5000 * (float)random_normal(&state),
                                     .unit = (float)random_normal(&state) * (q % 2 ? 2 : 0x1p-6F)};
}

START_TEST(every_table_scores_the_same) {
    static uint8_t units[8 * SUMMARY_UNIT_BYTES];
    static int8_t weights[8 * 256];
    static uint8_t left_out[2 * SUMMARY_LANES];
    struct key_line lines[8];
    if (!use_table((size_t)_i))
        return;
    for (size_t i = 0; i < sizeof units; i++)
        units[i] = (uint8_t)random_bits(&state);
    for (size_t i = 0; i < sizeof weights; i++)
        weights[i] = (int8_t)((int)random_up_to(&state, 254) - 127);
    for (size_t i = 1; i < sizeof left_out; i++)
        left_out[i] = (uint8_t)random_up_to(&state, 1);
    for (int i = 0; i < 200; i++) {
        struct key_job job = {.vectors = 8 * (1 + random_up_to(&state, 7)),
                              .groups = 1 + random_up_to(&state, 1),
                              .queries = 1 + random_up_to(&state, 7),
                              .weights = weights,
                              .weights_apart = 256,
                              .lines = lines,
                              .left_out = i % 3 ? NULL : left_out};
        job.units = units + sizeof units - job.vectors / 8 * SUMMARY_UNIT_BYTES; /* the last */
        fill_lines(lines);
        expect_scores(&job);
    }
}
END_TEST

/* Each weight is near to its product, and the largest uses what room there is. */
static void expect_weights(const struct key_weighing *weighing) {
    double largest = 0;
    int32_t sum = 0, centre = 0;
    for (size_t c = 0; c < weighing->channels; c++) {
        double product = weighing->query[c] * weighing->steps[c] * weighing->scale * 0x1p-23;
        ck_assert_double_le(fabs(product - weighing->weights[c]), 1.01);
        largest = fmax(largest, fabs(product));
        sum += weighing->weights[c];
        centre += weighing->query[c] * weighing->centres[c];
    }
    ck_assert(largest > 126 || weighing->scale == INT16_MAX);
    ck_assert_int_eq(weighing->sum, sum);
    ck_assert_int_eq(weighing->centre, centre);
}

static void fill_weighing(int16_t *query, int8_t *centres, uint8_t *steps, size_t count) {
    int limit = 1 << random_up_to(&state, 15);
    for (size_t c = 0; c < count; c++) {
        query[c] = (int16_t)((int)random_up_to(&state, 2 * (size_t)limit - 1) - limit);
        query[c] = query[c] < -INT16_MAX ? -INT16_MAX : query[c];
        centres[c] = (int8_t)((int)random_up_to(&state, 254) - 127);
        steps[c] = (uint8_t)random_bits(&state);
    }
}

static void expect_same_weights(struct key_weighing *weighing, struct key_weighing *other) {
    key_kernels_portable.weigh(weighing);
    key_kernels()->weigh(other);
    ck_assert_mem_eq(weighing->weights, other->weights, weighing->channels);
    ck_assert_int_eq(weighing->scale, other->scale);
    ck_assert_int_eq(weighing->sum, other->sum);
    ck_assert_int_eq(weighing->centre, other->centre);
}

START_TEST(every_table_weighs_the_same) {
    enum { MOST = 128 };
    int16_t query[MOST];
    int8_t weights[2][MOST];
    struct guarded centres = guarded_new(MOST, 1), steps = guarded_new(MOST, 1);
    if (!use_table((size_t)_i))
        return;
    for (size_t i = 0; i < 400; i++) {
        size_t channels = 16 * (1 + i % 8), gone = MOST - channels; /* rows end where memory does */
        struct key_weighing plain = {.query = query,
                                     .centres = (int8_t *)centres.data + gone,
                                     .steps = steps.data + gone,
                                     .channels = channels,
                                     .weights = weights[0]};
        struct key_weighing other = plain;
        other.weights = weights[1];
        memset(query, 0, sizeof query);
        fill_weighing(query, (int8_t *)centres.data + gone, steps.data + gone, channels);
        expect_same_weights(&plain, &other);
        expect_weights(&other);
    }
}
END_TEST

START_TEST(scores_stay_within_their_limits) {
    static const uint8_t units[8 * SUMMARY_UNIT_BYTES];
    static const int8_t weights[64];
    const float bases[] = {1e30F, INFINITY, -1e30F, NAN};
    if (!use_table((size_t)_i))
        return;
    for (size_t i = 0; i < 4; i++) {
        int16_t scores[SUMMARY_LANES], expected = i < 2 ? KEY_SCORE_MAX : -KEY_SCORE_MAX;
        struct key_line line = {.base = bases[i]};
        struct key_sum sum;
        empty(&sum);
        key_kernels()->score(&(struct key_job){.units = units,
                                               .vectors = 8,
                                               .groups = 1,
                                               .queries = 1,
                                               .weights = weights,
                                               .lines = &line,
                                               .scores = scores,
                                               .sums = &sum});
        for (size_t lane = 0; lane < SUMMARY_LANES; lane++)
            ck_assert_int_eq(scores[lane], expected);
        ck_assert_int_le(abs(key_sum_logarithm(&sum) - expected), 5 * KEY_DOUBLING);
    }
}
END_TEST

START_TEST(of_each_block_the_best_share_is_found) {
    int16_t scores[3 * 64], best[64];
    const int16_t wholes[] = {900, -KEY_SCORE_MAX, 30000};
    if (!use_table((size_t)_i))
        return;
    for (size_t i = 0; i < sizeof scores / sizeof *scores; i++)
        scores[i] = (int16_t)((int32_t)random_up_to(&state, 2 * KEY_SCORE_MAX) - KEY_SCORE_MAX);
    for (size_t queries = 1; queries <= 3; queries++) {
        struct key_scores all = {
            .scores = scores, .wholes = wholes, .queries = queries, .lanes = 64};
        key_kernels()->best(&all, best);
        for (size_t b = 0; b < 64; b++) {
            int32_t expected = -KEY_SCORE_MAX;
            for (size_t q = 0; q < queries; q++)
                if (scores[q * 64 + b] - wholes[q] > expected)
                    expected = scores[q * 64 + b] - wholes[q];
            ck_assert_int_eq(best[b], expected < KEY_SCORE_MAX ? expected : KEY_SCORE_MAX);
        }
    }
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("kernels");
    Suite *suite = suite_create("kernels of recall by keys");
    tcase_add_loop_test(cases, every_table_scores_the_same, 0, KERNEL_TABLES_MAX);
    tcase_add_loop_test(cases, scores_stay_within_their_limits, 0, KERNEL_TABLES_MAX);
    tcase_add_loop_test(cases, every_table_weighs_the_same, 0, KERNEL_TABLES_MAX);
    tcase_add_loop_test(cases, of_each_block_the_best_share_is_found, 0, KERNEL_TABLES_MAX);
    tcase_set_timeout(cases, 60);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
