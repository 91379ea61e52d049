/* Sessions in the order in which something is due of them. */
#include <check.h>
#include <stdlib.h>

#include "daemon/store/session.h"

enum { SESSIONS = 200, STEPS = 20000, TIMES = 1000 };

static struct session sessions[SESSIONS];
static struct due due;

static void set_up(void) {
    due_init(&due);
    for (int i = 0; i < SESSIONS; i++)
        sessions[i] = (struct session){.references = 1};
}

static void tear_down(void) {
    due_deinit(&due);
}

START_TEST(what_is_due_first_comes_first_and_nothing_before_its_time) {
    due_set(&due, &sessions[0], 30);
    due_set(&due, &sessions[1], 10);
    due_set(&due, &sessions[2], 20);
    ck_assert_uint_eq(due_next_ns(&due), 10);
    ck_assert_ptr_null(due_take(&due, 9));
    ck_assert_ptr_eq(due_take(&due, 20), &sessions[1]);
    ck_assert_ptr_eq(due_take(&due, 20), &sessions[2]);
    ck_assert_ptr_null(due_take(&due, 20));
    ck_assert_ptr_eq(due_take(&due, 30), &sessions[0]);
    ck_assert_uint_eq(due_next_ns(&due), DUE_NEVER);
}
END_TEST

START_TEST(only_a_new_first_is_told) {
    ck_assert(due_set(&due, &sessions[0], 30));
    ck_assert(!due_set(&due, &sessions[1], 40));
    ck_assert(due_set(&due, &sessions[1], 20));
    ck_assert(!due_set(&due, &sessions[1], DUE_NEVER));
    ck_assert_uint_eq(due_next_ns(&due), 30);
}
END_TEST

/* The least time of all that are in. */
static uint64_t least_of(const uint64_t *times) {
    uint64_t least = DUE_NEVER;
    for (int i = 0; i < SESSIONS; i++)
        least = times[i] < least ? times[i] : least;
    return least;
}

static void check_take(uint64_t *times) {
    const struct session *taken = due_take(&due, DUE_NEVER - 1);
    ck_assert(!taken == (least_of(times) == DUE_NEVER));
    if (!taken)
        return;
    ck_assert_uint_eq(times[taken - sessions], least_of(times));
    times[taken - sessions] = DUE_NEVER;
}

START_TEST(whatever_is_put_in_moved_and_taken_out_the_first_is_the_least) {
    uint64_t times[SESSIONS];
    for (int i = 0; i < SESSIONS; i++)
        times[i] = DUE_NEVER;
    srand(1);
    for (int step = 0; step < STEPS; step++) {
        int i = rand() % SESSIONS;
        switch (rand() % 4) {
        case 0:
            times[i] = DUE_NEVER;
            break;
        case 1:
            check_take(times);
            continue;
        default:
            times[i] = (uint64_t)rand() % TIMES;
        }
        due_set(&due, &sessions[i], times[i]);
        ck_assert_uint_eq(due_next_ns(&due), least_of(times));
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("due");
    TCase *cases = tcase_create("due");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, what_is_due_first_comes_first_and_nothing_before_its_time);
    tcase_add_test(cases, only_a_new_first_is_told);
    tcase_add_test(cases, whatever_is_put_in_moved_and_taken_out_the_first_is_the_least);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
