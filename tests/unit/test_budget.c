/* The memory budget: nothing is handed out beyond the limit, and who waits is told of a release. */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>

#include "daemon/base/budget.h"

START_TEST(up_to_the_limit_is_granted_and_no_byte_more) {
    struct budget budget;
    budget_init(&budget, 100);
    ck_assert(budget_reserve(&budget, 60));
    ck_assert(!budget_reserve(&budget, 41));
    ck_assert(budget_reserve(&budget, 40));
    ck_assert(!budget_reserve(&budget, 1));
    ck_assert_uint_eq(budget.used_bytes, 100);
}
END_TEST

START_TEST(a_request_that_overflows_is_refused) {
    struct budget budget;
    budget_init(&budget, 100);
    ck_assert(budget_reserve(&budget, 50));
    ck_assert(!budget_reserve(&budget, UINT64_MAX));
    ck_assert_uint_eq(budget.used_bytes, 50);
}
END_TEST

START_TEST(what_is_released_can_be_reserved_again) {
    struct budget budget;
    budget_init(&budget, 100);
    ck_assert(budget_reserve(&budget, 100));
    budget_release(&budget, 30);
    ck_assert(budget_reserve(&budget, 30));
}
END_TEST

START_TEST(below_a_lowered_limit_nothing_is_granted) {
    struct budget budget;
    budget_init(&budget, 100);
    ck_assert(budget_reserve(&budget, 80));
    budget.limit_bytes = 50;
    ck_assert(!budget_reserve(&budget, 0 + 1));
}
END_TEST

static void count_call(void *context) {
    ++*(int *)context;
}

START_TEST(a_release_is_told_only_while_somebody_waits) {
    struct budget budget;
    int calls = 0;
    budget_init(&budget, 100);
    budget.on_release = count_call;
    budget.context = &calls;
    ck_assert(budget_reserve(&budget, 100));
    budget_release(&budget, 10);
    ck_assert_int_eq(calls, 0);
    budget_wait_begin(&budget);
    budget_release(&budget, 10);
    ck_assert_int_eq(calls, 1);
    budget_wait_end(&budget);
    budget_release(&budget, 10);
    ck_assert_int_eq(calls, 1);
}
END_TEST

static void *reserve_and_release(void *argument) {
    struct budget *budget = argument;
    for (int i = 0; i < 100000; i++)
        if (budget_reserve(budget, 7)) {
            if (budget->used_bytes > 20)
                return argument;
            budget_release(budget, 7);
        }
    return NULL;
}

START_TEST(threads_together_stay_below_the_limit) {
    struct budget budget;
    pthread_t threads[4];
    void *over;
    budget_init(&budget, 20);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, reserve_and_release, &budget), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &over);
        ck_assert_ptr_null(over);
    }
    ck_assert_uint_eq(budget.used_bytes, 0);
}
END_TEST

START_TEST(bulk_leaves_a_part_of_the_limit_to_what_is_small) {
    struct budget budget;
    budget_init(&budget, 1000);
    budget.small_share = 10;
    ck_assert(!budget_reserve_bulk(&budget, 901));
    ck_assert(budget_reserve_bulk(&budget, 900));
    ck_assert(!budget_reserve_bulk(&budget, 1));
    ck_assert(budget_reserve(&budget, 100));
    ck_assert(!budget_reserve(&budget, 1));
}
END_TEST

START_TEST(a_part_has_a_limit_of_its_own_within_the_whole) {
    struct budget whole, part;
    budget_init(&whole, 100);
    budget_init_part(&part, &whole);
    part.limit_bytes = 50;
    ck_assert(!budget_reserve(&part, 51));
    ck_assert_ptr_eq(budget_short_of(&part), &part);
    ck_assert(budget_reserve(&whole, 60));
    ck_assert(!budget_reserve(&part, 41));
    ck_assert_ptr_eq(budget_short_of(&part), &whole);
    ck_assert_uint_eq(part.used_bytes, 0);
    ck_assert(budget_reserve(&part, 40));
    ck_assert_uint_eq(whole.used_bytes, 100);
    budget_release(&part, 40);
    ck_assert_uint_eq(part.used_bytes, 0);
    ck_assert_uint_eq(whole.used_bytes, 60);
}
END_TEST

START_TEST(who_waits_for_a_part_is_told_of_what_it_releases) {
    struct budget whole, part, other;
    int calls = 0;
    budget_init(&whole, 100);
    whole.on_release = count_call;
    whole.context = &calls;
    budget_init_part(&part, &whole);
    budget_init_part(&other, &whole);
    ck_assert(budget_reserve(&part, 10) && budget_reserve(&other, 10));
    budget_wait_begin(&part);
    budget_release(&other, 10);
    ck_assert_int_eq(calls, 0);
    budget_release(&part, 10);
    ck_assert_int_eq(calls, 1);
    budget_wait_end(&part);
}
END_TEST

START_TEST(what_the_whole_has_reserved_may_become_a_parts) {
    struct budget whole, part;
    budget_init(&whole, 100);
    budget_init_part(&part, &whole);
    part.limit_bytes = 50;
    ck_assert(budget_reserve(&whole, 60));
    ck_assert(!budget_assign(&part, 60));
    ck_assert(budget_assign(&part, 50));
    ck_assert_uint_eq(whole.used_bytes, 60);
    budget_unassign(&part, 50);
    ck_assert_uint_eq(part.used_bytes, 0);
    ck_assert_uint_eq(whole.used_bytes, 60);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("budget");
    TCase *cases = tcase_create("budget");
    tcase_add_test(cases, up_to_the_limit_is_granted_and_no_byte_more);
    tcase_add_test(cases, a_request_that_overflows_is_refused);
    tcase_add_test(cases, bulk_leaves_a_part_of_the_limit_to_what_is_small);
    tcase_add_test(cases, what_is_released_can_be_reserved_again);
    tcase_add_test(cases, below_a_lowered_limit_nothing_is_granted);
    tcase_add_test(cases, a_release_is_told_only_while_somebody_waits);
    tcase_add_test(cases, threads_together_stay_below_the_limit);
    tcase_add_test(cases, a_part_has_a_limit_of_its_own_within_the_whole);
    tcase_add_test(cases, who_waits_for_a_part_is_told_of_what_it_releases);
    tcase_add_test(cases, what_the_whole_has_reserved_may_become_a_parts);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
