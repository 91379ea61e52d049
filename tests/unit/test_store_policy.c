/* What a session's policy makes of its tokens: by their place, by time, and by request. */
#include "tests/unit/test_store_support.h"

static const struct session_policy sliding = {
    .level = 4, .newest_tokens = 200, .newest_level = 1, .floor = 5, .idle_step_ms = 1000};

START_TEST(tokens_among_the_newest_are_finer_and_a_chunk_that_is_only_partly_so_is_whole) {
    ck_assert_int_eq(session_policy_level(&sliding, 1000, 1000), 1);
    ck_assert_int_eq(session_policy_level(&sliding, 801, 1000), 1);
    ck_assert_int_eq(session_policy_level(&sliding, 800, 1000), 4);
    const struct session_policy plain = {.level = 3};
    ck_assert_int_eq(session_policy_level(&plain, 1000, 1000), 3);
}
END_TEST

START_TEST(every_idle_step_is_a_level_down_to_the_floor) {
    ck_assert_int_eq(session_policy_idle_steps(&sliding, UINT64_C(999999999)), 0);
    ck_assert_int_eq(session_policy_idle_steps(&sliding, UINT64_C(2000000000)), 2);
    ck_assert_int_eq(session_policy_level_idle(&sliding, 1000, 1000, 2), 3);
    ck_assert_int_eq(session_policy_level_idle(&sliding, 1000, 1000, 4), 5);
    ck_assert_int_eq(session_policy_level_idle(&sliding, 500, 1000, 2), 5);
    ck_assert_int_eq(session_policy_level_idle(&sliding, 500, 1000,
                                               session_policy_idle_steps(&sliding, UINT64_MAX)),
                     5);
}
END_TEST

START_TEST(without_idle_steps_time_changes_nothing) {
    const struct session_policy patient = {.level = 3, .floor = 5};
    ck_assert_int_eq(session_policy_idle_steps(&patient, UINT64_MAX), 0);
}
END_TEST

START_TEST(a_floor_is_no_finer_than_the_level_and_the_newest_no_coarser) {
    struct session_policy bounded =
        session_policy_bounded((struct session_policy){.level = 3, .floor = 1, .newest_level = 4});
    ck_assert_int_eq(bounded.floor, 3);
    ck_assert_int_eq(bounded.newest_level, 3);
}
END_TEST

static void open_with(const char *name, struct session_policy policy) {
    struct session_state state;
    struct store_open request = {.session = name_of(name),
                                 .model = name_of("model"),
                                 .geometry = &geometry,
                                 .policy = policy};
    ck_assert_int_eq(store_open(&store, &request, &state), STORE_OK);
}

START_TEST(tokens_get_the_coarser_level_when_they_are_no_longer_the_newest) {
    open_with("a", (struct session_policy){
                       .level = 4, .newest_tokens = 200, .newest_level = 1, .floor = 4});
    store_tokens("a", 0, 512, false);
    wait_for_keeper("a");
    ck_assert_uint_eq(tokens_at("a", 1), 256);
    ck_assert_uint_eq(tokens_at("a", 4), 256 - PAGE_SINK_TOKENS);
    store_tokens("a", 512, 640, false);
    wait_for_keeper("a");
    ck_assert_uint_eq(tokens_at("a", 1), 256);
    ck_assert_uint_eq(tokens_at("a", 4), 384 - PAGE_SINK_TOKENS);
}
END_TEST

START_TEST(settled_tokens_are_coded_at_the_level_of_their_place_at_once) {
    open_with("a", (struct session_policy){
                       .level = 4, .newest_tokens = 100, .newest_level = 1, .floor = 4});
    store_tokens("a", 0, 400, true);
    ck_assert_uint_eq(tokens_at("a", 1), 144);
    ck_assert_uint_eq(tokens_at("a", 4), 256 - PAGE_SINK_TOKENS);
    ck_assert(!info_of("a").loss[PAGE_K].estimated);
}
END_TEST

START_TEST(ageing_by_request_takes_the_newest_along) {
    open_with("a", (struct session_policy){
                       .level = 2, .newest_tokens = 200, .newest_level = 1, .floor = 2});
    store_tokens("a", 0, 512, false);
    age_session("a", 3);
    ck_assert_uint_eq(tokens_at("a", 3), 512 - PAGE_SINK_TOKENS);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("policy");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases,
                   tokens_among_the_newest_are_finer_and_a_chunk_that_is_only_partly_so_is_whole);
    tcase_add_test(cases, every_idle_step_is_a_level_down_to_the_floor);
    tcase_add_test(cases, without_idle_steps_time_changes_nothing);
    tcase_add_test(cases, a_floor_is_no_finer_than_the_level_and_the_newest_no_coarser);
    tcase_add_test(cases, tokens_get_the_coarser_level_when_they_are_no_longer_the_newest);
    tcase_add_test(cases, settled_tokens_are_coded_at_the_level_of_their_place_at_once);
    tcase_add_test(cases, ageing_by_request_takes_the_newest_along);
    return run_suite(cases);
}
