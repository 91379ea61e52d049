/* Ageing on the integers: what is left of a page, and what it says of itself. */
#include "tests/unit/test_page_support.h"

static struct coded age(const struct coded *page, int level) {
    struct coded aged = {.bound = page->length};
    aged.bytes = guarded_new(page->length, 1).data;
    ck_assert_int_eq(page_age((struct page_bytes){page->bytes, page->length}, level,
                              dirty_workspace(), aged.bytes, page->length, &aged.length,
                              &aged.info),
                     PAGE_OK);
    ck_assert_uint_le(aged.length, page->length);
    return aged;
}

static double decibels(double energy, double error) {
    return 10 * log10(energy / error);
}

/* Channels of means and deviations of their own, tokens of theirs, and heavier tails than Gaussian
 * ones, as keys and values have. */
static struct tensor realistic(enum page_dtype dtype, uint64_t seed) {
    struct tensor tensor = tensor_new(dtype, 128, 3, 64);
    uint64_t state = seed;
    size_t channels = tensor.strides.token;
    for (size_t c = 0; c < channels; c++) {
        double mean = 2 * random_normal(&state), deviation = exp(0.5 * random_normal(&state));
        for (size_t t = 0; t < 128; t++) {
            double tail = random_unit(&state) < 0.05 ? 2 : 1, token = 1 + 0.5 * (double)(t % 7) / 7;
            set_value(dtype, tensor.data, t * channels + c,
                      mean + deviation * token * tail * random_normal(&state));
        }
    }
    return tensor;
}

static const struct {
    int from, to;
} pairs[] = {{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}, {0, 2}, {1, 3}, {2, 4},
             {3, 5}, {0, 3}, {1, 4}, {2, 5}, {0, 4}, {1, 5}, {0, 5}};
enum { PAIRS = sizeof pairs / sizeof *pairs };

START_TEST(an_aged_page_is_of_the_level_asked_for_and_smaller) {
    struct tensor in = realistic(PAGE_F16, 1);
    struct coded page = encode(&in, pairs[_i].from, 4), aged = age(&page, pairs[_i].to);
    ck_assert_int_eq(aged.info.level, pairs[_i].to);
    ck_assert_uint_lt(aged.length, page.length);
    ck_assert_uint_eq(aged.info.sink_tokens, 4);
    ck_assert(aged.info.estimated);
    ck_assert(!page.info.estimated);
    struct page_info peeked;
    ck_assert_int_eq(page_peek(aged.bytes, aged.length, &peeked), PAGE_OK);
    ck_assert_double_eq(peeked.loss.error, aged.info.loss.error);
}
END_TEST

START_TEST(the_estimated_loss_is_within_a_fifth_of_a_decibel) {
    for (int d = 0; d < DTYPE_COUNT; d++) {
        struct page_loss told = {0}, measured = {0};
        for (uint64_t seed = 20; seed < 24; seed++) {
            struct tensor in = realistic(all_dtypes[d], seed);
            struct coded page = encode(&in, pairs[_i].from, 0), aged = age(&page, pairs[_i].to);
            struct tensor out = decode(&aged);
            struct page_loss loss = measure_loss(&in, &out);
            told.error += aged.info.loss.error, told.energy += aged.info.loss.energy;
            measured.error += loss.error, measured.energy += loss.energy;
        }
        ck_assert_double_eq_tol(decibels(told.energy, told.error),
                                decibels(measured.energy, measured.error), 0.2);
    }
}
END_TEST

/* Where most integers are 0, halving by floor makes some of them -1, a step of its own would have
 * cost less. */
START_TEST(an_aged_page_is_nearly_as_good_and_small_as_a_fresh_one) {
    struct tensor in = realistic(PAGE_F16, 3);
    struct coded page = encode(&in, pairs[_i].from, 0), aged = age(&page, pairs[_i].to);
    struct coded fresh = encode(&in, pairs[_i].to, 0);
    struct tensor out = decode(&aged), out_fresh = decode(&fresh);
    bool coarse = pairs[_i].to == PAGE_LEVEL_MAX;
    double error = measure_loss(&in, &out).error;
    ck_assert_double_lt(error, (coarse ? 1.12 : 1.04) * measure_loss(&in, &out_fresh).error);
    ck_assert_double_lt((double)aged.length, (coarse ? 1.17 : 1.04) * (double)fresh.length);
}
END_TEST

START_TEST(several_levels_at_once_are_the_same_as_one_at_a_time) {
    struct tensor in = realistic(PAGE_BF16, 4);
    struct coded at_once = encode(&in, pairs[_i].from, 2), by_steps = at_once;
    at_once = age(&at_once, pairs[_i].to);
    for (int level = pairs[_i].from; level < pairs[_i].to; level++)
        by_steps = age(&by_steps, level + 1);
    ck_assert_uint_eq(at_once.length, by_steps.length);
    assert_near(at_once.info.loss.error, by_steps.info.loss.error, 1e-3);
    memcpy(at_once.bytes + 32, by_steps.bytes + 32, 4); /* the error, rounded at every step */
    ck_assert_mem_eq(at_once.bytes, by_steps.bytes, at_once.length);
}
END_TEST

