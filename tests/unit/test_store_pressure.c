/* Who loses tokens when memory runs short. */
#include <stdio.h>

#include "daemon/store/pressure.h"
#include "tests/unit/test_store_support.h"

static void store_exactly(const char *name) {
    ck_assert_int_eq(open_session(name, PAGE_EXACT), STORE_OK);
    store_tokens(name, 0, PAGE, false);
}

static void leave_all_idle(void) {
    struct session *session = list_after(&store.list, 0);
    for (; session; session = list_next(&store.list, session))
        leave_idle(session->name);
}

START_TEST(one_that_frees_nothing_does_not_cost_those_that_were_touched) {
    const char *names[] = {"a", "fork of a", "touched", "never touched"};
    store_exactly("a");
    ck_assert_int_eq(fork_session("a", "fork of a", 0),
                     STORE_OK); /* neither frees anything alone */
    store_exactly("touched");
    store_exactly("never touched");
    ck_assert_int_eq(fetch_all("touched", 0, PAGE, 0), STORE_OK);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        leave_idle(names[i]);
    take_over_from_keeper();
    ck_assert(pressure_evict(&store.pressure));
    ck_assert(has_session("touched"));
    ck_assert(!has_session("never touched"));
}
END_TEST

static uint32_t touches_of(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    ck_assert_ptr_nonnull(session);
    uint32_t touches = atomic_load(&session->coldness[COLDNESS_OF_ALL].touches);
    session_unref(session);
    return touches;
}

START_TEST(an_append_that_takes_long_is_no_touch) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    leave_idle("a");
    struct append_member *append = begin("a", 0, PAGE, false);
    leave_idle("a");
    ck_assert_int_eq(put_all(append, 0, PAGE), STORE_OK);
    ck_assert_int_eq(commit(append), STORE_OK);
    append_end(append);
    ck_assert_uint_eq(touches_of("a"), 0);
}
END_TEST

START_TEST(an_append_that_was_given_up_after_long_is_no_touch) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, PAGE, false);
    struct append_member *append = begin("a", PAGE, PAGE, false);
    leave_idle("a");
    append_end(append);
    ck_assert_uint_eq(touches_of("a"), 0);
}
END_TEST

START_TEST(an_append_after_a_pause_is_a_touch) {
    store_exactly("a");
    leave_idle("a");
    store_tokens("a", PAGE, 2 * PAGE, false);
    ck_assert_uint_eq(touches_of("a"), 1);
}
END_TEST

/* Opens more of them. False once memory is full. */
static bool open_another(int number) {
    char name[16];
    snprintf(name, sizeof name, "%d", number);
    int status = open_session(name, PAGE_EXACT);
    ck_assert(status == STORE_OK || status == STORE_FULL);
    return status == STORE_OK;
}

START_TEST(sessions_that_are_opened_without_end_cost_neither_the_store_nor_others) {
    int number = 0;
    store_exactly("read again");
    ck_assert_int_eq(fetch_all("read again", 0, PAGE, 0), STORE_OK);
    while (open_another(number))
        number++;
    leave_all_idle();
    for (int i = 0; i < WAIT_STEPS && !open_another(number); i++) {
        keeper_poke(&store.keeper); /* as a refused request does */
        wait_step();
    }
    ck_assert(open_another(number + 1));
    ck_assert(!has_session("0"));
    ck_assert_int_eq(fetch_all("read again", 0, PAGE, 0), STORE_OK);
}
END_TEST

static bool begins(struct pressure *pressure) {
    pressure_begin_round(pressure);
    return pressure_next(pressure);
}

START_TEST(where_nothing_can_go_it_is_not_looked_again_at_once) {
    struct pressure pressure = {.store = &store, .high_percent = 92, .low_percent = 88};
    budget_wait_begin(&store.budget); /* somebody waits for memory */
    ck_assert(begins(&pressure));
    pressure_rest(&pressure, UINT64_C(3600000000000));
    ck_assert(!begins(&pressure));
    pressure_rest(&pressure, 0);
    ck_assert(begins(&pressure));
    budget_wait_end(&store.budget);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("pressure");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, one_that_frees_nothing_does_not_cost_those_that_were_touched);
    tcase_add_test(cases, an_append_that_takes_long_is_no_touch);
    tcase_add_test(cases, an_append_that_was_given_up_after_long_is_no_touch);
    tcase_add_test(cases, an_append_after_a_pause_is_a_touch);
    tcase_add_test(cases, sessions_that_are_opened_without_end_cost_neither_the_store_nor_others);
    tcase_add_test(cases, where_nothing_can_go_it_is_not_looked_again_at_once);
    return run_suite(cases);
}
