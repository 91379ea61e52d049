/* Buffers for frames: large ones go to who came first, small ones as long as there is memory. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/server/lease.h"

enum { POOL = 2, LARGE = LEASE_SMALL_BYTES + 1, BUDGET_BYTES = 4 * LEASE_SMALL_BYTES };

static struct budget budget;
static struct lease_pool pool;
static struct lease leases[8];
static struct lease_place places[8];
static int returns;
static const struct lease_payer nobody;

static void count_return(void *context) {
    (void)context;
    returns++;
}

static void set_up(void) {
    budget_init(&budget, BUDGET_BYTES);
    memset(leases, 0, sizeof leases);
    memset(places, 0, sizeof places);
    returns = 0;
    ck_assert_int_eq(lease_pool_init(&pool, POOL, &budget, count_return, NULL), 0);
}

static void tear_down(void) {
    for (int i = 0; i < 8; i++) {
        lease_return(&pool, &leases[i]);
        lease_leave(&pool, &places[i]);
    }
    ck_assert_uint_eq(budget.used_bytes, 0);
    ck_assert(!lease_is_short(&pool));
    lease_pool_deinit(&pool);
}

static bool take(int who) {
    return lease_take(&pool, LARGE, nobody, &leases[who], &places[who]);
}

/* All large ones are lent to 0 and 1; then these come, one after the other. */
static void let_wait(int first, int last) {
    for (int i = 0; i < POOL; i++)
        ck_assert(take(i));
    for (int i = first; i <= last; i++)
        ck_assert(!take(i));
    ck_assert(lease_is_short(&pool));
}

START_TEST(test_a_returned_buffer_goes_to_who_came_first) {
    let_wait(2, 4);
    lease_return(&pool, &leases[0]);
    ck_assert(!take(4));
    ck_assert(!take(3));
    ck_assert(take(2));
    ck_assert(!take(3));
    lease_return(&pool, &leases[1]);
    ck_assert(!take(4));
    ck_assert(take(3));
}
END_TEST

START_TEST(test_as_many_as_there_are_buffers_have_their_turn_in_any_order) {
    let_wait(2, 4);
    lease_return(&pool, &leases[0]);
    lease_return(&pool, &leases[1]);
    ck_assert(!take(4));
    ck_assert(take(3));
    ck_assert(!take(4));
    ck_assert(take(2));
}
END_TEST

START_TEST(test_who_gives_a_buffer_back_comes_behind_those_who_wait) {
    let_wait(2, 2);
    lease_return(&pool, &leases[0]);
    ck_assert(!take(0));
    ck_assert(take(2));
    lease_return(&pool, &leases[2]);
    ck_assert(take(0));
}
END_TEST

START_TEST(test_who_leaves_the_queue_holds_nobody_up) {
    let_wait(2, 4);
    lease_leave(&pool, &places[3]);
    lease_leave(&pool, &places[2]);
    lease_leave(&pool, &places[2]);
    lease_return(&pool, &leases[0]);
    ck_assert(take(4));
}
END_TEST

START_TEST(test_those_who_wait_are_told_of_a_buffer_and_of_a_place_given_up) {
    let_wait(2, 3);
    ck_assert_int_eq(returns, 0);
    lease_return(&pool, &leases[0]);
    ck_assert_int_eq(returns, 1);
    lease_leave(&pool, &places[2]);
    ck_assert_int_eq(returns, 2);
}
END_TEST

START_TEST(test_a_return_that_nobody_waits_for_is_told_to_nobody) {
    ck_assert(take(0));
    lease_return(&pool, &leases[0]);
    ck_assert_int_eq(returns, 0);
}
END_TEST

START_TEST(test_a_spare_buffer_is_lent_while_more_than_half_are_free) {
    ck_assert(lease_take_spare(&pool, nobody, &leases[0]));
    ck_assert(!lease_take_spare(&pool, nobody, &leases[1]));
    ck_assert(take(2));
    ck_assert(!lease_is_short(&pool));
}
END_TEST

START_TEST(test_a_small_frame_takes_a_large_buffer_only_without_memory) {
    for (int i = 0; i < 4; i++) {
        ck_assert(lease_take(&pool, 100, nobody, &leases[i], &places[i]));
        ck_assert_uint_eq(leases[i].bytes, LEASE_SMALL_BYTES);
    }
    ck_assert(lease_take(&pool, 100, nobody, &leases[4], &places[4]));
    ck_assert_uint_gt(leases[4].bytes, LEASE_SMALL_BYTES);
}
END_TEST

