/* Tails of idle sessions are coded, and stay what they are to everybody who reads or goes on. */
#include "daemon/base/clock.h"
#include "daemon/store/evict.h"
#include "tests/unit/test_store_support.h"

enum { IDLE_MS = 30 };

/* The keeper may hold for a moment what is freed. */
static void wait_for_used(uint64_t most_bytes) {
    for (int i = 0; i < WAIT_STEPS && store_used_bytes(&store) > most_bytes; i++)
        wait_step();
    ck_assert_uint_le(store_used_bytes(&store), most_bytes);
}

/* No tail is idle but while a test waits for it: nothing depends on what else takes how long. */
static void code_tail(const char *name) {
    ageing_set_tails(&store.ageing, IDLE_MS, PAGE_FAST8);
    for (int i = 0; i < WAIT_STEPS && !info_of(name).tail_coded; i++)
        wait_step();
    ck_assert(info_of(name).tail_coded);
    ageing_set_tails(&store.ageing, 0, PAGE_FAST8);
}

static struct ageing_stats stats(void) {
    struct ageing_stats stats;
    ageing_read_stats(&store.ageing, &stats);
    return stats;
}

/* Appends behind a tail, which is then coded with it. */
static void settle(const char *name, uint64_t first, uint64_t end) {
    struct append_member *append;
    struct session_state state;
    struct append_request request = {.session = name_of(name),
                                     .first = first,
                                     .tokens = end - first,
                                     .tail_tokens = (uint32_t)(first % PAGE),
                                     .settle = true,
                                     .runs_max = 64,
                                     .members = 1};
    ck_assert_int_eq(append_begin(&store, &request, &append, &state), STORE_OK);
    ck_assert_int_eq(put_all(append, first, end), STORE_OK);
    ck_assert_int_eq(commit(append), STORE_OK);
    append_end(append);
}

static double loss_of(const char *name) {
    return info_of(name).loss[PAGE_K].error;
}

START_TEST(the_tail_of_an_idle_session_takes_less_and_is_still_its_tail) {
    ck_assert_int_eq(open_session("a", 3), STORE_OK);
    store_tokens("a", 0, 200, false);
    struct session_info before = info_of("a");
    code_tail("a");
    struct session_info after = info_of("a");
    ck_assert_uint_lt(after.tail.bytes, before.tail.bytes * 2 / 5);
    ck_assert_int_eq(after.tail_level, PAGE_FAST8);
    ck_assert_uint_eq(after.tail.tokens, 72);
    ck_assert_uint_eq(after.state.tail_tokens, 72);
    ck_assert_uint_eq(after.state.version, before.state.version);
    for (int i = 0; i < WAIT_STEPS && stats().tail_bytes_after == 0; i++)
        wait_step(); /* it is there a little before it is counted */
    ck_assert_uint_eq(stats().coded_tails, 1);
    ck_assert_uint_eq(stats().tail_bytes_before, before.tail.bytes);
    ck_assert_uint_eq(stats().tail_bytes_after, after.tail.bytes);
    ck_assert_int_eq(fetch_all("a", 128, 200, 0.05f), STORE_OK);
}
END_TEST

START_TEST(an_exact_session_s_tail_is_coded_exactly) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, 200, false);
    code_tail("a");
    ck_assert_int_eq(info_of("a").tail_level, PAGE_EXACT);
    ck_assert_int_eq(fetch_all("a", 0, 200, 0), STORE_OK);
    ck_assert(loss_of("a") == 0);
}
END_TEST

START_TEST(where_decibels_are_promised_the_tail_is_coded_exactly) {
    struct session_state state;
    struct store_open request = {.session = name_of("a"),
                                 .model = name_of("model"),
                                 .geometry = &geometry,
                                 .policy = {.level = 5, .floor = 5, .min_snr_db = 20}};
    ck_assert_int_eq(store_open(&store, &request, &state), STORE_OK);
    store_tokens("a", 0, 100, false);
    code_tail("a");
    ck_assert_int_eq(fetch_all("a", 0, 100, 0), STORE_OK);
    settle("a", 100, 128);
    ck_assert(!info_of("a").loss[PAGE_K].estimated);
}
END_TEST

