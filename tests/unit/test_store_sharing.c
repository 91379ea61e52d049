/* Sessions that chose sharing keep the same tokens once, and nothing that they did not ask for. */
#include "daemon/store/fork.h"
#include "tests/unit/test_store_ids_support.h"

static void open_sharing(const char *name, int level, enum session_sharing sharing,
                         double min_snr_db) {
    struct session_state state;
    struct store_open request = {.session = name_of(name),
                                 .model = name_of("model"),
                                 .geometry = &geometry,
                                 .policy = {.level = level, .min_snr_db = min_snr_db},
                                 .sharing = sharing};
    ck_assert_int_eq(store_open(&store, &request, &state), STORE_OK);
}

static void store_and_wait(const char *name, uint64_t first, uint64_t end) {
    store_ids(name, first, end, ids);
    wait_for_keeper(name);
}

/* Session "a" of 512 tokens at this level. */
static void store_first(int level, enum session_sharing sharing) {
    fill_ids(ids, 1);
    open_sharing("a", level, sharing, 0);
    store_and_wait("a", 0, 512);
}

static void store_second(int level, enum session_sharing sharing) {
    open_sharing("b", level, sharing, 0);
    store_and_wait("b", 0, 512);
}

/* Other values from this token on, as another worker may have them. */
static void change_values(uint64_t from, float by) {
    for (uint64_t i = from * ROW_VALUES; i < TOKENS_MAX * ROW_VALUES; i++)
        values[i] += by;
}

static struct chunk *chunk_of(const char *name, size_t slice) {
    struct session *session = store_find(&store, name_of(name));
    struct chunk *chunk = session->slices[slice].chunk;
    session_unref(session);
    return chunk;
}

static int level_of(const char *name) {
    struct record *record = chunk_pin(chunk_of(name, 1));
    int level = record->level;
    record_unpin(record);
    return level;
}

/* Of 4 chunks. */
static int shared_by_both(void) {
    int shared = 0;
    for (size_t i = 0; i < 4; i++)
        shared += chunk_of("a", i) == chunk_of("b", i);
    return shared;
}

START_TEST(the_same_prefix_appended_twice_is_stored_once) {
    store_first(2, SESSION_SHARES_IDS);
    struct session_info one = info_of("a");
    uint64_t before = store_used_bytes(&store);
    store_second(2, SESSION_SHARES_IDS);
    ck_assert_int_eq(shared_by_both(), 4);
    struct session_info two = info_of("b");
    ck_assert_uint_eq(two.stored_bytes, one.stored_bytes);
    ck_assert_uint_lt(two.unique_bytes, 2048);
    ck_assert_uint_lt(store_used_bytes(&store) - before, 4096);
    ck_assert_uint_eq(store.usage.shared_chunks, 4);
    ck_assert_uint_ge(store.usage.shared_bytes, one.stored_bytes - 4096);
}
END_TEST

START_TEST(only_the_pages_before_the_first_other_token_are_shared) {
    store_first(2, SESSION_SHARES_IDS);
    ids[300]++;
    store_second(2, SESSION_SHARES_IDS);
    ck_assert_int_eq(shared_by_both(), 2);
}
END_TEST

START_TEST(a_session_that_did_not_choose_it_neither_takes_nor_offers) {
    bool first = _i == 0;
    store_first(2, first ? SESSION_SHARES_IDS : SESSION_SHARES_NOTHING);
    store_second(2, first ? SESSION_SHARES_NOTHING : SESSION_SHARES_IDS);
    ck_assert_int_eq(shared_by_both(), 0);
}
END_TEST

START_TEST(what_is_stored_coarser_than_asked_is_not_taken) {
    store_first(3, SESSION_SHARES_IDS);
    store_second(2, SESSION_SHARES_IDS);
    ck_assert_int_eq(shared_by_both(), 0);
    ck_assert_int_eq(level_of("b"), 2);
}
END_TEST

START_TEST(what_was_kept_apart_is_shared_once_it_may_be_as_coarse) {
    store_first(3, SESSION_SHARES_IDS);
    store_second(2, SESSION_SHARES_IDS);
    age_session("b", 3);
    ck_assert_int_eq(shared_by_both(), 4);
}
END_TEST

