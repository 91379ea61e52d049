/* A rate: a second's worth at once, then so many a second and no more. */
#include <check.h>
#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/base/rate.h"

/* How many can be taken at this time. */
static int taken_at(struct rate *rate, uint64_t now_ns) {
    int count = 0;
    while (count < 1000 && rate_take(rate, now_ns))
        count++;
    return count;
}

START_TEST(a_seconds_worth_can_be_taken_at_once_and_no_more) {
    struct rate rate = {.per_second = 10};
    ck_assert_int_eq(taken_at(&rate, CLOCK_NS_PER_S), 10);
}
END_TEST

START_TEST(with_time_there_is_more) {
    struct rate rate = {.per_second = 10};
    taken_at(&rate, CLOCK_NS_PER_S);
    ck_assert_int_eq(taken_at(&rate, CLOCK_NS_PER_S + 300 * CLOCK_NS_PER_MS), 3);
    ck_assert_int_eq(taken_at(&rate, CLOCK_NS_PER_S + 350 * CLOCK_NS_PER_MS), 0);
}
END_TEST

START_TEST(a_long_pause_is_worth_no_more_than_a_second) {
    struct rate rate = {.per_second = 10};
    taken_at(&rate, CLOCK_NS_PER_S);
    ck_assert_int_eq(taken_at(&rate, 100 * CLOCK_NS_PER_S), 10);
}
END_TEST

START_TEST(without_a_limit_there_is_no_end) {
    struct rate rate = {.per_second = RATE_NONE};
    ck_assert_int_eq(taken_at(&rate, 1), 1000);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("rate");
    TCase *cases = tcase_create("rate");
    tcase_add_test(cases, a_seconds_worth_can_be_taken_at_once_and_no_more);
    tcase_add_test(cases, with_time_there_is_more);
    tcase_add_test(cases, a_long_pause_is_worth_no_more_than_a_second);
    tcase_add_test(cases, without_a_limit_there_is_no_end);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