START_TEST(an_append_goes_on_behind_a_coded_tail) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, 100, false);
    code_tail("a");
    store_tokens("a", 100, 110, false);
    ck_assert(!info_of("a").tail_coded);
    ck_assert_uint_eq(stats().decoded_tails, 1);
    ck_assert_int_eq(fetch_all("a", 0, 110, 0), STORE_OK);
    code_tail("a");
    store_tokens("a", 110, 300, false);
    ck_assert_int_eq(fetch_all("a", 0, 300, 0), STORE_OK);
    ck_assert_uint_eq(info_of("a").chunks, 2);
}
END_TEST

START_TEST(what_a_coded_tail_lost_is_told_of_what_becomes_of_it) {
    ck_assert_int_eq(open_session("a", 1), STORE_OK);
    store_tokens("a", 0, 100, false);
    ck_assert(loss_of("a") == 0);
    code_tail("a");
    double lost = loss_of("a");
    ck_assert(lost > 0);
    store_tokens("a", 100, 110, false);
    struct session_info raw = info_of("a");
    ck_assert_double_eq(raw.loss[PAGE_K].error, lost);
    ck_assert_int_eq(raw.tail_level, PAGE_FAST8);
    settle("a", 110, 128);
    struct session_info page = info_of("a");
    ck_assert(page.loss[PAGE_K].error > lost);
    ck_assert(page.loss[PAGE_K].estimated);
}
END_TEST

START_TEST(a_fetch_of_rows_that_were_coded_says_what_they_have_lost) {
    ck_assert_int_eq(open_session("a", 1), STORE_OK);
    store_tokens("a", 0, 100, false);
    code_tail("a");
    store_tokens("a", 100, 110, false);
    struct fetch fetch;
    struct fetch_piece pieces[GEOMETRY_PARTS];
    size_t count;
    struct fetch_request request = {.session = name_of("a")};
    ck_assert_int_eq(fetch_begin(&store, &request, &fetch), STORE_OK);
    while (fetch_next(&store, &fetch, &got_room, workspace, pieces, &count) == STORE_MORE)
        ;
    ck_assert_double_eq(fetch.loss[PAGE_V].error, info_of("a").loss[PAGE_V].error);
    ck_assert(fetch.loss[PAGE_V].error > 0);
    ck_assert_uint_eq(fetch.level_tokens[PAGE_FAST8 - PAGE_LEVEL_MIN], 110);
}
END_TEST

START_TEST(forks_have_a_coded_tail_together_and_go_on_apart) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, 100, false);
    code_tail("a");
    ck_assert_int_eq(fork_session("a", "b", 60), STORE_OK);
    struct session_info fork = info_of("b");
    ck_assert(fork.tail_coded);
    ck_assert_uint_eq(fork.tail.tokens, 60);
    ck_assert_uint_le(fork.unique_bytes, fork.stored_bytes - fork.tail.bytes);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_int_eq(fetch_all("b", 0, 60, 0), STORE_OK);
    store_tokens("b", 60, 150, false);
    ck_assert_int_eq(fetch_all("b", 0, 150, 0), STORE_OK);
}
END_TEST

START_TEST(forks_that_shared_a_raw_tail_share_what_it_is_coded_to) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, 100, false);
    ck_assert_int_eq(fork_session("a", "b", 0), STORE_OK);
    uint64_t raw = info_of("a").tail.bytes;
    uint64_t used = store_used_bytes(&store);
    code_tail("a");
    code_tail("b");
    struct session_info info = info_of("b");
    ck_assert_uint_le(info.unique_bytes, info.stored_bytes - info.tail.bytes);
    wait_for_used(used - raw + info.tail.bytes);
}
END_TEST

