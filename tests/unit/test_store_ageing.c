/* What time does to sessions that nobody uses. */
#include "daemon/base/clock.h"
#include "daemon/store/fork.h"
#include "tests/unit/test_store_support.h"

enum { STEP_MS = 60, LONG_STEP_MS = 60000 };

static void open_with(const char *name, struct session_policy policy) {
    struct session_state state;
    struct store_open request = {.session = name_of(name),
                                 .model = name_of("model"),
                                 .geometry = &geometry,
                                 .policy = policy};
    ck_assert_int_eq(store_open(&store, &request, &state), STORE_OK);
}

static void sleep_ms(unsigned ms) {
    nanosleep(&(struct timespec){.tv_nsec = (long)(ms * CLOCK_NS_PER_MS)}, NULL);
}

static void wait_for_tokens_at(const char *name, int level, uint64_t tokens) {
    for (int i = 0; i < WAIT_STEPS && tokens_at(name, level) != tokens; i++)
        wait_step();
    ck_assert_uint_eq(tokens_at(name, level), tokens);
}

static void wait_until_gone(const char *name) {
    for (int i = 0; i < WAIT_STEPS && has_session(name); i++)
        wait_step();
    ck_assert(!has_session(name));
}

static void change_policy(const char *name, const struct session_policy_change *change) {
    struct session_state state;
    struct session *session = store_find(&store, name_of(name));
    ck_assert_int_eq(policy_change(&store, session, change, &state), STORE_OK);
    (void)policy_heed(&store, session);
    session_unref(session);
}

/* Time begins to count for the session: what a test does before may take as long as it likes. */
static void set_idle_step(const char *name, uint64_t idle_step_ms) {
    const struct session_policy_change change = {.idle_step = true,
                                                 .to = {.idle_step_ms = idle_step_ms}};
    change_policy(name, &change);
}

static void set_ttl(const char *name, uint64_t ttl_ms) {
    const struct session_policy_change change = {.ttl = true, .to = {.ttl_ms = ttl_ms}};
    change_policy(name, &change);
}

START_TEST(an_idle_session_gets_coarser_down_to_its_floor_and_no_further) {
    open_with("a", (struct session_policy){.level = 1, .floor = 3});
    store_tokens("a", 0, 512, true);
    ck_assert_uint_eq(tokens_at("a", 1), 512 - PAGE_SINK_TOKENS);
    set_idle_step("a", STEP_MS);
    wait_for_tokens_at("a", 3, 512 - PAGE_SINK_TOKENS);
    sleep_ms(3 * STEP_MS);
    ck_assert_uint_eq(tokens_at("a", 3), 512 - PAGE_SINK_TOKENS);
    struct ageing_stats stats;
    ageing_read_stats(&store.ageing, &stats);
    ck_assert_uint_ge(stats.chunks, 4);
    ck_assert_uint_lt(stats.bytes_after, stats.bytes_before);
    ck_assert_uint_eq(due_next_ns(&store.ageing.due), DUE_NEVER);
}
END_TEST

static uint64_t cpu_ns(void) {
    struct timespec spent;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
    return (uint64_t)spent.tv_sec * CLOCK_NS_PER_S + (uint64_t)spent.tv_nsec;
}

static uint64_t aged_chunks(void) {
    struct ageing_stats stats;
    ageing_read_stats(&store.ageing, &stats);
    return stats.chunks;
}

/* Touching memory ahead takes the keeper's time, too, and is no part of ageing. */
static void wait_until_nothing_is_touched(void) {
    uint64_t warm_bytes;
    do {
        warm_bytes = pool_warm_bytes(store.pool);
        sleep_ms(20);
    } while (pool_warm_bytes(store.pool) != warm_bytes);
}

/* The test itself does next to nothing meanwhile; a part of a core is left for what the library and
 * the system do. */
START_TEST(ageing_takes_a_quarter_of_one_core_at_most) {
    enum { SESSIONS = 24, CHUNKS = SESSIONS * TOKENS_MAX / PAGE };
    const struct session_policy policy = {.level = 1, .floor = 2, .idle_step_ms = 1000};
    for (char name[] = "a"; name[0] < 'a' + SESSIONS; name[0]++) {
        open_with(name, policy);
        store_tokens(name, 0, TOKENS_MAX, true);
    }
    for (char name[] = "a"; name[0] < 'a' + SESSIONS; name[0]++)
        open_with(name, policy); /* used last all at once, so that all is due at once */
    wait_until_nothing_is_touched();
    while (aged_chunks() == 0)
        sleep_ms(1);
    uint64_t cpu = cpu_ns(), begun = clock_now_ns();
    while (aged_chunks() < CHUNKS)
        sleep_ms(5);
    ck_assert_uint_le((cpu_ns() - cpu) * 10, (clock_now_ns() - begun) * 4);
}
END_TEST

/* A session that takes no step before it is told to. */
static void store_idle(const char *name, uint64_t tokens) {
    open_with(name, (struct session_policy){.level = 1, .floor = 2});
    store_tokens(name, 0, tokens, true);
    leave_idle(name);
}

