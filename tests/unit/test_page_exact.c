/* Pages that are exact, by request or because a lossy level could not serve. */
#include "tests/unit/test_page_support.h"

static const int lossy_levels[] = {PAGE_FAST8, 0, 1, 2, 3, 4, 5};
enum { LOSSY_COUNT = 7 };

static void assert_comes_back_whole(const struct tensor *in, int level) {
    for (uint32_t sinks = 0; sinks <= 4; sinks += 4) {
        struct coded page = encode(in, level, sinks);
        ck_assert_int_eq(page.info.level, PAGE_EXACT);
        ck_assert_double_eq(page.info.loss.error, 0);
        struct tensor out = decode(&page);
        ck_assert_mem_eq(in->data, out.data, in->bytes);
    }
}

static void fill_with_random_bits(struct tensor *tensor, uint64_t seed) {
    for (size_t i = 0; i < tensor->bytes; i++)
        ((uint8_t *)tensor->data)[i] = (uint8_t)random_bits(&seed);
}

START_TEST(any_bits_come_back) {
    struct tensor in = tensor_new(all_dtypes[_i], 128, 2, 40);
    fill_with_random_bits(&in, 1);
    assert_comes_back_whole(&in, PAGE_EXACT);
}
END_TEST

/* 65536 values: with 16 bits, every number there is. */
START_TEST(every_16_bit_number_comes_back) {
    struct tensor in = tensor_new(all_dtypes[_i], 128, 8, 64);
    for (size_t i = 0; i < in.values; i++)
        ((uint16_t *)in.data)[i] = (uint16_t)i;
    assert_comes_back_whole(&in, PAGE_EXACT);
}
END_TEST

static void set_bits(struct tensor *tensor, size_t i, uint32_t single) {
    if (tensor->shape.dtype == PAGE_F32)
        memcpy((uint8_t *)tensor->data + 4 * i, &single, 4);
    else if (tensor->shape.dtype == PAGE_BF16)
        ((uint16_t *)tensor->data)[i] = (uint16_t)(single >> 16);
    else /* the same sign, kind and leading mantissa bits */
        ((uint16_t *)tensor->data)[i] =
            (uint16_t)((single >> 16 & 0x8000) | (single >> 23 & 255 ? 0x7c00 : 0) |
                       (single >> 13 & 0x3ff));
}

/* Quiet and signalling NaNs with payloads, infinities, signed zeros, subnormals. */
static const uint32_t odd_numbers[] = {0x7fc12345, 0xffc00001, 0x7fa54321, 0x7f800000, 0xff800000,
                                       0x80000000, 0x00000000, 0x00412345, 0x807fffff};
enum { ODD_COUNT = sizeof odd_numbers / sizeof *odd_numbers };

START_TEST(odd_numbers_among_others_come_back) {
    struct tensor in = tensor_random(all_dtypes[_i], 128, 2, 64, 2);
    for (size_t i = 0; i < 500; i++)
        set_bits(&in, i * 31, odd_numbers[i % ODD_COUNT]);
    assert_comes_back_whole(&in, PAGE_EXACT);
}
END_TEST

START_TEST(a_lossy_page_with_a_nan_or_an_infinity_is_exact) {
    enum page_dtype dtype = all_dtypes[_i / LOSSY_COUNT];
    for (int odd = 0; odd < 5; odd++) {
        struct tensor in = tensor_random(dtype, 64, 2, 64, 3);
        set_bits(&in, 128 * 40 + 77, odd_numbers[odd]);
        assert_comes_back_whole(&in, lossy_levels[_i % LOSSY_COUNT]);
    }
}
END_TEST

START_TEST(a_nan_in_a_sink_leaves_the_rest_lossy) {
    struct tensor in = tensor_random(all_dtypes[_i / LOSSY_COUNT], 64, 2, 64, 3);
    set_bits(&in, 5, odd_numbers[0]);
    set_bits(&in, 6, odd_numbers[3]);
    struct coded page = encode(&in, lossy_levels[_i % LOSSY_COUNT], 1);
    ck_assert_int_eq(page.info.level, lossy_levels[_i % LOSSY_COUNT]);
    struct tensor out = decode(&page);
    ck_assert_mem_eq(in.data, out.data, in.bytes / 64);
}
END_TEST

