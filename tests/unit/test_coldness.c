/* The order in which sessions are done without. */
#include <stdio.h>

#include "tests/unit/test_store_support.h"

enum { SESSIONS = 200, SESSION_TOKENS = 100 };

static struct coldness order;
static uint64_t ghosts[COLDNESS_GHOSTS];
static struct budget budget;
static struct usage usage;
static struct tenant tenant;
static struct session *sessions[SESSIONS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct session *make(int number) {
    char name[20];
    int bytes = snprintf(name, sizeof name, "%d", number);
    struct session_names names = {.tenant = &tenant,
                                  .session = name,
                                  .model = "m",
                                  .session_bytes = (size_t)bytes,
                                  .model_bytes = 1};
    struct session_policy policy = {.level = 3};
    struct session *session = session_new(&budget, &usage, &names, &geometry, &policy);
    session->lock = &lock;
    session->tokens = SESSION_TOKENS;
    return session;
}

static void set_up_order(void) {
    budget_init(&budget, LIMIT_BYTES);
    memset(ghosts, 0, sizeof ghosts);
    coldness_init(&order, COLDNESS_OF_ALL, ghosts);
    for (int i = 0; i < SESSIONS; i++)
        sessions[i] = make(i);
}

static void tear_down_order(void) {
    for (int i = 0; i < SESSIONS; i++) {
        if (sessions[i]->coldness[COLDNESS_OF_ALL].order)
            coldness_remove(&order, sessions[i], false);
        session_unref(sessions[i]);
    }
    coldness_deinit(&order);
}

static void insert(int first, int end) {
    for (int i = first; i < end; i++)
        coldness_insert(&order, sessions[i]);
}

static int number_of(const struct session *session) {
    return session ? atoi(session->name) : -1;
}

static int coldest(void) {
    struct session *session = coldness_coldest(&order);
    int number = number_of(session);
    if (session)
        session_unref(session);
    return number;
}

static int evict_coldest(void) {
    int number = coldest();
    coldness_remove(&order, sessions[number], true);
    return number;
}

START_TEST(an_empty_order_has_no_coldest) {
    ck_assert_int_eq(coldest(), -1);
    coldness_walk_begin(&order);
    ck_assert_ptr_null(coldness_walk(&order));
}
END_TEST

START_TEST(what_was_never_touched_goes_in_the_order_in_which_it_came) {
    insert(0, 10);
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(evict_coldest(), i);
}
END_TEST

START_TEST(who_is_coldest_stays_so_until_it_is_removed) {
    insert(0, 10);
    ck_assert_int_eq(coldest(), 0);
    ck_assert_int_eq(coldest(), 0);
}
END_TEST

START_TEST(what_was_touched_is_not_the_next_victim) {
    insert(0, 10);
    ck_assert_int_eq(coldest(), 0);
    coldness_touch(sessions[0]);
    ck_assert_int_eq(coldest(), 1);
}
END_TEST

/* A run of new sessions, ten times as many as there is room for, passes those that are resumed. */
START_TEST(a_scan_does_not_push_out_what_is_resumed) {
    enum { RESUMED = 20, ROOM = 25 };
    insert(0, RESUMED);
    for (int i = 0; i < RESUMED; i++)
        coldness_touch(sessions[i]);
    for (int i = RESUMED; i < SESSIONS; i++) {
        insert(i, i + 1);
        if (i >= ROOM)
            ck_assert_int_ge(evict_coldest(), RESUMED);
    }
}
END_TEST

START_TEST(what_is_not_resumed_any_more_goes_in_the_end) {
    insert(0, 10);
    for (int touch = 0; touch < 100; touch++)
        coldness_touch(sessions[5]);
    for (int i = 10; i < 10 + 4 * 10; i++) {
        insert(i, i + 1);
        coldness_touch(sessions[i]);
        if (evict_coldest() == 5)
            return;
    }
    ck_abort_msg("touches of long ago keep it for ever");
}
END_TEST

START_TEST(who_comes_back_after_its_eviction_is_not_new) {
    insert(0, 10);
    ck_assert_int_eq(evict_coldest(), 0);
    insert(0, 1);
    for (int i = 1; i < 9; i++)
        ck_assert_int_eq(evict_coldest(), i);
}
END_TEST

START_TEST(one_that_cannot_go_lets_the_others_go_before) {
    insert(0, 3);
    coldness_pass(&order, sessions[0]);
    ck_assert_int_eq(evict_coldest(), 1);
    ck_assert_int_eq(evict_coldest(), 2);
    ck_assert_int_eq(evict_coldest(), 0);
}
END_TEST

START_TEST(the_small_queue_goes_first_while_it_weighs_more_than_a_tenth) {
    insert(0, 20);
    for (int i = 0; i < 18; i++)
        coldness_touch(sessions[i]);
    ck_assert_int_eq(coldest(), 0); /* two of twenty have stayed in the small queue */
    sessions[18]->tokens++;
    coldness_weigh(sessions[18]);
    ck_assert_int_eq(coldest(), 18);
    sessions[0]->tokens += 100;
    coldness_weigh(sessions[0]);
    ck_assert_int_eq(coldest(), 0);
}
END_TEST

START_TEST(a_walk_comes_to_all_from_the_coldest_on) {
    insert(0, 10);
    coldness_touch(sessions[0]);
    ck_assert_int_eq(coldest(), 1);
    coldness_walk_begin(&order);
    static const int expected[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 0}; /* the small queue first */
    for (int i = 0; i < 10; i++) {
        struct session *session = coldness_walk(&order);
        ck_assert_int_eq(number_of(session), expected[i]);
        session_unref(session);
    }
    ck_assert_ptr_null(coldness_walk(&order));
}
END_TEST

START_TEST(a_walk_begins_with_the_main_queue_where_that_has_the_coldest) {
    insert(0, 20);
    for (int i = 0; i < 20; i++)
        coldness_touch(sessions[i]);
    ck_assert_int_eq(coldest(), 0); /* 18 and 19 have stayed in the small queue */
    coldness_walk_begin(&order);
    for (int i = 0; i < 20; i++) {
        struct session *session = coldness_walk(&order);
        ck_assert_int_eq(number_of(session), i);
        session_unref(session);
    }
}
END_TEST

START_TEST(a_walk_goes_on_when_its_next_is_removed) {
    insert(0, 4);
    coldness_walk_begin(&order);
    session_unref(coldness_walk(&order));
    coldness_remove(&order, sessions[1], false);
    struct session *session = coldness_walk(&order);
    ck_assert_int_eq(number_of(session), 2);
    session_unref(session);
    coldness_remove(&order, sessions[3], false);
    ck_assert_ptr_null(coldness_walk(&order));
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("coldness");
    tcase_add_checked_fixture(cases, set_up_order, tear_down_order);
    tcase_add_test(cases, an_empty_order_has_no_coldest);
    tcase_add_test(cases, what_was_never_touched_goes_in_the_order_in_which_it_came);
    tcase_add_test(cases, who_is_coldest_stays_so_until_it_is_removed);
    tcase_add_test(cases, what_was_touched_is_not_the_next_victim);
    tcase_add_test(cases, a_scan_does_not_push_out_what_is_resumed);
    tcase_add_test(cases, what_is_not_resumed_any_more_goes_in_the_end);
    tcase_add_test(cases, who_comes_back_after_its_eviction_is_not_new);
    tcase_add_test(cases, one_that_cannot_go_lets_the_others_go_before);
    tcase_add_test(cases, the_small_queue_goes_first_while_it_weighs_more_than_a_tenth);
    tcase_add_test(cases, a_walk_comes_to_all_from_the_coldest_on);
    tcase_add_test(cases, a_walk_begins_with_the_main_queue_where_that_has_the_coldest);
    tcase_add_test(cases, a_walk_goes_on_when_its_next_is_removed);
    return run_suite(cases);
}