START_TEST(exact_tokens_stay_exact) {
    struct tensor in = realistic(PAGE_F16, 5);
    for (size_t c = 0; c < in.strides.token; c++)
        set_value(PAGE_F16, in.data, 70 * in.strides.token + c, c % 2 ? 300 : -300);
    struct coded page = encode(&in, 2, 4), aged = age(&page, 4);
    ck_assert_uint_eq(aged.info.exact_tokens, 5);
    struct tensor out = decode(&aged);
    size_t row = in.strides.token * sizeof(uint16_t);
    ck_assert_mem_eq(out.data, in.data, 4 * row);
    ck_assert_mem_eq((uint8_t *)out.data + 70 * row, (uint8_t *)in.data + 70 * row, row);
}
END_TEST

/* Byte 7 of a page holds its flags, 1 of them being wide rows (FORMAT.md). */
START_TEST(a_page_of_wide_rows_becomes_narrow_when_they_fit) {
    struct tensor in = realistic(PAGE_F16, 6);
    set_value(PAGE_F16, in.data, 777, 60);
    struct coded page = encode(&in, 0, 0), aged = age(&page, 5);
    ck_assert_int_eq(page.bytes[7] & 1, 1);
    ck_assert_int_eq(aged.bytes[7] & 1, 0);
    struct tensor before = decode(&page), after = decode(&aged);
    ck_assert_double_gt(
        decibels(measure_loss(&before, &after).energy, measure_loss(&before, &after).error), 3);
}
END_TEST

START_TEST(pages_of_other_levels_do_not_age) {
    struct tensor in = realistic(PAGE_F16, 7);
    struct coded page = encode(&in, _i, 0);
    struct page_info info;
    size_t written;
    uint8_t *out = keep(page.length);
    for (int level = PAGE_LEVEL_MIN; level <= PAGE_LEVEL_MAX + 1; level++)
        if (_i < 0 || level <= _i || level > PAGE_LEVEL_MAX)
            ck_assert_int_eq(page_age((struct page_bytes){page.bytes, page.length}, level,
                                      dirty_workspace(), out, page.length, &written, &info),
                             PAGE_ARGUMENT);
}
END_TEST

START_TEST(a_page_that_ageing_would_not_make_smaller_is_no_longer_than_before) {
    for (uint32_t tokens = 1; tokens < 6; tokens++)
        for (uint32_t dim = 1; dim < 40; dim += 3) {
            struct tensor in = tensor_random(PAGE_F32, tokens, 40, dim, tokens + dim);
            struct coded page = encode(&in, 0, 0);
            if (page.info.level == 0)
                for (int level = 1; level <= PAGE_LEVEL_MAX; level++) {
                    struct coded aged = age(&page, level);
                    ck_assert_int_eq(aged.info.level, level);
                    (void)decode(&aged);
                }
        }
}
END_TEST

START_TEST(a_damaged_page_does_not_age) {
    struct tensor in = realistic(PAGE_F16, 8);
    struct coded page = encode(&in, 3, 0);
    uint8_t *out = keep(page.length);
    size_t written;
    for (size_t at = 48 + 136; at < page.length; at += 97) {
        page.bytes[at] ^= 0x10;
        int error = page_age((struct page_bytes){page.bytes, page.length}, 4, dirty_workspace(),
                             out, page.length, &written, NULL);
        ck_assert(error == PAGE_DAMAGED ||
                  error == PAGE_OK); /* a low bit is a value like another */
        page.bytes[at] ^= 0x10;
    }
    page.bytes[48] ^= 1; /* a state */
    ck_assert_int_eq(page_age((struct page_bytes){page.bytes, page.length}, 4, dirty_workspace(),
                              out, page.length, &written, NULL),
                     PAGE_DAMAGED);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page, aged");
    TCase *tests = tcase_create("age");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, an_aged_page_is_of_the_level_asked_for_and_smaller, 0, PAIRS);
    tcase_add_loop_test(tests, the_estimated_loss_is_within_a_fifth_of_a_decibel, 0, PAIRS);
    tcase_add_loop_test(tests, an_aged_page_is_nearly_as_good_and_small_as_a_fresh_one, 0, PAIRS);
    tcase_add_loop_test(tests, several_levels_at_once_are_the_same_as_one_at_a_time, 0, PAIRS);
    tcase_add_test(tests, exact_tokens_stay_exact);
    tcase_add_test(tests, a_page_of_wide_rows_becomes_narrow_when_they_fit);
    tcase_add_loop_test(tests, pages_of_other_levels_do_not_age, PAGE_LEVEL_MIN,
                        PAGE_LEVEL_MAX + 1);
    tcase_add_test(tests, a_page_that_ageing_would_not_make_smaller_is_no_longer_than_before);
    tcase_add_test(tests, a_damaged_page_does_not_age);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