START_TEST(a_session_in_use_stays_as_it_is) {
    store_idle("idle", 256);
    store_idle("used", 256);
    ck_assert_int_eq(fetch_all("used", 0, 256, 1), STORE_OK);
    set_idle_step("used", LONG_STEP_MS);
    set_idle_step("idle", LONG_STEP_MS);
    wait_for_tokens_at("idle", 2, 256 - PAGE_SINK_TOKENS);
    ck_assert_uint_eq(tokens_at("used", 1), 256 - PAGE_SINK_TOKENS);
}
END_TEST

START_TEST(tokens_that_come_after_an_idle_time_begin_at_the_sessions_level) {
    store_idle("a", 128);
    set_idle_step("a", LONG_STEP_MS);
    wait_for_tokens_at("a", 2, 128 - PAGE_SINK_TOKENS);
    store_tokens("a", 128, 256, true);
    set_idle_step("a", LONG_STEP_MS); /* the keeper looks at it */
    wait_for_keeper("a");
    ck_assert_uint_eq(tokens_at("a", 1), 128);
    ck_assert_uint_eq(tokens_at("a", 2), 128 - PAGE_SINK_TOKENS);
    leave_idle("a");
    set_idle_step("a", LONG_STEP_MS);
    wait_for_tokens_at("a", 2, 256 - PAGE_SINK_TOKENS);
}
END_TEST

START_TEST(the_newest_tokens_get_coarser_too) {
    open_with("a", (struct session_policy){.level = 3,
                                           .newest_tokens = 128,
                                           .newest_level = 1,
                                           .floor = 4,
                                           .idle_step_ms = STEP_MS});
    store_tokens("a", 0, 384, true);
    wait_for_tokens_at("a", 4, 384 - PAGE_SINK_TOKENS);
}
END_TEST

START_TEST(a_fork_that_is_used_keeps_what_it_shares_as_fine_as_it_is) {
    struct session_state state;
    open_with("a", (struct session_policy){.level = 1, .floor = 3});
    store_tokens("a", 0, 256, true);
    struct fork_request fork = {.session = name_of("a"), .target = name_of("b")};
    ck_assert_int_eq(store_fork(&store, &fork, &state), STORE_OK);
    set_idle_step("a", STEP_MS);
    sleep_ms(5 * STEP_MS);
    ck_assert_uint_eq(tokens_at("a", 1), 256 - PAGE_SINK_TOKENS);
    ck_assert_int_eq(delete_session("b"), STORE_OK);
    keeper_poke(&store.keeper);
    wait_for_tokens_at("a", 3, 256 - PAGE_SINK_TOKENS);
}
END_TEST

START_TEST(a_session_past_its_time_to_live_is_deleted) {
    open_with("a", (struct session_policy){.level = 3});
    open_with("b", (struct session_policy){.level = 3});
    store_tokens("a", 0, 200, false);
    uint64_t before = info_of("b").stored_bytes;
    set_ttl("a", STEP_MS);
    wait_until_gone("a");
    ck_assert(has_session("b"));
    ck_assert_uint_eq(info_of("b").stored_bytes, before);
    struct ageing_stats stats;
    ageing_read_stats(&store.ageing, &stats);
    ck_assert_uint_eq(stats.expired_sessions, 1);
}
END_TEST

START_TEST(a_pinned_session_lives_until_its_pin_has_ended) {
    open_with("a", (struct session_policy){.level = 3});
    pin_for("a", UINT64_MAX);
    set_ttl("a", STEP_MS);
    sleep_ms(4 * STEP_MS);
    ck_assert(has_session("a"));
    pin_for("a", 0);
    wait_until_gone("a");
}
END_TEST

START_TEST(an_append_under_way_keeps_a_session_alive) {
    open_with("a", (struct session_policy){.level = 3});
    struct append_member *append = begin("a", 0, 128, false);
    set_ttl("a", STEP_MS);
    sleep_ms(4 * STEP_MS);
    ck_assert_int_eq(put_all(append, 0, 128), STORE_OK);
    ck_assert(has_session("a"));
    ck_assert_int_eq(commit(append), STORE_OK);
    append_end(append);
}
END_TEST

START_TEST(a_policy_that_changes_takes_effect_from_then_on) {
    open_with("a", (struct session_policy){.level = 1, .floor = 1});
    store_tokens("a", 0, 256, true);
    struct session_policy_change change = {
        .idle_step = true, .floor = true, .to = {.idle_step_ms = STEP_MS, .floor = 2}};
    change_policy("a", &change);
    wait_for_tokens_at("a", 2, 256 - PAGE_SINK_TOKENS);
    set_ttl("a", 1);
    wait_until_gone("a");
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("ageing");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, an_idle_session_gets_coarser_down_to_its_floor_and_no_further);
    tcase_add_test(cases, ageing_takes_a_quarter_of_one_core_at_most);
    tcase_add_test(cases, a_session_in_use_stays_as_it_is);
    tcase_add_test(cases, tokens_that_come_after_an_idle_time_begin_at_the_sessions_level);
    tcase_add_test(cases, the_newest_tokens_get_coarser_too);
    tcase_add_test(cases, a_fork_that_is_used_keeps_what_it_shares_as_fine_as_it_is);
    tcase_add_test(cases, a_session_past_its_time_to_live_is_deleted);
    tcase_add_test(cases, a_pinned_session_lives_until_its_pin_has_ended);
    tcase_add_test(cases, an_append_under_way_keeps_a_session_alive);
    tcase_add_test(cases, a_policy_that_changes_takes_effect_from_then_on);
    return run_suite(cases);
}
