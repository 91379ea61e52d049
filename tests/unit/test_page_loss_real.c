/* What pages say of their loss, on keys and values of a real model (tests/samples). */
#include "tests/unit/test_page_support.h"

#include <stdio.h>

static struct tensor sample_of(enum page_part part) {
    struct tensor in = tensor_new(PAGE_F16, 128, 3, 64);
    FILE *file = fopen("tests/samples/smollm2-layer12.f16", "rb");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fseek(file, part == PAGE_V ? (long)in.bytes : 0, SEEK_SET), 0);
    ck_assert_uint_eq(fread(in.data, 1, in.bytes, file), in.bytes);
    fclose(file);
    return in;
}

static struct tensor as_dtype(const struct tensor *in, enum page_dtype dtype) {
    struct tensor out = tensor_new(dtype, in->shape.tokens, in->shape.heads, in->shape.head_dim);
    for (size_t i = 0; i < in->values; i++)
        set_value(dtype, out.data, i, tensor_at(in, i));
    return out;
}

START_TEST(the_loss_of_coding_is_told_to_a_twentieth_of_a_decibel) {
    for (int part = PAGE_K; part <= PAGE_V; part++)
        for (int i = 0; i < DTYPE_COUNT; i++) {
            struct tensor sample = sample_of((enum page_part)part);
            struct tensor in = as_dtype(&sample, all_dtypes[i]);
            struct coded page = encode_part(&in, (enum page_part)part, _i, 4);
            struct tensor out = decode_as(&page, PAGE_F32, 0, 128);
            double error = measure_loss(&in, &out).error;
            ck_assert_int_eq(page.info.level, _i);
            ck_assert_double_eq_tol(10 * log10(page.info.loss.error / error), 0, 0.05);
        }
}
END_TEST

/* By how many decibels the loss that an aged page tells is that which it has. */
static double told_beyond_measured(enum page_part part, int from, int to) {
    struct tensor in = sample_of(part);
    struct coded page = encode_part(&in, part, from, 0), aged = {.bound = page.length};
    aged.bytes = guarded_new(page.length, 1).data;
    ck_assert_int_eq(page.info.level, from);
    ck_assert_int_eq(page_age((struct page_bytes){page.bytes, page.length}, to, dirty_workspace(),
                              aged.bytes, page.length, &aged.length, &aged.info),
                     PAGE_OK);
    ck_assert(aged.info.estimated);
    struct tensor out = decode(&aged);
    return 10 * log10(aged.info.loss.error / measure_loss(&in, &out).error);
}

START_TEST(the_loss_of_a_level_is_told_to_a_fifth_of_a_decibel) {
    ck_assert_double_eq_tol(told_beyond_measured(PAGE_K, _i, _i + 1), 0, 0.2);
    ck_assert_double_eq_tol(told_beyond_measured(PAGE_V, _i, _i + 1), 0, 0.2);
}
END_TEST

/* Each halving but the first starts from an estimate. */
START_TEST(the_loss_of_several_levels_at_once_is_told_to_a_half) {
    for (int to = _i + 2; to <= PAGE_LEVEL_MAX; to++) {
        ck_assert_double_eq_tol(told_beyond_measured(PAGE_K, _i, to), 0, 0.5);
        ck_assert_double_eq_tol(told_beyond_measured(PAGE_V, _i, to), 0, 0.5);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page, losses of real ones");
    TCase *tests = tcase_create("real");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, the_loss_of_coding_is_told_to_a_twentieth_of_a_decibel, PAGE_FAST8,
                        PAGE_LEVEL_MAX + 1);
    tcase_add_loop_test(tests, the_loss_of_a_level_is_told_to_a_fifth_of_a_decibel, 0,
                        PAGE_LEVEL_MAX);
    tcase_add_loop_test(tests, the_loss_of_several_levels_at_once_is_told_to_a_half, 0,
                        PAGE_LEVEL_MAX - 1);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
