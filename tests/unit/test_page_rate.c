/* What a page costs, on data whose cost is known. */
#include "tests/unit/test_page_support.h"

enum { TOKENS = 128, CHANNELS = 192, ROUNDS = 8 };

/* Channels of one deviation, or of deviations a quarter octave apart over two octaves. */
static struct tensor gaussian(enum page_dtype dtype, int spread, uint64_t seed) {
    struct tensor tensor = tensor_new(dtype, TOKENS, 3, 64);
    uint64_t state = seed;
    for (size_t i = 0; i < tensor.values; i++) {
        double deviation = spread ? exp2((double)(i % CHANNELS % 9) / 4 - 1) : 1;
        set_value(dtype, tensor.data, i, deviation * random_normal(&state));
    }
    return tensor;
}

static double bits_a_value(enum page_dtype dtype, int level, int spread) {
    size_t bytes = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct tensor in = gaussian(dtype, spread, 100 + (uint64_t)i);
        bytes += encode(&in, level, 0).length;
    }
    return 8.0 * (double)bytes / (ROUNDS * TOKENS * CHANNELS);
}

/* Entropy of round(N(0, deviation^2) / step). */
static double entropy(double deviation, double step) {
    double bits = 0, scale = 1 / (deviation * sqrt(2));
    for (int q = -2000; q <= 2000; q++) {
        double p = (erfc((q - 0.5) * step * scale) - erfc((q + 0.5) * step * scale)) / 2;
        bits -= p > 1e-12 ? p * log2(p) : 0;
    }
    return bits;
}

static double step_of_level(int level) {
    return 0.05 * exp2(level);
}

/* Everything counted: header, states, side information, the coder's own loss. */
START_TEST(a_level_costs_the_entropy_and_a_fifth_of_a_bit) {
    double expected = entropy(1, step_of_level(_i)), got = bits_a_value(PAGE_F16, _i, 0);
    ck_assert_double_gt(got, expected);
    ck_assert_double_lt(got, expected + 0.2);
}
END_TEST

START_TEST(channels_of_different_deviations_cost_each_their_own) {
    double expected = 0, mean_square = 0;
    for (int c = 0; c < CHANNELS; c++)
        mean_square += exp2(2 * (c % 9 / 4.0 - 1)) / CHANNELS;
    for (int c = 0; c < CHANNELS; c++)
        expected +=
            entropy(exp2(c % 9 / 4.0 - 1), step_of_level(_i) * sqrt(mean_square)) / CHANNELS;
    double got = bits_a_value(PAGE_F16, _i, 1);
    ck_assert_double_gt(got, expected);
    ck_assert_double_lt(got, expected + 0.25);
}
END_TEST

START_TEST(a_levels_rate_is_the_same_in_every_dtype) {
    ck_assert_double_eq_tol(bits_a_value(PAGE_F32, _i, 0), bits_a_value(PAGE_F16, _i, 0), 0.01);
    ck_assert_double_eq_tol(bits_a_value(PAGE_BF16, _i, 0), bits_a_value(PAGE_F16, _i, 0), 0.02);
}
END_TEST

START_TEST(fast8_costs_eight_bits_and_four_bytes_a_channel) {
    struct tensor in = gaussian(all_dtypes[_i], 1, 1);
    struct coded page = encode(&in, PAGE_FAST8, 0);
    ck_assert_uint_eq(page.length, 48 + CHANNELS * (TOKENS + 4));
}
END_TEST

/* An exponent of a Gaussian has 2.5 bits; sign and mantissa have none to spare. */
START_TEST(exact_saves_what_the_exponents_have_to_spare) {
    const double plain[DTYPE_COUNT] = {11, 8, 24};
    double got = bits_a_value(all_dtypes[_i], PAGE_EXACT, 1);
    ck_assert_double_gt(got, plain[_i] + 1.9);
    ck_assert_double_lt(got, plain[_i] + 2.7);
}
END_TEST

START_TEST(one_level_more_is_six_decibels) {
    struct tensor in = gaussian(PAGE_F32, 1, 1);
    struct coded fine = encode(&in, _i, 0), coarse = encode(&in, _i + 1, 0);
    double decibels = 10 * log10(coarse.info.loss.error / fine.info.loss.error);
    ck_assert_double_gt(decibels, 5.3);
    ck_assert_double_lt(decibels, 6.3);
}
END_TEST

START_TEST(noise_never_exceeds_the_bound) {
    for (int i = 0; i < DTYPE_COUNT; i++) {
        struct tensor in = tensor_new(all_dtypes[i], 128, 2, 96);
        uint64_t state = 5;
        for (int finite = 0; finite < 2; finite++) {
            for (size_t b = 0; b < in.bytes; b++)
                ((uint8_t *)in.data)[b] = (uint8_t)(random_bits(&state) & (finite ? 0x3f : 0xff));
            struct coded page = encode(&in, _i, 0); /* which asserts it */
            ck_assert_uint_le(page.length, page_bound_bytes(&in.shape));
        }
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page, rate");
    TCase *tests = tcase_create("rate");
    tcase_set_timeout(tests, 120);
    suite_add_tcase(suite, tests);
    tcase_add_loop_test(tests, a_level_costs_the_entropy_and_a_fifth_of_a_bit, 0,
                        PAGE_LEVEL_MAX + 1);
    tcase_add_loop_test(tests, channels_of_different_deviations_cost_each_their_own, 0,
                        PAGE_LEVEL_MAX + 1);
    tcase_add_loop_test(tests, a_levels_rate_is_the_same_in_every_dtype, 0, PAGE_LEVEL_MAX + 1);
    tcase_add_loop_test(tests, fast8_costs_eight_bits_and_four_bytes_a_channel, 0, DTYPE_COUNT);
    tcase_add_loop_test(tests, exact_saves_what_the_exponents_have_to_spare, 0, DTYPE_COUNT);
    tcase_add_loop_test(tests, one_level_more_is_six_decibels, 0, PAGE_LEVEL_MAX);
    tcase_add_loop_test(tests, noise_never_exceeds_the_bound, PAGE_LEVEL_MIN, PAGE_LEVEL_MAX + 1);
    return run_suite(suite);
}
