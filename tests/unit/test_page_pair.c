/* Two pages decoded at once: what each gives by itself. */
#include "tests/unit/test_page_support.h"

struct half {
    struct tensor in, alone, together;
    struct coded page;
};

static struct half half_of(struct tensor in, enum page_part part, int level, uint32_t sinks) {
    struct half half = {.in = in, .page = encode_part(&in, part, level, sinks)};
    half.alone = decode(&half.page);
    half.together = tensor_new(in.shape.dtype, in.shape.tokens, in.shape.heads, in.shape.head_dim);
    return half;
}

static struct page_target target_of(struct half *half) {
    return (struct page_target){.tokens = half->in.shape.tokens,
                                .dtype = half->in.shape.dtype,
                                .values = half->together.data,
                                .strides = half->together.strides};
}

static int decode_both(struct half *k, struct half *v) {
    struct page_bytes pages[2] = {{k->page.bytes, k->page.length}, {v->page.bytes, v->page.length}};
    struct page_target targets[2] = {target_of(k), target_of(v)};
    return page_decode_pair(pages, targets, dirty_workspace());
}

static void assert_same_as_alone(struct half *k, struct half *v) {
    ck_assert_int_eq(decode_both(k, v), PAGE_OK);
    ck_assert_mem_eq(k->together.data, k->alone.data, k->in.bytes);
    ck_assert_mem_eq(v->together.data, v->alone.data, v->in.bytes);
}

static int level_of(int i) {
    return PAGE_LEVEL_MIN + i;
}

START_TEST(a_pair_gives_what_its_pages_give_alone) {
    for (int d = 0; d < DTYPE_COUNT; d++) {
        struct half k =
            half_of(tensor_random(all_dtypes[d], 128, 3, 64, 1), PAGE_K, level_of(_i), 4);
        struct half v =
            half_of(tensor_random(all_dtypes[d], 128, 3, 64, 2), PAGE_V, level_of(_i), 4);
        assert_same_as_alone(&k, &v);
    }
}
END_TEST

START_TEST(pages_of_a_pair_may_have_nothing_in_common) {
    struct half k = half_of(tensor_random(PAGE_F16, 128, 3, 64, 3), PAGE_K, level_of(_i), 4);
    for (int other = PAGE_LEVEL_MIN; other <= PAGE_LEVEL_MAX; other++) {
        struct half v = half_of(tensor_random(PAGE_F32, 77, 2, 40, 4), PAGE_V, other, 0);
        assert_same_as_alone(&k, &v);
        assert_same_as_alone(&v, &k);
    }
}
END_TEST

START_TEST(one_may_have_kept_more_tokens_exact_than_the_other) {
    struct tensor in = tensor_random(PAGE_F16, 128, 2, 64, 5);
    for (size_t c = 0; c < in.strides.token; c++)
        set_value(PAGE_F16, in.data, 70 * in.strides.token + c, c % 2 ? 300 : -300);
    struct half k = half_of(in, PAGE_K, 3, 0);
    struct half v = half_of(tensor_random(PAGE_F16, 128, 2, 64, 6), PAGE_V, 3, 0);
    ck_assert_uint_gt(k.page.info.exact_tokens, v.page.info.exact_tokens);
    assert_same_as_alone(&k, &v);
}
END_TEST

START_TEST(a_damaged_page_of_a_pair_is_told) {
    struct half k = half_of(tensor_random(PAGE_F16, 128, 2, 64, 7), PAGE_K, level_of(_i), 0);
    struct half v = half_of(tensor_random(PAGE_F16, 128, 2, 64, 8), PAGE_V, level_of(_i), 0);
    v.page.length--;
    ck_assert_int_eq(decode_both(&k, &v), PAGE_DAMAGED);
    ck_assert_int_eq(decode_both(&v, &k), PAGE_DAMAGED);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page pair");
    TCase *tests = tcase_create("pair");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, a_pair_gives_what_its_pages_give_alone, 0, LEVEL_COUNT);
    tcase_add_loop_test(tests, pages_of_a_pair_may_have_nothing_in_common, 0, LEVEL_COUNT);
    tcase_add_test(tests, one_may_have_kept_more_tokens_exact_than_the_other);
    tcase_add_loop_test(tests, a_damaged_page_of_a_pair_is_told, 0, LEVEL_COUNT);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