START_TEST(nans_stay_nans_in_another_dtype) {
    struct tensor in = tensor_random(all_dtypes[_i / DTYPE_COUNT], 16, 1, 16, 4);
    for (size_t i = 0; i < ODD_COUNT; i++)
        set_bits(&in, 100 + i, odd_numbers[i]);
    struct coded page = encode(&in, PAGE_EXACT, 0);
    struct tensor out = decode_as(&page, all_dtypes[_i % DTYPE_COUNT], 0, 16);
    for (size_t i = 0; i < in.values; i++) {
        double x = tensor_at(&in, i), y = tensor_at(&out, i);
        ck_assert_int_eq(isnan(x) != 0, isnan(y) != 0);
        if (isinf(x))
            ck_assert_double_eq(x, y);
    }
}
END_TEST

START_TEST(all_zero_takes_next_to_nothing) {
    struct tensor in = tensor_new(all_dtypes[_i / LOSSY_COUNT], 128, 4, 64);
    struct coded page = encode(&in, lossy_levels[_i % LOSSY_COUNT], 0);
    struct tensor out = decode(&page);
    ck_assert_mem_eq(in.data, out.data, in.bytes);
    if (lossy_levels[_i % LOSSY_COUNT] != PAGE_FAST8)
        ck_assert_uint_lt(page.length, 500);
}
END_TEST

/* Equal values in a channel need no bits but the channel's own; what they lose is reported. */
START_TEST(equal_values_come_back_near) {
    struct tensor in = tensor_new(all_dtypes[_i / LOSSY_COUNT], 128, 2, 64);
    for (size_t i = 0; i < in.values; i++)
        set_value(in.shape.dtype, in.data, i, -3.25);
    struct coded page = encode(&in, lossy_levels[_i % LOSSY_COUNT], 0);
    struct tensor out = decode_as(&page, PAGE_F32, 0, 128);
    struct page_loss loss = measure_loss(&in, &out);
    double step = ldexp(0.05 * 3.25, lossy_levels[_i % LOSSY_COUNT]); /* at most */
    ck_assert_double_eq_tol(sqrt(page.info.loss.error), sqrt(loss.error),
                            sqrt((double)in.values) * step / 512);
    ck_assert_double_le(loss.error, loss.energy);
}
END_TEST

START_TEST(a_huge_outlier_spoils_no_more_than_the_report_says) {
    struct tensor in = tensor_random(all_dtypes[_i / LOSSY_COUNT], 128, 2, 64, 5);
    set_value(in.shape.dtype, in.data, 64 * 128 + 7, 60000);
    struct coded page = encode(&in, lossy_levels[_i % LOSSY_COUNT], 4);
    struct tensor out = decode_as(&page, PAGE_F32, 0, 128);
    assert_near(page.info.loss.error, measure_loss(&in, &out).error, 0.01);
    ck_assert_double_lt(fabs(tensor_at(&out, 64 * 128 + 7) - 60000), 1200 * 60);
}
END_TEST

/* Squares of such floats vanish: a lossy level has no measure for them. */
START_TEST(subnormal_floats_are_exact) {
    for (int wide = 1; wide < DTYPE_COUNT; wide++) {
        struct tensor in = tensor_new(all_dtypes[wide], 64, 1, 64);
        uint64_t state = 6;
        for (size_t i = 0; i < in.values; i++)
            set_bits(&in, i, (uint32_t)random_bits(&state) & 0x807fffff);
        assert_comes_back_whole(&in, lossy_levels[_i]);
    }
}
END_TEST

START_TEST(subnormal_halves_are_values_like_others) {
    struct tensor in = tensor_new(PAGE_F16, 128, 2, 64);
    uint64_t state = 7;
    for (size_t i = 0; i < in.values; i++)
        set_value(PAGE_F16, in.data, i, ldexp(random_normal(&state), -17));
    struct coded page = encode(&in, lossy_levels[_i], 0);
    struct tensor out = decode(&page);
    struct page_loss loss = measure_loss(&in, &out);
    ck_assert_int_eq(page.info.level, lossy_levels[_i]);
    ck_assert_double_lt(loss.error, loss.energy / 2);
    assert_loss_is_told(&in, &page);
}
END_TEST

START_TEST(floats_whose_squares_overflow_are_exact) {
    struct tensor in = tensor_new(PAGE_F32, 64, 1, 64);
    uint64_t state = 8;
    for (size_t i = 0; i < in.values; i++)
        set_value(PAGE_F32, in.data, i, 1e30 * random_normal(&state));
    assert_comes_back_whole(&in, lossy_levels[_i]);
}
END_TEST