START_TEST(a_shared_chunk_ages_to_its_strictest_owners_level_and_no_further) {
    store_first(1, SESSION_SHARES_IDS);
    store_second(3, SESSION_SHARES_IDS);
    ck_assert_int_eq(shared_by_both(), 4);
    ck_assert_int_eq(level_of("b"), 1);
    age_session("b", 5);
    ck_assert_int_eq(level_of("b"), 1);
    age_session("a", 4);
    ck_assert_int_eq(level_of("b"), 4);
    ck_assert_int_eq(shared_by_both(), 4);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    age_session("b", 5);
    ck_assert_int_eq(level_of("b"), 5);
}
END_TEST

START_TEST(a_chunk_is_not_made_coarser_than_an_owner_wants_that_came_while_it_was_coded) {
    store_first(1, SESSION_SHARES_IDS);
    uint64_t before = store_used_bytes(&store);
    struct recode_job job = {chunk_of("a", 1), &geometry, 4};
    struct recode_result result = recode_chunk(&store.keeper.recoder, &job);
    ck_assert_uint_eq(result.bytes_before, 0);
    ck_assert_int_eq(level_of("a"), 1);
    ck_assert_uint_eq(store_used_bytes(&store), before);
    age_session("a", 4);
    ck_assert_int_eq(level_of("a"), 4);
}
END_TEST

START_TEST(exact_sessions_share_by_equal_bytes_only) {
    store_first(PAGE_EXACT, SESSION_SHARES_IDS);
    change_values(256, 0.125f);
    store_second(PAGE_EXACT, SESSION_SHARES_IDS);
    ck_assert_int_eq(shared_by_both(), 2);
    ck_assert_int_eq(fetch_all("b", 0, 512, 0), STORE_OK);
    change_values(256, -0.125f);
    ck_assert_int_eq(fetch_all("a", 0, 512, 1e-6f), STORE_OK);
}
END_TEST

START_TEST(equal_hashes_do_not_make_equal_bytes) {
    store_first(PAGE_EXACT, SESSION_SHARES_NOTHING);
    store_second(PAGE_EXACT, SESSION_SHARES_NOTHING);
    struct record *a = chunk_pin(chunk_of("a", 1)), *b = chunk_pin(chunk_of("b", 1));
    ck_assert(record_has_same_pages(a, b));
    ((uint8_t *)pool_memory(b->pool, &b->extent))[b->bytes - 9] ^= 1; /* its hash is as it was */
    ck_assert(!record_has_same_pages(a, b));
    record_unpin(a);
    record_unpin(b);
}
END_TEST

START_TEST(who_shares_by_bytes_does_not_take_other_values_of_the_same_ids) {
    store_first(2, SESSION_SHARES_BYTES);
    change_values(256, 0.125f);
    store_second(2, SESSION_SHARES_BYTES);
    ck_assert_int_eq(shared_by_both(), 2);
}
END_TEST

START_TEST(who_shares_by_ids_takes_other_values_of_the_same_ids) {
    store_first(2, SESSION_SHARES_IDS);
    change_values(256, 0.125f);
    store_second(2, SESSION_SHARES_IDS);
    ck_assert_int_eq(shared_by_both(), 4);
}
END_TEST

START_TEST(decibels_that_were_asked_are_not_traded_for_what_promises_fewer) {
    static const double promised[] = {0, 20, 40};
    fill_ids(ids, 1);
    open_sharing("a", 5, SESSION_SHARES_IDS, promised[_i]);
    store_and_wait("a", 0, 512);
    open_sharing("b", 5, SESSION_SHARES_IDS, 30);
    store_and_wait("b", 0, 512);
    ck_assert_int_eq(shared_by_both(), promised[_i] >= 30 ? 4 : 0);
}
END_TEST

