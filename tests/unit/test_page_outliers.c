/* Tokens that stand out are kept exact, however few there are beside them. */
#include "tests/unit/test_page_support.h"

enum { LEVEL = 3 };

static struct tensor with_far_tokens(uint32_t tokens, uint32_t first, uint32_t count) {
    struct tensor in = tensor_random(PAGE_F16, tokens, 2, 64, tokens);
    for (size_t t = first; t < first + count; t++)
        for (size_t c = 0; c < in.strides.token; c++)
            set_value(PAGE_F16, in.data, t * in.strides.token + c, (c + t) % 2 ? 300 : -300);
    return in;
}

static void assert_kept(const struct tensor *in, uint32_t first, uint32_t count) {
    struct coded page = encode(in, LEVEL, 0);
    struct tensor out = decode(&page);
    size_t row = in->strides.token * sizeof(uint16_t);
    ck_assert_int_eq(page.info.level, LEVEL);
    ck_assert_uint_eq(page.info.exact_tokens, count);
    ck_assert_mem_eq((uint8_t *)out.data + first * row, (uint8_t *)in->data + first * row,
                     count * row);
}

START_TEST(one_token_that_stands_out_of_few_is_exact) {
    struct tensor in = with_far_tokens((uint32_t)_i, 3, 1);
    assert_kept(&in, 3, 1);
}
END_TEST

START_TEST(tokens_that_stand_out_do_not_hide_each_other) {
    struct tensor in = with_far_tokens(24, 3, (uint32_t)_i);
    assert_kept(&in, 3, (uint32_t)_i);
}
END_TEST

START_TEST(ordinary_tokens_are_not_kept_exact) {
    struct tensor in = tensor_random(PAGE_F16, (uint32_t)_i, 2, 64, 1);
    struct coded page = encode(&in, LEVEL, 0);
    ck_assert_uint_eq(page.info.exact_tokens, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page, tokens that stand out");
    TCase *tests = tcase_create("outliers");
    tcase_add_loop_test(tests, one_token_that_stands_out_of_few_is_exact, 6, 20);
    tcase_add_loop_test(tests, tokens_that_stand_out_do_not_hide_each_other, 1, 5);
    tcase_add_loop_test(tests, ordinary_tokens_are_not_kept_exact, 1, 129);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