START_TEST(a_cut_within_a_coded_tail_leaves_its_first_rows) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, 228, false);
    code_tail("a");
    ck_assert_int_eq(truncate_session("a", 150), STORE_OK);
    ck_assert_uint_eq(info_of("a").tail.tokens, 22);
    store_tokens("a", 150, 200, false);
    ck_assert_int_eq(fetch_all("a", 0, 200, 0), STORE_OK);
    code_tail("a");
    ck_assert_int_eq(truncate_session("a", 100), STORE_OK);
    ck_assert_uint_eq(info_of("a").tail.tokens, 0);
}
END_TEST

/* The values of other tokens under the numbers of these. */
static void store_others(const char *name, uint64_t first, uint32_t tokens, uint64_t from) {
    struct append_member *append = begin(name, first, tokens, false);
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        for (enum page_part part = PAGE_K; part <= PAGE_V; part++) {
            struct append_part piece = {.first = first,
                                        .tokens = tokens,
                                        .layer = layer,
                                        .part = part,
                                        .values = values + from * ROW_VALUES,
                                        .bytes = tokens * ROW_VALUES * sizeof(float)};
            ck_assert_int_eq(append_put(append, &piece, workspace), STORE_OK);
        }
    ck_assert_int_eq(commit(append), STORE_OK);
    append_end(append);
}

START_TEST(rows_that_were_cut_off_are_not_taken_from_what_a_fork_coded) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_others("a", 0, 100, 500);
    ck_assert_int_eq(fork_session("a", "b", 0), STORE_OK);
    ageing_set_tails(&store.ageing, 300, PAGE_EXACT);
    while (!info_of("a").tail_coded)
        ck_assert_int_eq(open_session("b", PAGE_EXACT), STORE_OK);
    ck_assert_int_eq(truncate_session("b", 50), STORE_OK);
    store_tokens("b", 50, 100, false);
    code_tail("b");
    ck_assert_int_eq(fetch_all("b", 50, 100, 0), STORE_OK);
}
END_TEST

START_TEST(a_dropped_append_leaves_the_coded_tail) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, 100, false);
    code_tail("a");
    uint64_t used = store_used_bytes(&store);
    struct append_member *append = begin("a", 100, 100, false);
    ck_assert_int_eq(put_run(append, 100, 28), STORE_OK);
    append_end(append);
    ck_assert(info_of("a").tail_coded);
    wait_for_used(used);
    ck_assert_int_eq(fetch_all("a", 0, 100, 0), STORE_OK);
}
END_TEST

START_TEST(an_append_that_settles_codes_a_page_of_both) {
    ck_assert_int_eq(open_session("a", 3), STORE_OK);
    store_tokens("a", 0, 100, false);
    code_tail("a");
    settle("a", 100, 110);
    struct session_info info = info_of("a");
    ck_assert_uint_eq(info.tail.tokens, 0);
    ck_assert(!info.tail_coded);
    ck_assert_uint_eq(info.levels[3 - PAGE_LEVEL_MIN].tokens, 110 - PAGE_SINK_TOKENS);
    ck_assert_int_eq(fetch_all("a", 0, 110, 1), STORE_OK);
}
END_TEST

START_TEST(an_eviction_takes_a_coded_tail_first) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, 300, false);
    code_tail("a");
    uint64_t used = store_used_bytes(&store), tail = info_of("a").tail.bytes;
    struct session *session = store_find(&store, name_of("a"));
    struct evict_result result;
    ck_assert_int_eq(
        evict_session(&store, session, &(struct evict_request){.want_bytes = 1}, &result),
        STORE_OK);
    session_unref(session);
    ck_assert_uint_eq(result.tokens, 44);
    ck_assert_uint_eq(result.bytes, tail);
    wait_for_used(used - tail);
    ck_assert(!info_of("a").tail_coded);
    ck_assert_int_eq(fetch_all("a", 0, 256, 0), STORE_OK);
}
END_TEST

