/* Two pages made coarser at once: what becomes of each by itself. */
#include "tests/unit/test_page_support.h"

struct aged {
    uint8_t *bytes;
    size_t length;
    struct page_info info;
};

static struct page_bytes bytes_of(const struct coded *page) {
    return (struct page_bytes){page->bytes, page->length};
}

static struct aged age_alone(const struct coded *page, int level) {
    struct aged aged = {.bytes = guarded_new(page->length, 1).data};
    ck_assert_int_eq(page_age(bytes_of(page), level, dirty_workspace(), aged.bytes, page->length,
                              &aged.length, &aged.info),
                     PAGE_OK);
    return aged;
}

static int age_both(const struct coded *k, const struct coded *v, int level, struct aged aged[2]) {
    struct page_bytes pages[2] = {bytes_of(k), bytes_of(v)};
    void *outs[2] = {guarded_new(k->length, 1).data, guarded_new(v->length, 1).data};
    size_t written[2] = {0}, out_bytes[2] = {k->length, v->length};
    struct page_info info[2];
    int error = page_age_pair(pages, level, dirty_workspace(), outs, out_bytes, written, info);
    for (int i = 0; i < 2; i++)
        aged[i] = (struct aged){outs[i], written[i], info[i]};
    return error;
}

static void assert_same_as_alone(const struct coded *k, const struct coded *v, int level) {
    struct aged both[2], alone[2] = {age_alone(k, level), age_alone(v, level)};
    ck_assert_int_eq(age_both(k, v, level, both), PAGE_OK);
    for (int i = 0; i < 2; i++) {
        ck_assert_uint_eq(both[i].length, alone[i].length);
        ck_assert_mem_eq(both[i].bytes, alone[i].bytes, alone[i].length);
        ck_assert_int_eq(both[i].info.level, level);
    }
}

/* A channel whose one far value makes a page's rows wide at level 0, where they are narrow again
 * some levels on. */
static struct tensor far_value(enum page_dtype dtype, uint64_t seed) {
    struct tensor in = tensor_random(dtype, 128, 3, 64, seed);
    set_value(dtype, in.data, 77 * in.strides.token + 5, 30);
    return in;
}

START_TEST(a_pair_becomes_what_its_pages_become_alone) {
    for (int d = 0; d < DTYPE_COUNT; d++)
        for (int level = _i + 1; level <= PAGE_LEVEL_MAX; level++) {
            struct tensor k = tensor_random(all_dtypes[d], 128, 3, 64, 1);
            struct tensor v = tensor_random(all_dtypes[d], 128, 3, 64, 2);
            struct coded page_k = encode_part(&k, PAGE_K, _i, 4);
            struct coded page_v = encode_part(&v, PAGE_V, _i, 4);
            assert_same_as_alone(&page_k, &page_v, level);
        }
}
END_TEST

START_TEST(pages_of_a_pair_may_have_nothing_in_common) {
    struct tensor k = tensor_random(PAGE_F16, 128, 3, 64, 3);
    struct tensor v = tensor_random(PAGE_F32, 77, 2, 40, 4);
    struct coded page_k = encode_part(&k, PAGE_K, _i, 4), page_v = encode_part(&v, PAGE_V, 2, 0);
    int level = _i < 3 ? 3 : _i + 1;
    assert_same_as_alone(&page_k, &page_v, level);
    assert_same_as_alone(&page_v, &page_k, level);
}
END_TEST

START_TEST(one_may_have_more_tokens_than_the_other) {
    struct tensor k = tensor_random(PAGE_F16, 128, 2, 64, 5);
    for (uint32_t tokens = 1; tokens < 128; tokens += 21) {
        struct tensor v = tensor_random(PAGE_F16, tokens, 2, 64, tokens);
        struct coded page_k = encode_part(&k, PAGE_K, 2, 4);
        struct coded page_v = encode_part(&v, PAGE_V, 2, 0);
        assert_same_as_alone(&page_k, &page_v, 3);
        assert_same_as_alone(&page_v, &page_k, 3);
    }
}
END_TEST

