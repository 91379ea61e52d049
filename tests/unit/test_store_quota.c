/* Quotas of tenants: what one holds is charged to it alone, and all of it is given back. */
#include "tests/unit/test_store_quota_support.h"

static void set_up_tenants(void) {
    set_up();
    find_tenants();
}

static void tear_down_tenants(void) {
    store_tenant = NULL;
    tear_down();
}

static void limit_memory(uint64_t bytes) {
    struct tenant_limits limits = no_limits();
    limits.memory_bytes = bytes;
    limit_greedy(limits);
}

static void limit_sessions(uint64_t sessions) {
    struct tenant_limits limits = no_limits();
    limits.sessions = sessions;
    limit_greedy(limits);
}

START_TEST(what_a_tenant_holds_is_charged_to_it_and_to_nobody_else) {
    store_exactly("s", PAGE);
    ck_assert_uint_gt(used(greedy), CHUNK_BYTES / 2);
    ck_assert_uint_eq(used(calm), 0);
    ck_assert_uint_eq(atomic_load(&greedy->session_count.used), 1);
}
END_TEST

START_TEST(after_a_delete_nothing_is_charged) {
    store_exactly("s", 3 * PAGE + 5);
    ck_assert_int_eq(delete_session("s"), STORE_OK);
    wait_until_nothing_is_charged(greedy);
}
END_TEST

START_TEST(after_an_append_that_was_left_nothing_is_charged) {
    ck_assert_int_eq(open_session("s", PAGE_EXACT), STORE_OK);
    struct append_member *append = begin("s", 0, 2 * PAGE + 5, false);
    ck_assert_int_eq(put_run(append, 0, PAGE), STORE_OK);
    append_end(append);
    ck_assert_int_eq(delete_session("s"), STORE_OK);
    wait_until_nothing_is_charged(greedy);
}
END_TEST

START_TEST(what_forks_share_is_charged_once_until_the_last_of_them_is_gone) {
    store_exactly("s", 4 * PAGE);
    uint64_t alone = used(greedy);
    ck_assert_int_eq(fork_session("s", "fork", 0), STORE_OK);
    ck_assert_uint_lt(used(greedy) - alone, CHUNK_BYTES / 2);
    ck_assert_int_eq(delete_session("s"), STORE_OK);
    ck_assert_uint_gt(used(greedy), alone / 2);
    ck_assert_int_eq(delete_session("fork"), STORE_OK);
    wait_until_nothing_is_charged(greedy);
}
END_TEST

START_TEST(what_was_coded_anew_and_what_idle_tails_became_is_charged_as_it_is) {
    ck_assert_int_eq(open_session("s", 3), STORE_OK);
    store_tokens("s", 0, 2 * PAGE + 5, false);
    for (int i = 0; i < WAIT_STEPS && used(greedy) > 2 * CHUNK_BYTES; i++)
        wait_step();
    ck_assert_int_eq(delete_session("s"), STORE_OK);
    wait_until_nothing_is_charged(greedy);
}
END_TEST

START_TEST(at_its_quota_a_tenant_gets_no_more_and_others_do) {
    limit_memory(1 << 20);
    store_exactly("s", PAGE);
    ck_assert_int_eq(open_session("more", PAGE_EXACT), STORE_OK);
    struct append_member *append = begin("more", 0, 4 * PAGE, true);
    ck_assert_int_eq(put_all(append, 0, 4 * PAGE), STORE_FULL);
    ck_assert_ptr_eq(budget_short_of(&greedy->memory), &greedy->memory);
    append_end(append);
    store_tenant = calm;
    store_exactly("s", 8 * PAGE);
    ck_assert_int_eq(fetch_all("s", 0, 8 * PAGE, 0), STORE_OK);
}
END_TEST

/* Has the keeper look for the tenant that waits, until it holds at most so much. */
static void wait_for_room(uint64_t bytes) {
    budget_wait_begin(&greedy->memory);
    keeper_poke(&store.keeper);
    for (int i = 0; i < WAIT_STEPS && used(greedy) > bytes; i++)
        wait_step();
    budget_wait_end(&greedy->memory);
    ck_assert_uint_le(used(greedy), bytes);
}