START_TEST(deleting_a_session_frees_its_coded_tail) {
    ck_assert_int_eq(open_session("a", 3), STORE_OK);
    uint64_t entry = store_used_bytes(&store);
    store_tokens("a", 0, 100, false);
    code_tail("a");
    ck_assert_int_eq(truncate_session("a", 0), STORE_OK);
    for (int i = 0; i < WAIT_STEPS && atomic_load(&store.usage.pages_bytes) > 0; i++)
        wait_step();
    ck_assert_uint_eq(atomic_load(&store.usage.pages_bytes), 0);
    store_tokens("a", 0, 100, false);
    code_tail("a");
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    wait_for_used(entry);
    ck_assert_uint_eq(atomic_load(&store.usage.tail_tokens), 0);
    ck_assert_uint_eq(atomic_load(&store.usage.pages_bytes), 0);
}
END_TEST

static bool is_given_up(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    pthread_mutex_lock(session->lock);
    bool given_up = session->tail_retry_ns == DUE_NEVER;
    pthread_mutex_unlock(session->lock);
    session_unref(session);
    return given_up;
}

START_TEST(a_tail_that_takes_no_less_when_coded_stays_raw_and_nothing_else_is_kept) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, 1, false);
    uint64_t before = store_used_bytes(&store);
    ageing_set_tails(&store.ageing, IDLE_MS, PAGE_FAST8);
    for (int i = 0; i < WAIT_STEPS && !is_given_up("a"); i++)
        wait_step();
    ck_assert(is_given_up("a"));
    ck_assert(!info_of("a").tail_coded);
    ck_assert_uint_le(store_used_bytes(&store), before);
}
END_TEST

START_TEST(sums_over_all_sessions_have_a_coded_tail_among_the_pages) {
    ck_assert_int_eq(open_session("a", 3), STORE_OK);
    store_tokens("a", 0, 100, false);
    ck_assert_uint_eq(atomic_load(&store.usage.tail_tokens), 100);
    code_tail("a");
    ck_assert_uint_eq(atomic_load(&store.usage.tail_tokens), 0);
    ck_assert_uint_eq(atomic_load(&store.usage.tails_bytes), 0);
    ck_assert_uint_eq(atomic_load(&store.usage.levels[PAGE_FAST8 - PAGE_LEVEL_MIN].tokens),
                      100 - PAGE_SINK_TOKENS);
    struct store_totals totals;
    info_totals(&store, &totals);
    ck_assert_uint_eq(totals.unique_bytes, info_of("a").stored_bytes);
    ck_assert_uint_eq(totals.tokens, 100);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("idle tail");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, the_tail_of_an_idle_session_takes_less_and_is_still_its_tail);
    tcase_add_test(cases, an_exact_session_s_tail_is_coded_exactly);
    tcase_add_test(cases, where_decibels_are_promised_the_tail_is_coded_exactly);
    tcase_add_test(cases, an_append_goes_on_behind_a_coded_tail);
    tcase_add_test(cases, what_a_coded_tail_lost_is_told_of_what_becomes_of_it);
    tcase_add_test(cases, a_fetch_of_rows_that_were_coded_says_what_they_have_lost);
    tcase_add_test(cases, forks_have_a_coded_tail_together_and_go_on_apart);
    tcase_add_test(cases, forks_that_shared_a_raw_tail_share_what_it_is_coded_to);
    tcase_add_test(cases, a_cut_within_a_coded_tail_leaves_its_first_rows);
    tcase_add_test(cases, rows_that_were_cut_off_are_not_taken_from_what_a_fork_coded);
    tcase_add_test(cases, a_dropped_append_leaves_the_coded_tail);
    tcase_add_test(cases, an_append_that_settles_codes_a_page_of_both);
    tcase_add_test(cases, an_eviction_takes_a_coded_tail_first);
    tcase_add_test(cases, deleting_a_session_frees_its_coded_tail);
    tcase_add_test(cases, a_tail_that_takes_no_less_when_coded_stays_raw_and_nothing_else_is_kept);
    tcase_add_test(cases, sums_over_all_sessions_have_a_coded_tail_among_the_pages);
    return run_suite(cases);
}
