/* The values of `kvq bench synthetic`: the same on every machine, and float16 as it should be. */
#include "client/cli/model_values.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

enum { TOKENS = 256, HEADS = 4, HEAD_DIM = 64, CHANNELS = HEADS * HEAD_DIM };

static uint16_t *draw(enum kvq_part part, uint64_t seed) {
    uint16_t *values = malloc((size_t)TOKENS * CHANNELS * sizeof *values);
    ck_assert_ptr_nonnull(values);
    ck_assert(model_values_fill(values, TOKENS, HEADS, HEAD_DIM, part, seed));
    return values;
}

/* FNV-1a over the values, low bytes first. */
static uint64_t hash_of(const uint16_t *values) {
    uint64_t hash = 0xcbf29ce484222325;
    for (int i = 0; i < TOKENS * CHANNELS; i++) {
        hash = (hash ^ (values[i] & 0xff)) * 0x100000001b3;
        hash = (hash ^ (values[i] >> 8)) * 0x100000001b3;
    }
    return hash;
}

static double number_of(uint16_t half) {
    int exponent = half >> 10 & 31;
    double mantissa = half & 1023;
    double magnitude = exponent ? ldexp(mantissa + 1024, exponent - 25) : ldexp(mantissa, -24);
    return half & 0x8000 ? -magnitude : magnitude;
}

START_TEST(values_of_a_seed_are_the_same_everywhere) {
    static const uint64_t expected[] = {0xd3e386cbfb1b53f0, 0x9891691ef11a6f21};
    for (int part = KVQ_K; part <= KVQ_V; part++) {
        uint16_t *values = draw((enum kvq_part)part, 1);
        ck_assert_msg(hash_of(values) == expected[part], "part %d: 0x%llx", part,
                      (unsigned long long)hash_of(values));
        free(values);
    }
}
END_TEST

START_TEST(k_v_and_seeds_differ) {
    uint16_t *k = draw(KVQ_K, 1), *v = draw(KVQ_V, 1), *other = draw(KVQ_K, 2);
    ck_assert_uint_ne(hash_of(k), hash_of(v));
    ck_assert_uint_ne(hash_of(k), hash_of(other));
    free(k);
    free(v);
    free(other);
}
END_TEST

START_TEST(values_are_finite) {
    uint16_t *k = draw(KVQ_K, 1);
    for (int i = 0; i < TOKENS * CHANNELS; i++)
        ck_assert_uint_ne(k[i] >> 10 & 31, 31);
    free(k);
}
END_TEST

/* The root of the mean square of what a channel's mean leaves, and the spread of the channels'. */
START_TEST(channels_spread_as_described) {
    uint16_t *v = draw(KVQ_V, 1);
    double log_sum = 0, log_squares = 0;
    for (int c = 0; c < CHANNELS; c++) {
        double sum = 0, squares = 0;
        for (int t = 0; t < TOKENS; t++) {
            double number = number_of(v[t * CHANNELS + c]);
            sum += number;
            squares += number * number;
        }
        double deviation = sqrt(squares / TOKENS - sum * sum / TOKENS / TOKENS);
        log_sum += log2(deviation);
        log_squares += log2(deviation) * log2(deviation);
    }
    double mean = log_sum / CHANNELS;
    ck_assert_double_eq_tol(mean, 0, 0.1);
    ck_assert_double_eq_tol(sqrt(log_squares / CHANNELS - mean * mean), 0.3, 0.05);
    free(v);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("model values");
    TCase *cases = tcase_create("values");
    tcase_add_test(cases, values_of_a_seed_are_the_same_everywhere);
    tcase_add_test(cases, k_v_and_seeds_differ);
    tcase_add_test(cases, values_are_finite);
    tcase_add_test(cases, channels_spread_as_described);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
