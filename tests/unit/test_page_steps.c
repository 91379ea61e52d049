/* Where an encoder spends its precision: between tokens, K and V, and layers. */
#include "tests/unit/test_page_support.h"

enum { TOKENS = 128, CHANNELS = 192, LOUD_TOKEN = 50, LEVEL = 3 };

/* Gaussian, one token three times as loud as the others. */
static struct tensor with_a_loud_token(void) {
    struct tensor tensor = tensor_new(PAGE_F32, TOKENS, 3, 64);
    uint64_t state = 1;
    for (size_t i = 0; i < tensor.values; i++) {
        double loudness = i / CHANNELS == LOUD_TOKEN ? 3 : 1;
        set_value(PAGE_F32, tensor.data, i, loudness * random_normal(&state));
    }
    return tensor;
}

/* How many times the error of the loud token is that of the median one, as amplitudes. */
static double error_of_the_loud_token(enum page_part part) {
    struct tensor in = with_a_loud_token();
    struct coded page = encode_part(&in, part, LEVEL, 0);
    struct tensor out = decode(&page);
    ck_assert_uint_eq(page.info.exact_tokens, 0);
    double loud = 0, others = 0;
    for (size_t i = 0; i < in.values; i++) {
        double error = tensor_at(&in, i) - tensor_at(&out, i);
        *(i / CHANNELS == LOUD_TOKEN ? &loud : &others) += error * error;
    }
    return sqrt(loud * (TOKENS - 1) / others);
}

START_TEST(a_loud_keys_error_is_hardly_larger_than_a_quiet_ones) {
    double times = error_of_the_loud_token(PAGE_K); /* 3^0.25 = 1.3, in quarter octaves */
    ck_assert_double_gt(times, 1.1);
    ck_assert_double_lt(times, 1.6);
}
END_TEST

START_TEST(a_loud_values_error_grows_by_more_than_its_loudness) {
    double times = error_of_the_loud_token(PAGE_V); /* 3^1.25 = 3.9 */
    ck_assert_double_gt(times, 3.2);
    ck_assert_double_lt(times, 4.6);
}
END_TEST

static double error_in_layer(enum page_part part, uint32_t layer, uint32_t layers) {
    struct tensor in = tensor_random(PAGE_F32, TOKENS, 3, 64, 1);
    struct coded page = {.bound = page_bound_bytes(&in.shape)};
    page.bytes = keep(page.bound);
    struct page_source source = {.shape = in.shape,
                                 .part = part,
                                 .level = LEVEL,
                                 .values = in.data,
                                 .strides = in.strides,
                                 .layer = layer,
                                 .layers = layers};
    ck_assert_int_eq(
        page_encode(&source, dirty_workspace(), page.bytes, page.bound, &page.length, &page.info),
        PAGE_OK);
    return sqrt(page.info.loss.error);
}

START_TEST(values_are_coarser_the_later_their_layer) {
    double last = 0;
    for (uint32_t layer = 0; layer < 8; layer += 2) {
        double error = error_in_layer(PAGE_V, layer, 8);
        ck_assert_double_gt(error, 1.1 * last);
        last = error;
    }
    ck_assert_double_lt(last, 2 * error_in_layer(PAGE_V, 0, 8));
}
END_TEST

START_TEST(keys_are_as_fine_in_every_layer) {
    for (uint32_t layer = 0; layer < 8; layer++)
        ck_assert_double_eq(error_in_layer(PAGE_K, layer, 8), error_in_layer(PAGE_K, 0, 0));
}
END_TEST

START_TEST(an_unknown_layer_is_coded_like_the_middle) {
    double unknown = error_in_layer(PAGE_V, 0, 0);
    ck_assert_double_gt(unknown, error_in_layer(PAGE_V, 3, 8));
    ck_assert_double_lt(unknown, error_in_layer(PAGE_V, 4, 8));
    ck_assert_double_eq(unknown, error_in_layer(PAGE_V, 8, 8)); /* none of eight */
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page, steps");
    TCase *tests = tcase_create("steps");
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, a_loud_keys_error_is_hardly_larger_than_a_quiet_ones);
    tcase_add_test(tests, a_loud_values_error_grows_by_more_than_its_loudness);
    tcase_add_test(tests, values_are_coarser_the_later_their_layer);
    tcase_add_test(tests, keys_are_as_fine_in_every_layer);
    tcase_add_test(tests, an_unknown_layer_is_coded_like_the_middle);
    return run_suite(suite);
}