/* One channel far from 0 and never changing, the others faint: no unit for both means. What the
 * rounding of floats gives back by chance is not told. */
START_TEST(means_beyond_all_measure_are_survived) {
    struct tensor in = tensor_new(PAGE_F32, 64, 1, 64);
    uint64_t state = 9;
    for (size_t i = 0; i < in.values; i++)
        set_value(PAGE_F32, in.data, i, i % 64 == 3 ? 1e18 : 1e-10 * random_normal(&state));
    struct coded page = encode(&in, lossy_levels[_i], 0);
    struct tensor out = decode(&page);
    ck_assert_double_ge(page.info.loss.error, 0.99 * measure_loss(&in, &out).error);
}
END_TEST

/* Of few tokens a channel's own numbers cost more than they save. */
START_TEST(a_page_that_a_level_would_enlarge_is_exact) {
    struct tensor in = tensor_random(PAGE_F16, 1, 3, 64, 10);
    struct coded page = encode(&in, PAGE_FAST8, 0);
    ck_assert_int_eq(page.info.level, PAGE_EXACT);
    struct coded exact = encode(&in, PAGE_EXACT, 0);
    ck_assert_uint_eq(page.length, exact.length);
    ck_assert_mem_eq(page.bytes, exact.bytes, exact.length);
}
END_TEST

START_TEST(a_lossy_page_is_never_larger_than_the_exact_one) {
    int level = lossy_levels[_i % LOSSY_COUNT];
    uint64_t state = 11;
    for (uint32_t tokens = 1; tokens <= 128; tokens += 1 + tokens / 3) {
        struct tensor in = tensor_new(all_dtypes[_i / LOSSY_COUNT], tokens, 1, 64);
        for (size_t i = 0; i < in.values; i++) /* few exponents: cheap to keep exactly */
            set_value(in.shape.dtype, in.data, i, 1 + random_unit(&state));
        struct coded page = encode(&in, level, 0), exact = encode(&in, PAGE_EXACT, 0);
        ck_assert_uint_le(page.length, exact.length);
    }
}
END_TEST

static TCase *case_of(Suite *suite, const char *name) {
    TCase *tests = tcase_create(name);
    tcase_set_timeout(tests, 120);
    suite_add_tcase(suite, tests);
    return tests;
}

int main(void) {
    enum { ALL_LOSSY = DTYPE_COUNT * LOSSY_COUNT };
    Suite *suite = suite_create("page, exact");
    TCase *bits = case_of(suite, "bit for bit");
    tcase_add_loop_test(bits, any_bits_come_back, 0, DTYPE_COUNT);
    tcase_add_loop_test(bits, every_16_bit_number_comes_back, 0, 2);
    tcase_add_loop_test(bits, odd_numbers_among_others_come_back, 0, DTYPE_COUNT);
    tcase_add_loop_test(bits, nans_stay_nans_in_another_dtype, 0, DTYPE_COUNT * DTYPE_COUNT);
    TCase *refused = case_of(suite, "not for a lossy level");
    tcase_add_loop_test(refused, a_lossy_page_with_a_nan_or_an_infinity_is_exact, 0, ALL_LOSSY);
    tcase_add_loop_test(refused, a_nan_in_a_sink_leaves_the_rest_lossy, 0, ALL_LOSSY);
    tcase_add_loop_test(refused, subnormal_floats_are_exact, 0, LOSSY_COUNT);
    tcase_add_loop_test(refused, floats_whose_squares_overflow_are_exact, 0, LOSSY_COUNT);
    tcase_add_test(refused, a_page_that_a_level_would_enlarge_is_exact);
    tcase_add_loop_test(refused, a_lossy_page_is_never_larger_than_the_exact_one, 0, ALL_LOSSY);
    TCase *extremes = case_of(suite, "extremes of a lossy level");
    tcase_add_loop_test(extremes, all_zero_takes_next_to_nothing, 0, ALL_LOSSY);
    tcase_add_loop_test(extremes, equal_values_come_back_near, 0, ALL_LOSSY);
    tcase_add_loop_test(extremes, a_huge_outlier_spoils_no_more_than_the_report_says, 0, ALL_LOSSY);
    tcase_add_loop_test(extremes, subnormal_halves_are_values_like_others, 0, LOSSY_COUNT);
    tcase_add_loop_test(extremes, means_beyond_all_measure_are_survived, 0, LOSSY_COUNT);
    return run_suite(suite);
}