/* Byte 7 of a page holds its flags, 1 of them being wide rows (FORMAT.md). */
START_TEST(one_or_both_may_be_of_wide_rows) {
    struct tensor wide = far_value(PAGE_F16, 6), narrow = tensor_random(PAGE_F16, 128, 3, 64, 7);
    struct coded page_wide = encode_part(&wide, PAGE_K, 0, 0);
    struct coded page_narrow = encode_part(&narrow, PAGE_V, 0, 0);
    ck_assert_int_eq(page_wide.bytes[7] & 1, 1);
    ck_assert_int_eq(page_narrow.bytes[7] & 1, 0);
    for (int level = 1; level <= PAGE_LEVEL_MAX; level++) {
        assert_same_as_alone(&page_wide, &page_narrow, level);
        assert_same_as_alone(&page_wide, &page_wide, level);
    }
}
END_TEST

/* Gaussian; one far value a token makes rows wide, and lets no token stand out. */
static struct tensor large(uint32_t tokens, uint32_t channels, bool wide) {
    struct tensor in = tensor_new(PAGE_F32, tokens, 1, channels);
    uint64_t state = 8;
    for (size_t i = 0; i < in.values; i++)
        set_value(PAGE_F32, in.data, i, random_normal(&state));
    for (size_t t = 0; wide && t < tokens; t++)
        set_value(PAGE_F32, in.data, t * channels + t, 100);
    return in;
}

/* A workspace too small stops the program, in all builds that tests run in. */
START_TEST(the_largest_pages_have_room_in_the_workspace) {
    static const uint32_t shapes[][2] = {{128, 1 << 11}, {33, 7943}, {32, 1 << 13}, {31, 8456},
                                         {16, 1 << 14},  {9, 29127}, {8, 1 << 15}};
    for (int wide = 0; wide < 2; wide++) {
        struct tensor in = large(shapes[_i][0], shapes[_i][1], wide);
        struct coded page = encode_part(&in, PAGE_K, 0, 0);
        ck_assert_int_eq(page.info.level, 0);
        ck_assert_int_eq(page.bytes[7] & 1, wide);
        assert_same_as_alone(&page, &page, 3);
    }
}
END_TEST

START_TEST(a_damaged_page_of_a_pair_is_told) {
    struct tensor in = tensor_random(PAGE_F16, 128, 2, 64, 9);
    struct coded whole = encode_part(&in, PAGE_K, 2, 0), damaged = encode_part(&in, PAGE_V, 2, 0);
    struct aged aged[2];
    damaged.bytes[48] ^= 1; /* a state */
    ck_assert_int_eq(age_both(&whole, &damaged, 3, aged), PAGE_DAMAGED);
    ck_assert_int_eq(age_both(&damaged, &whole, 3, aged), PAGE_DAMAGED);
}
END_TEST

START_TEST(a_pair_with_a_page_that_does_not_age_is_refused) {
    struct tensor in = tensor_random(PAGE_F16, 128, 2, 64, 10);
    struct coded aging = encode_part(&in, PAGE_K, 2, 0), exact = encode_part(&in, PAGE_V, -2, 0);
    struct aged aged[2];
    ck_assert_int_eq(age_both(&aging, &exact, 3, aged), PAGE_ARGUMENT);
    ck_assert_int_eq(age_both(&exact, &aging, 3, aged), PAGE_ARGUMENT);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page, pairs aged");
    TCase *tests = tcase_create("pairs");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, a_pair_becomes_what_its_pages_become_alone, 0, PAGE_LEVEL_MAX);
    tcase_add_loop_test(tests, pages_of_a_pair_may_have_nothing_in_common, 0, PAGE_LEVEL_MAX);
    tcase_add_test(tests, one_may_have_more_tokens_than_the_other);
    tcase_add_test(tests, one_or_both_may_be_of_wide_rows);
    tcase_add_loop_test(tests, the_largest_pages_have_room_in_the_workspace, 0, 7);
    tcase_add_test(tests, a_damaged_page_of_a_pair_is_told);
    tcase_add_test(tests, a_pair_with_a_page_that_does_not_age_is_refused);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