START_TEST(test_a_small_buffer_got_while_waiting_gives_the_place_up) {
    let_wait(2, 3);
    ck_assert(lease_take(&pool, 100, nobody, &leases[2], &places[2]));
    lease_return(&pool, &leases[0]);
    ck_assert(take(3));
}
END_TEST

START_TEST(test_shrinking_keeps_what_is_there_and_frees_the_large_buffer) {
    let_wait(2, 2);
    memcpy(leases[0].buffer, "header", 7);
    lease_shrink(&pool, &leases[0], 7);
    ck_assert_uint_eq(leases[0].bytes, LEASE_SMALL_BYTES);
    ck_assert_str_eq((char *)leases[0].buffer, "header");
    ck_assert(take(2));
}
END_TEST

START_TEST(test_what_does_not_fit_is_not_shrunk) {
    ck_assert(take(0));
    lease_shrink(&pool, &leases[0], LARGE);
    ck_assert_uint_gt(leases[0].bytes, LEASE_SMALL_BYTES);
}
END_TEST

/* Of two large ones one is more than it may have. */
static struct quota quota;

START_TEST(test_beyond_its_quota_a_payer_receives_nothing_and_holds_nobody_up) {
    const struct lease_payer payer = {.bytes = &quota, .receives = true};
    quota = (struct quota){.limit = lease_pool_bytes(1)};
    ck_assert(lease_take(&pool, LARGE, payer, &leases[0], &places[0]));
    ck_assert(!lease_take(&pool, LARGE, payer, &leases[1], &places[1]));
    ck_assert(!lease_is_short(&pool));
    ck_assert(take(2));
    lease_return(&pool, &leases[0]);
    ck_assert_int_eq(returns, 1);
    ck_assert(lease_take(&pool, LARGE, payer, &leases[1], &places[1]));
}
END_TEST

START_TEST(test_what_is_sent_is_charged_whatever_the_quota) {
    const struct lease_payer payer = {.bytes = &quota};
    quota = (struct quota){.limit = 0};
    ck_assert(lease_take(&pool, LARGE, payer, &leases[0], &places[0]));
    ck_assert_uint_eq(quota.used, lease_pool_bytes(1));
    lease_return(&pool, &leases[0]);
    ck_assert_uint_eq(quota.used, 0);
}
END_TEST

START_TEST(test_while_there_is_none_nothing_is_charged) {
    const struct lease_payer payer = {.bytes = &quota};
    quota = (struct quota){.limit = QUOTA_NONE};
    let_wait(2, 2);
    ck_assert(!lease_take(&pool, LARGE, payer, &leases[3], &places[3]));
    ck_assert_uint_eq(quota.used, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("lease");
    TCase *tests = tcase_create("lease");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_a_spare_buffer_is_lent_while_more_than_half_are_free);
    tcase_add_test(tests, test_a_returned_buffer_goes_to_who_came_first);
    tcase_add_test(tests, test_as_many_as_there_are_buffers_have_their_turn_in_any_order);
    tcase_add_test(tests, test_who_gives_a_buffer_back_comes_behind_those_who_wait);
    tcase_add_test(tests, test_who_leaves_the_queue_holds_nobody_up);
    tcase_add_test(tests, test_those_who_wait_are_told_of_a_buffer_and_of_a_place_given_up);
    tcase_add_test(tests, test_a_return_that_nobody_waits_for_is_told_to_nobody);
    tcase_add_test(tests, test_a_small_frame_takes_a_large_buffer_only_without_memory);
    tcase_add_test(tests, test_a_small_buffer_got_while_waiting_gives_the_place_up);
    tcase_add_test(tests, test_shrinking_keeps_what_is_there_and_frees_the_large_buffer);
    tcase_add_test(tests, test_what_does_not_fit_is_not_shrunk);
    tcase_add_test(tests, test_beyond_its_quota_a_payer_receives_nothing_and_holds_nobody_up);
    tcase_add_test(tests, test_what_is_sent_is_charged_whatever_the_quota);
    tcase_add_test(tests, test_while_there_is_none_nothing_is_charged);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
