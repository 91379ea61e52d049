/* A loss asked for instead of a level. */
#include "tests/unit/test_page_support.h"

static double decibels(const struct page_loss *loss) {
    return loss->error > 0 ? 10 * log10(loss->energy / loss->error) : INFINITY;
}

static struct coded encode_wanted(const struct tensor *in, int level, double snr_db) {
    struct coded page = {.bound = page_bound_bytes(&in->shape)};
    page.bytes = guarded_new(page.bound, 1).data;
    struct page_source source = {.shape = in->shape,
                                 .level = level,
                                 .snr_db = snr_db,
                                 .values = in->data,
                                 .strides = in->strides};
    ck_assert_int_eq(
        page_encode(&source, dirty_workspace(), page.bytes, page.bound, &page.length, &page.info),
        PAGE_OK);
    return page;
}

START_TEST(a_page_has_the_decibels_asked_for) {
    struct tensor in = tensor_random(all_dtypes[_i % DTYPE_COUNT], 128, 3, 64, (uint64_t)_i);
    struct coded page = encode_wanted(&in, PAGE_LEVEL_MAX, 3 * _i);
    struct tensor out = decode(&page);
    struct page_loss loss = measure_loss(&in, &out);
    ck_assert_double_ge(decibels(&loss), 3 * _i);
}
END_TEST

START_TEST(no_coarser_level_has_them) {
    struct tensor in = tensor_random(PAGE_F16, 128, 3, 64, (uint64_t)_i);
    int level = encode_wanted(&in, PAGE_LEVEL_MAX, 3 * _i).info.level;
    for (int coarser = PAGE_LEVEL_MAX; coarser > level && coarser >= 0; coarser--) {
        struct coded page = encode(&in, coarser, 0);
        ck_assert_double_lt(decibels(&page.info.loss), 3 * _i);
    }
}
END_TEST

START_TEST(the_level_asked_for_is_the_coarsest_that_may_be_taken) {
    struct tensor in = tensor_random(PAGE_F16, 128, 3, 64, 1);
    ck_assert_int_eq(encode_wanted(&in, _i, 1).info.level, _i);
    ck_assert_int_eq(encode_wanted(&in, _i, 90).info.level, PAGE_EXACT);
}
END_TEST

START_TEST(fast8_stands_between_the_finest_step_and_exact) {
    struct tensor in = tensor_random(PAGE_F16, 128, 3, 64, 1);
    struct coded finest = encode(&in, 0, 0), fast8 = encode(&in, PAGE_FAST8, 0);
    double between = (decibels(&finest.info.loss) + decibels(&fast8.info.loss)) / 2;
    struct coded page = encode_wanted(&in, PAGE_LEVEL_MAX, between);
    ck_assert_int_eq(page.info.level, PAGE_FAST8);
    ck_assert_uint_lt(page.length, encode(&in, PAGE_EXACT, 0).length);
}
END_TEST

int main(void) {
    enum { STEPS = 20 }; /* of 3 dB */
    Suite *suite = suite_create("page, loss wanted");
    TCase *tests = tcase_create("wanted");
    suite_add_tcase(suite, tests);
    tcase_add_loop_test(tests, a_page_has_the_decibels_asked_for, 1, STEPS);
    tcase_add_loop_test(tests, no_coarser_level_has_them, 1, STEPS);
    tcase_add_test(tests, fast8_stands_between_the_finest_step_and_exact);
    tcase_add_loop_test(tests, the_level_asked_for_is_the_coarsest_that_may_be_taken,
                        PAGE_LEVEL_MIN, PAGE_LEVEL_MAX + 1);
    return run_suite(suite);
}
