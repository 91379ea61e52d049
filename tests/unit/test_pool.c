/* The pool: extents never overlap, come zeroed, and freed stretches join up again. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/store/pool.h"

enum { LIMIT_BYTES = 1 << 20, UNIT = POOL_UNIT_BYTES };

static struct budget budget;
static struct pool *pool;

static void set_up(void) {
    budget_init(&budget, LIMIT_BYTES);
    pool = pool_new(&budget);
    ck_assert_ptr_nonnull(pool);
}

static void tear_down(void) {
    pool_free(pool);
}

static struct pool_extent take(uint64_t bytes) {
    struct pool_extent extent;
    ck_assert_int_eq(pool_take(pool, bytes, &budget, &extent), 0);
    return extent;
}

/* Takes and reserves, as who writes to it does. */
static struct pool_extent take_reserved(uint64_t bytes) {
    struct pool_extent extent = take(bytes);
    ck_assert(budget_reserve(&budget, extent.bytes - extent.warm_bytes));
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

START_TEST(what_is_freed_unreserved_comes_back_zeroed) {
    struct pool_extent extent = take(UNIT);
    uint64_t offset = extent.offset;
    memset(pool_memory(pool, &extent), 0x5a, UNIT);
    pool_give(pool, &extent, 0, &budget, 0);
    extent = take(UNIT);
    ck_assert_uint_eq(extent.offset, offset);
    ck_assert_uint_eq(extent.warm_bytes, 0);
    const unsigned char *memory = pool_memory(pool, &extent);
    for (int at = 0; at < UNIT; at++)
        ck_assert_int_eq(memory[at], 0);
}
END_TEST

START_TEST(what_is_freed_reserved_stays_warm_up_to_a_quarter_of_the_limit) {
    struct pool_extent extent = take_reserved(LIMIT_BYTES / 2);
    pool_give(pool, &extent, 0, &budget, LIMIT_BYTES / 2);
    ck_assert_uint_eq(pool_warm_bytes(pool), LIMIT_BYTES / 4);
    ck_assert_uint_eq(budget.used_bytes, LIMIT_BYTES / 4);
    ck_assert_uint_eq(take(LIMIT_BYTES / 2).warm_bytes, LIMIT_BYTES / 4);
    ck_assert_uint_eq(pool_warm_bytes(pool), 0);
}
END_TEST

START_TEST(warm_neighbours_join_and_are_given_up_at_the_limit) {
    struct pool_extent a = take_reserved(8 * UNIT), b = take_reserved(8 * UNIT);
    pool_give(pool, &b, 0, &budget, 8 * UNIT);
    pool_give(pool, &a, 0, &budget, 8 * UNIT);
    ck_assert_uint_eq(pool_warm_bytes(pool), 16 * UNIT);
    ck_assert(budget_reserve(&budget, LIMIT_BYTES));
    ck_assert_uint_eq(pool_warm_bytes(pool), 0);
    ck_assert_uint_eq(budget.used_bytes, LIMIT_BYTES);
    a = take(16 * UNIT);
    const unsigned char *memory = pool_memory(pool, &a);
    for (int at = 0; at < 16 * UNIT; at++)
        ck_assert_int_eq(memory[at], 0);
}
END_TEST

START_TEST(warming_up_leaves_room_for_what_is_freed_and_for_use) {
    struct budget large;
    budget_init(&large, 64 << 20);
    struct pool *own = pool_new(&large);
    while (pool_warm_up(own))
        ;
    ck_assert_uint_eq(pool_warm_bytes(own), 12 << 20); /* of 16 MiB that may be warm */
    ck_assert_uint_eq(large.used_bytes, 12 << 20);
    ck_assert(budget_reserve(&large, 64 << 20));
    ck_assert_uint_eq(pool_warm_bytes(own), 0);
    pool_free(own);
}
END_TEST

START_TEST(warming_up_begins_again_when_half_of_what_was_touched_is_gone) {
    struct budget large;
    struct pool_extent extent;
    budget_init(&large, 64 << 20);
    struct pool *own = pool_new(&large);
    while (pool_warm_up(own))
        ;
    ck_assert_int_eq(pool_take(own, 5 << 20, &large, &extent), 0);
    ck_assert(!pool_warm_up(own));
    ck_assert_int_eq(pool_take(own, 1 << 20, &large, &extent), 0);
    while (pool_warm_up(own))
        ;
    ck_assert_uint_eq(pool_warm_bytes(own), 12 << 20);
    pool_free(own);
}
END_TEST

START_TEST(a_budget_of_its_own_gets_nothing_warm) {
    struct budget own;
    struct pool_extent extent = take_reserved(8 * UNIT);
    budget_init(&own, LIMIT_BYTES);
    pool_give(pool, &extent, 0, &budget, 8 * UNIT);
    ck_assert_int_eq(pool_take(pool, 8 * UNIT, &own, &extent), 0);
    ck_assert_uint_eq(extent.warm_bytes, 0);
    ck_assert_uint_eq(budget.used_bytes, 0);
    ck_assert(budget_reserve(&own, 8 * UNIT));
    pool_give(pool, &extent, 0, &own, 8 * UNIT);
    ck_assert_uint_eq(own.used_bytes, 0);
    ck_assert_uint_eq(pool_warm_bytes(pool), 0);
}
END_TEST

START_TEST(what_is_warm_becomes_a_parts_or_if_that_is_at_its_limit_is_not_taken) {
    struct budget part;
    struct pool_extent extent = take_reserved(8 * UNIT);
    budget_init_part(&part, &budget);
    pool_give(pool, &extent, 0, &budget, 8 * UNIT);
    part.limit_bytes = 7 * UNIT;
    ck_assert_int_eq(pool_take(pool, 8 * UNIT, &part, &extent), -1);
    ck_assert_uint_eq(extent.bytes, 0);
    ck_assert_uint_eq(pool_warm_bytes(pool), 8 * UNIT);
    part.limit_bytes = 8 * UNIT;
    ck_assert_int_eq(pool_take(pool, 8 * UNIT, &part, &extent), 0);
    ck_assert_uint_eq(extent.warm_bytes, 8 * UNIT);
    ck_assert_uint_eq(part.used_bytes, 8 * UNIT);
    pool_give(pool, &extent, 0, &part, 8 * UNIT);
    ck_assert_uint_eq(part.used_bytes, 0);
    ck_assert_uint_eq(budget.used_bytes, 8 * UNIT);
}
END_TEST

START_TEST(a_trimmed_extent_keeps_its_beginning) {
    struct pool_extent extent = take(4 * UNIT);
    memset(pool_memory(pool, &extent), 0x5a, 4 * UNIT);
    pool_give(pool, &extent, UNIT + 1, &budget, 0);
    ck_assert_uint_eq(extent.bytes, 2 * UNIT);
    const unsigned char *memory = pool_memory(pool, &extent);
    for (int at = 0; at < 2 * UNIT; at++)
        ck_assert_int_eq(memory[at], 0x5a);
    ck_assert_uint_eq(take(UNIT).offset, extent.offset + 2 * UNIT);
}
END_TEST

START_TEST(what_is_longer_than_any_free_stretch_is_refused) {
    struct pool_extent extent;
    ck_assert_int_eq(pool_take(pool, UINT64_MAX, &budget, &extent), -1);
    ck_assert_int_eq(pool_take(pool, 0, &budget, &extent), -1);
    while (pool_take(pool, 64 * UNIT, &budget, &extent) == 0)
        ;
    ck_assert_int_eq(pool_take(pool, 64 * UNIT, &budget, &extent), -1);
}
END_TEST

START_TEST(after_everything_is_freed_in_any_order_the_whole_is_one_stretch) {
    struct pool_extent extents[256], whole;
    int order[256] = {0};
    srand(1);
    for (int i = 0; i < 256; i++) {
        extents[i] = take((uint64_t)(rand() % 4 + 1) * UNIT);
        int swap = rand() % (i + 1);
        order[i] = order[swap];
        order[swap] = i;
    }
    for (int i = 0; i < 256; i++)
        pool_give(pool, &extents[order[i]], 0, &budget, 0);
    ck_assert_int_eq(pool_take(pool, 4 * LIMIT_BYTES, &budget, &whole), 0);
    ck_assert_uint_eq(whole.offset, 0);
}
END_TEST

START_TEST(whatever_is_taken_and_freed_warm_and_reserved_bytes_agree) {
    struct pool_extent extents[32] = {{0}};
    uint64_t held = 0;
    srand(2);
    for (int step = 0; step < 20000; step++) {
        struct pool_extent *extent = &extents[rand() % 32];
        if (extent->bytes > 0) {
            held -= extent->bytes;
            pool_give(pool, extent, 0, &budget, extent->bytes);
            extent->bytes = 0;
        } else if (pool_take(pool, (uint64_t)(rand() % 16 + 1) * UNIT, &budget, extent) == 0) {
            if (budget_reserve(&budget, extent->bytes - extent->warm_bytes)) {
                held += extent->bytes;
            } else {
                pool_give(pool, extent, 0, &budget, extent->warm_bytes);
                extent->bytes = 0;
            }
        }
        ck_assert_uint_eq(budget.used_bytes, held + pool_warm_bytes(pool));
    }
}
END_TEST

/* Of the pool's mapping, as /proc/self/smaps has them. */
static bool has_flag_of_mapping(const char *flag) {
    FILE *maps = fopen("/proc/self/smaps", "r");
    ck_assert_ptr_nonnull(maps);
    char line[512];
    bool ours = false, found = false;
    while (fgets(line, sizeof line, maps)) {
        if (strstr(line, "-") && strchr("0123456789abcdef", line[0]))
            ours = strstr(line, "kvquantd-pool") != NULL;
        else if (ours && strncmp(line, "VmFlags:", 8) == 0)
            found |= strstr(line, flag) != NULL;
    }
    fclose(maps);
    return found;
}

START_TEST(the_system_is_told_that_huge_pages_are_welcome) {
    if (access("/sys/kernel/mm/transparent_hugepage/shmem_enabled", F_OK) == 0)
        ck_assert(has_flag_of_mapping(" hg"));
}
END_TEST

START_TEST(nothing_of_it_is_in_a_core_dump) {
    ck_assert(has_flag_of_mapping(" dd"));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("pool");
    TCase *cases = tcase_create("pool");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, an_extent_is_rounded_up_to_units);
    tcase_add_test(cases, extents_do_not_overlap);
    tcase_add_test(cases, what_is_freed_unreserved_comes_back_zeroed);
    tcase_add_test(cases, what_is_freed_reserved_stays_warm_up_to_a_quarter_of_the_limit);
    tcase_add_test(cases, warm_neighbours_join_and_are_given_up_at_the_limit);
    tcase_add_test(cases, warming_up_leaves_room_for_what_is_freed_and_for_use);
    tcase_add_test(cases, warming_up_begins_again_when_half_of_what_was_touched_is_gone);
    tcase_add_test(cases, a_budget_of_its_own_gets_nothing_warm);
    tcase_add_test(cases, what_is_warm_becomes_a_parts_or_if_that_is_at_its_limit_is_not_taken);
    tcase_add_test(cases, whatever_is_taken_and_freed_warm_and_reserved_bytes_agree);
    tcase_add_test(cases, a_trimmed_extent_keeps_its_beginning);
    tcase_add_test(cases, what_is_longer_than_any_free_stretch_is_refused);
    tcase_add_test(cases, the_system_is_told_that_huge_pages_are_welcome);
    tcase_add_test(cases, nothing_of_it_is_in_a_core_dump);
    tcase_add_test(cases, after_everything_is_freed_in_any_order_the_whole_is_one_stretch);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
