/* The pool: extents never overlap, come zeroed, and freed stretches join up again. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/store/pool.h"

enum { LIMIT_BYTES = 1 << 20, UNIT = POOL_UNIT_BYTES };

static struct pool *pool;

static void set_up(void) {
    pool = pool_new(LIMIT_BYTES);
    ck_assert_ptr_nonnull(pool);
}

static void tear_down(void) {
    pool_free(pool);
}

static struct pool_extent take(uint64_t bytes) {
    struct pool_extent extent;
    ck_assert_int_eq(pool_take(pool, bytes, &extent), 0);
    return extent;
}

START_TEST(an_extent_is_rounded_up_to_units) {
    ck_assert_uint_eq(take(1).bytes, UNIT);
    ck_assert_uint_eq(take(UNIT).bytes, UNIT);
    ck_assert_uint_eq(take(UNIT + 1).bytes, 2 * UNIT);
}
END_TEST

START_TEST(extents_do_not_overlap) {
    struct pool_extent extents[32];
    for (int i = 0; i < 32; i++) {
        extents[i] = take((uint64_t)(i + 1) * 1000);
        memset(pool_memory(pool, &extents[i]), i + 1, extents[i].bytes);
    }
    for (int i = 0; i < 32; i++) {
        const unsigned char *memory = pool_memory(pool, &extents[i]);
        for (uint64_t at = 0; at < extents[i].bytes; at++)
            ck_assert_int_eq(memory[at], i + 1);
    }
}
END_TEST

START_TEST(a_freed_extent_comes_back_zeroed) {
    struct pool_extent extent = take(UNIT);
    uint64_t offset = extent.offset;
    memset(pool_memory(pool, &extent), 0x5a, UNIT);
    pool_trim(pool, &extent, 0);
    extent = take(UNIT);
    ck_assert_uint_eq(extent.offset, offset);
    const unsigned char *memory = pool_memory(pool, &extent);
    for (int at = 0; at < UNIT; at++)
        ck_assert_int_eq(memory[at], 0);
}
END_TEST

START_TEST(a_trimmed_extent_keeps_its_beginning) {
    struct pool_extent extent = take(4 * UNIT);
    memset(pool_memory(pool, &extent), 0x5a, 4 * UNIT);
    pool_trim(pool, &extent, UNIT + 1);
    ck_assert_uint_eq(extent.bytes, 2 * UNIT);
    const unsigned char *memory = pool_memory(pool, &extent);
    for (int at = 0; at < 2 * UNIT; at++)
        ck_assert_int_eq(memory[at], 0x5a);
    ck_assert_uint_eq(take(UNIT).offset, extent.offset + 2 * UNIT);
}
END_TEST

START_TEST(what_is_longer_than_any_free_stretch_is_refused) {
    struct pool_extent extent;
    ck_assert_int_eq(pool_take(pool, UINT64_MAX, &extent), -1);
    ck_assert_int_eq(pool_take(pool, 0, &extent), -1);
    while (pool_take(pool, 64 * UNIT, &extent) == 0)
        ;
    ck_assert_int_eq(pool_take(pool, 64 * UNIT, &extent), -1);
}
END_TEST

START_TEST(after_everything_is_freed_in_any_order_the_whole_is_one_stretch) {
    struct pool_extent extents[256], whole;
    int order[256];
    srand(1);
    for (int i = 0; i < 256; i++) {
        extents[i] = take((uint64_t)(rand() % 4 + 1) * UNIT);
        int swap = rand() % (i + 1);
        order[i] = order[swap];
        order[swap] = i;
    }
    for (int i = 0; i < 256; i++)
        pool_trim(pool, &extents[order[i]], 0);
    ck_assert_int_eq(pool_take(pool, 4 * LIMIT_BYTES, &whole), 0);
    ck_assert_uint_eq(whole.offset, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("pool");
    TCase *cases = tcase_create("pool");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, an_extent_is_rounded_up_to_units);
    tcase_add_test(cases, extents_do_not_overlap);
    tcase_add_test(cases, a_freed_extent_comes_back_zeroed);
    tcase_add_test(cases, a_trimmed_extent_keeps_its_beginning);
    tcase_add_test(cases, what_is_longer_than_any_free_stretch_is_refused);
    tcase_add_test(cases, after_everything_is_freed_in_any_order_the_whole_is_one_stretch);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