START_TEST(who_waits_at_its_quota_loses_its_own_coldest_and_no_neighbour_anything) {
    store_tenant = calm;
    store_exactly("cold", 4 * PAGE);
    store_tenant = greedy;
    store_exactly("first", 4 * PAGE);
    store_exactly("second", 4 * PAGE);
    uint64_t before = used(greedy);
    wait_for_room(before / 2 + before / 4);
    ck_assert_int_eq(fetch_all("second", 0, 4 * PAGE, 0), STORE_OK);
    store_tenant = calm;
    ck_assert_int_eq(fetch_all("cold", 0, 4 * PAGE, 0), STORE_OK);
}
END_TEST

START_TEST(a_quota_that_is_lowered_is_come_below) {
    store_exactly("first", 4 * PAGE);
    store_exactly("second", 4 * PAGE);
    uint64_t limit = used(greedy) / 2;
    limit_memory(limit);
    keeper_poke(&store.keeper);
    for (int i = 0; i < WAIT_STEPS && used(greedy) > limit; i++)
        wait_step();
    ck_assert_uint_le(used(greedy), limit);
}
END_TEST

START_TEST(at_the_daemons_limit_who_holds_more_than_a_fair_share_pays) {
    store_tenant = calm;
    store_exactly("cold", 2 * PAGE);
    store_tenant = greedy;
    store_exactly("warm", 8 * PAGE);
    store_exactly("warmer", 8 * PAGE);
    struct pressure *pressure = &store.pressure;
    take_over_from_keeper();
    ck_assert_int_eq(store_set_limit(&store, store_limits(&store).least_bytes), 0);
    budget_wait_begin(&store.budget);
    pressure_begin_round(pressure);
    ck_assert(pressure_next(pressure));
    ck_assert_ptr_null(pressure->short_of);
    pressure_choose_payer(pressure);
    budget_wait_end(&store.budget);
    ck_assert_ptr_eq(pressure->payer, greedy);
    ck_assert(pressure_evict(pressure));
    store_tenant = calm;
    ck_assert_int_eq(fetch_all("cold", 0, 2 * PAGE, 0), STORE_OK);
}
END_TEST

START_TEST(sessions_beyond_the_quota_are_refused_until_one_is_deleted) {
    limit_sessions(2);
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    ck_assert_int_eq(open_session("b", PAGE_EXACT), STORE_OK);
    ck_assert_int_eq(open_session("c", PAGE_EXACT), STORE_TOO_MANY);
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_int_eq(open_session("c", PAGE_EXACT), STORE_OK);
    store_tenant = calm;
    ck_assert_int_eq(open_session("c", PAGE_EXACT), STORE_OK);
}
END_TEST

START_TEST(a_fork_is_one_session_more) {
    store_exactly("s", PAGE);
    limit_sessions(1);
    uint64_t before = used(greedy);
    ck_assert_int_eq(fork_session("s", "fork", 0), STORE_TOO_MANY);
    for (int i = 0; i < WAIT_STEPS && used(greedy) != before; i++)
        wait_step();
    ck_assert_uint_eq(used(greedy), before);
    ck_assert_uint_eq(atomic_load(&greedy->session_count.used), 1);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("quota");
    tcase_add_checked_fixture(cases, set_up_tenants, tear_down_tenants);
    tcase_add_test(cases, what_a_tenant_holds_is_charged_to_it_and_to_nobody_else);
    tcase_add_test(cases, after_a_delete_nothing_is_charged);
    tcase_add_test(cases, after_an_append_that_was_left_nothing_is_charged);
    tcase_add_test(cases, what_forks_share_is_charged_once_until_the_last_of_them_is_gone);
    tcase_add_test(cases, what_was_coded_anew_and_what_idle_tails_became_is_charged_as_it_is);
    tcase_add_test(cases, at_its_quota_a_tenant_gets_no_more_and_others_do);
    tcase_add_test(cases, who_waits_at_its_quota_loses_its_own_coldest_and_no_neighbour_anything);
    tcase_add_test(cases, a_quota_that_is_lowered_is_come_below);
    tcase_add_test(cases, at_the_daemons_limit_who_holds_more_than_a_fair_share_pays);
    tcase_add_test(cases, sessions_beyond_the_quota_are_refused_until_one_is_deleted);
    tcase_add_test(cases, a_fork_is_one_session_more);
    return run_suite(cases);
}
