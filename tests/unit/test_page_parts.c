/* Every byte of a page is some part's. */
#include "proto/page/parts.h"
#include "tests/unit/test_page_support.h"

enum { TOKENS = 100, CHANNELS = 3 * 40, SINKS = 4 };

static size_t sum_of(const struct page_parts *parts) {
    return parts->header + parts->exact_tokens + parts->stream_header + parts->scales +
           parts->means + parts->classes + parts->symbols + parts->planes + parts->escapes;
}

static struct page_parts parts_of(const struct coded *page) {
    struct page_parts parts;
    ck_assert_int_eq(page_parts(page->bytes, page->length, dirty_workspace(), &parts), PAGE_OK);
    return parts;
}

static struct coded page_of_level(enum page_dtype dtype, int level) {
    struct tensor in = tensor_random(dtype, TOKENS, 3, 40, 7);
    return encode(&in, level, SINKS);
}

START_TEST(the_parts_of_a_page_are_its_length) {
    enum page_dtype dtype = all_dtypes[_i / LEVEL_COUNT];
    struct coded page = page_of_level(dtype, PAGE_LEVEL_MIN + _i % LEVEL_COUNT);
    struct page_parts parts = parts_of(&page);
    ck_assert_uint_eq(sum_of(&parts), page.length);
    ck_assert_uint_eq(parts.header, 48 + page.info.exact_tokens);
    ck_assert_uint_eq(parts.exact_tokens, page.info.sink_bytes);
}
END_TEST

START_TEST(a_levels_page_has_scales_of_tokens_means_of_channels_and_symbols) {
    struct coded page = page_of_level(PAGE_F16, 3);
    struct page_parts parts = parts_of(&page);
    ck_assert_uint_eq(parts.stream_header, 136);
    ck_assert_uint_lt(parts.scales, TOKENS);
    ck_assert_uint_gt(parts.classes, 0);
    ck_assert_uint_gt(parts.means, CHANNELS / 2);
    ck_assert_uint_lt(parts.means, 2 * CHANNELS);
    ck_assert_uint_gt(parts.symbols, page.length / 2);
}
END_TEST

START_TEST(at_fast8_a_channel_has_a_scale_and_a_base_and_a_value_a_byte) {
    struct coded page = page_of_level(PAGE_F16, PAGE_FAST8);
    struct page_parts parts = parts_of(&page);
    ck_assert_uint_eq(parts.scales, 2 * CHANNELS);
    ck_assert_uint_eq(parts.means, 2 * CHANNELS);
    ck_assert_uint_eq(parts.planes, CHANNELS * (TOKENS - SINKS));
    ck_assert_uint_eq(parts.symbols + parts.classes + parts.escapes + parts.stream_header, 0);
}
END_TEST

START_TEST(at_exact_mantissas_pass_by_the_entropy_coder) {
    struct coded page = page_of_level(PAGE_BF16, PAGE_EXACT);
    struct page_parts parts = parts_of(&page);
    ck_assert_uint_ge(parts.planes, CHANNELS * (TOKENS - SINKS) * 7 / 8);
    ck_assert_uint_gt(parts.symbols, 0);
    ck_assert_uint_eq(parts.scales, 0);
}
END_TEST

START_TEST(a_page_that_is_cut_off_has_no_parts) {
    struct coded page = page_of_level(PAGE_F16, 3);
    struct page_parts parts;
    ck_assert_int_eq(page_parts(page.bytes, page.length - 1, dirty_workspace(), &parts),
                     PAGE_DAMAGED);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page parts");
    TCase *tests = tcase_create("parts");
    tcase_add_loop_test(tests, the_parts_of_a_page_are_its_length, 0, DTYPE_COUNT * LEVEL_COUNT);
    tcase_add_test(tests, a_levels_page_has_scales_of_tokens_means_of_channels_and_symbols);
    tcase_add_test(tests, at_fast8_a_channel_has_a_scale_and_a_base_and_a_value_a_byte);
    tcase_add_test(tests, at_exact_mantissas_pass_by_the_entropy_coder);
    tcase_add_test(tests, a_page_that_is_cut_off_has_no_parts);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