START_TEST(the_others_keep_what_one_owner_lets_go) {
    static const uint64_t left[] = {0, 100, 128, 300};
    store_first(PAGE_EXACT, SESSION_SHARES_IDS);
    store_second(PAGE_EXACT, SESSION_SHARES_IDS);
    struct session_state state;
    struct session_discard *discard;
    struct truncate_request request = {.session = name_of("a"), .tokens = left[_i]};
    ck_assert_int_eq(store_truncate(&store, &request, &state, &discard), STORE_OK);
    while (session_discard_step(discard))
        ;
    session_discard_free(discard);
    ck_assert_int_eq(fetch_all("b", 0, 512, 0), STORE_OK);
    ck_assert_int_eq(fetch_all("a", 0, left[_i], 0), STORE_OK);
    ck_assert_int_eq(fetch_all("a", 0, left[_i] + 1, 0), STORE_MISS);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_int_eq(fetch_all("b", 0, 512, 0), STORE_OK);
    open_sharing("a", PAGE_EXACT, SESSION_SHARES_IDS, 0);
    store_and_wait("a", 0, 512);
    ck_assert_int_eq(shared_by_both(), 4);
}
END_TEST

START_TEST(what_nobody_owns_any_more_is_not_offered) {
    store_first(2, SESSION_SHARES_IDS);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    uint64_t shared = store.usage.shared_chunks;
    store_second(2, SESSION_SHARES_IDS);
    ck_assert_uint_eq(store.usage.shared_chunks, shared);
}
END_TEST

START_TEST(a_fork_shares_as_its_source_does) {
    struct session_state state;
    store_first(2, SESSION_SHARES_IDS);
    struct fork_request request = {.session = name_of("a"), .target = name_of("b"), .tokens = 300};
    ck_assert_int_eq(store_fork(&store, &request, &state), STORE_OK);
    ck_assert_int_eq(state.sharing, SESSION_SHARES_IDS);
}
END_TEST

START_TEST(appends_under_way_at_the_same_time_are_stored_once) {
    fill_ids(ids, 1);
    struct append_member *appends[2];
    static const char *const names[] = {"a", "b"};
    for (int i = 0; i < 2; i++) {
        open_sharing(names[i], 2, SESSION_SHARES_IDS, 0);
        appends[i] = begin_ids(names[i], 0, 512, NULL, 0);
        ck_assert_int_eq(append_put_ids(appends[i], 0, ids, 2048), STORE_OK);
    }
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(put_all(appends[i], 0, 512), STORE_OK);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(commit(appends[i]), STORE_OK);
        append_end(appends[i]);
    }
    wait_for_keeper("a");
    wait_for_keeper("b");
    ck_assert_int_eq(shared_by_both(), 4);
}
END_TEST

START_TEST(a_page_that_a_tail_began_is_shared_too) {
    store_first(2, SESSION_SHARES_IDS);
    open_sharing("b", 2, SESSION_SHARES_IDS, 0);
    store_and_wait("b", 0, 100);
    store_and_wait("b", 100, 300);
    store_and_wait("b", 300, 512);
    ck_assert_int_eq(shared_by_both(), 4);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("sharing");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, the_same_prefix_appended_twice_is_stored_once);
    tcase_add_test(cases, only_the_pages_before_the_first_other_token_are_shared);
    tcase_add_loop_test(cases, a_session_that_did_not_choose_it_neither_takes_nor_offers, 0, 2);
    tcase_add_test(cases, what_is_stored_coarser_than_asked_is_not_taken);
    tcase_add_test(cases, what_was_kept_apart_is_shared_once_it_may_be_as_coarse);
    tcase_add_test(cases, a_shared_chunk_ages_to_its_strictest_owners_level_and_no_further);
    tcase_add_test(cases,
                   a_chunk_is_not_made_coarser_than_an_owner_wants_that_came_while_it_was_coded);
    tcase_add_test(cases, exact_sessions_share_by_equal_bytes_only);
    tcase_add_test(cases, equal_hashes_do_not_make_equal_bytes);
    tcase_add_test(cases, who_shares_by_bytes_does_not_take_other_values_of_the_same_ids);
    tcase_add_test(cases, who_shares_by_ids_takes_other_values_of_the_same_ids);
    tcase_add_loop_test(cases, decibels_that_were_asked_are_not_traded_for_what_promises_fewer, 0,
                        3);
    tcase_add_loop_test(cases, the_others_keep_what_one_owner_lets_go, 0, 4);
    tcase_add_test(cases, what_nobody_owns_any_more_is_not_offered);
    tcase_add_test(cases, a_fork_shares_as_its_source_does);
    tcase_add_test(cases, appends_under_way_at_the_same_time_are_stored_once);
    tcase_add_test(cases, a_page_that_a_tail_began_is_shared_too);
    return run_suite(cases);
}
