/* Quotas and charges: no more than the limit, and what is released can be taken again. */
#include <check.h>
#include <stdlib.h>

#include "daemon/base/charge.h"

static struct quota quota;

static void set_up(void) {
    quota = (struct quota){.limit = 10};
}

START_TEST(up_to_the_limit_is_charged_and_no_more) {
    struct charge a = {0}, b = {0};
    ck_assert(charge_take(&a, &quota, 7));
    ck_assert(!charge_take(&b, &quota, 4));
    ck_assert(charge_take(&b, &quota, 3));
    ck_assert_uint_eq(quota.used, 10);
    ck_assert_uint_eq(quota.refused, 1);
}
END_TEST

START_TEST(what_is_released_can_be_charged_again_and_is_released_once) {
    struct charge a = {0}, b = {0};
    ck_assert(charge_take(&a, &quota, 10));
    charge_release(&a);
    charge_release(&a);
    ck_assert(charge_take(&b, &quota, 10));
    ck_assert_uint_eq(quota.used, 10);
}
END_TEST

START_TEST(a_charge_may_grow_and_is_released_whole) {
    struct charge a = {0};
    ck_assert(charge_take(&a, &quota, 4));
    ck_assert(charge_take(&a, &quota, 6));
    ck_assert(!charge_take(&a, &quota, 1));
    charge_release(&a);
    ck_assert_uint_eq(quota.used, 0);
}
END_TEST

START_TEST(without_a_quota_nothing_is_charged) {
    struct charge a = {0};
    ck_assert(charge_take(&a, NULL, UINT64_MAX));
    charge_release(&a);
}
END_TEST

START_TEST(what_is_there_already_is_charged_beyond_the_limit) {
    struct charge a = {0}, b = {0};
    charge_anyway(&a, &quota, 12);
    ck_assert(!charge_take(&b, &quota, 1));
    charge_release(&a);
    ck_assert_uint_eq(quota.used, 0);
}
END_TEST

START_TEST(of_two_limits_the_lower_holds) {
    struct charge a = {0}, b = {0};
    ck_assert(!charge_take_within(&a, &quota, 7, 6));
    ck_assert(charge_take_within(&a, &quota, 6, 6));
    ck_assert(charge_take(&b, &quota, 4));
    ck_assert(!charge_take_within(&b, &quota, 1, 20));
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("charge");
    tcase_add_checked_fixture(cases, set_up, NULL);
    tcase_add_test(cases, up_to_the_limit_is_charged_and_no_more);
    tcase_add_test(cases, what_is_released_can_be_charged_again_and_is_released_once);
    tcase_add_test(cases, a_charge_may_grow_and_is_released_whole);
    tcase_add_test(cases, without_a_quota_nothing_is_charged);
    tcase_add_test(cases, what_is_there_already_is_charged_beyond_the_limit);
    tcase_add_test(cases, of_two_limits_the_lower_holds);
    Suite *suite = suite_create("charge");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
