/* Summaries of keys: whatever becomes of a chunk, its summary is what its keys were. */
#include "daemon/store/spill.h"
#include "tests/unit/test_store_disk_support.h"
#include "tests/unit/test_store_takeover_support.h"

enum { SLICES = 2, TAIL = 44, TOKENS = SLICES * PAGE + TAIL };

static void open_with_keys(const char *name, int level) {
    struct session_state state;
    struct store_open request = {.session = name_of(name),
                                 .model = name_of("model"),
                                 .geometry = &geometry,
                                 .policy = {.level = level, .floor = PAGE_LEVEL_MAX},
                                 .key_summaries = true};
    ck_assert_int_eq(store_open(&store, &request, &state), STORE_OK);
    ck_assert(state.key_summaries);
}

static void store_with_keys(const char *name, int level) {
    open_with_keys(name, level);
    store_tokens(name, 0, TOKENS, false);
    wait_for_keeper(name);
}

/* Of the values as they were appended. */
static void expect_layer(uint32_t first, const uint8_t *got_summary) {
    static uint8_t expected[1 << 16];
    struct page_shape shape = geometry_shape(&geometry, PAGE_K, PAGE);
    struct page_source source = {.shape = shape,
                                 .part = PAGE_K,
                                 .sink_tokens = first == 0 ? PAGE_SINK_TOKENS : 0,
                                 .values = values + (size_t)first * ROW_VALUES,
                                 .strides = {.token = ROW_VALUES, .head = HEAD_DIM}};
    ck_assert_uint_le(page_summary_bytes(&shape), sizeof expected);
    ck_assert_int_eq(page_summarise(&source, workspace, expected), PAGE_OK);
    ck_assert_mem_eq(got_summary, expected, page_summary_bytes(&shape));
}

static void expect_summaries(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    ck_assert_ptr_nonnull(session);
    ck_assert(session->key_summaries);
    ck_assert_uint_eq(session->slice_count, SLICES);
    for (uint32_t i = 0; i < SLICES; i++) {
        const struct key_summary *summary = &session->slices[i].chunk->summary;
        ck_assert(key_summary_is_whole(summary, &geometry, PAGE));
        for (uint32_t layer = 0; layer < LAYERS; layer++)
            expect_layer(i * PAGE, key_summary_layer(summary, &geometry, PAGE, layer));
    }
    session_unref(session);
}

START_TEST(a_session_that_asks_for_them_has_them) {
    store_with_keys("a", 3);
    expect_summaries("a");
    ck_assert_int_eq(open_session("b", 3), STORE_OK);
    store_tokens("b", 0, TOKENS, false);
    ck_assert_uint_eq(info_of("b").key_summaries_bytes, 0);
    ck_assert_int_eq(fetch_all("a", 0, TOKENS, 1), STORE_OK);
}
END_TEST

START_TEST(a_tail_that_is_coded_on_request_has_one_too) {
    open_with_keys("a", 3);
    store_tokens("a", 0, PAGE + TAIL, true);
    struct session *session = store_find(&store, name_of("a"));
    ck_assert_uint_eq(session->slice_count, 2);
    ck_assert(key_summary_is_whole(&session->slices[1].chunk->summary, &geometry, TAIL));
    session_unref(session);
}
END_TEST

START_TEST(they_are_those_of_rows_that_were_in_the_tail_first) {
    open_with_keys("a", 3);
    store_tokens("a", 0, 100, false);
    store_tokens("a", 100, 300, false);
    expect_summaries("a");
}
END_TEST

START_TEST(they_count_where_all_bytes_count) {
    store_with_keys("a", 3);
    struct session_info info = info_of("a");
    struct store_totals totals;
    info_totals(&store, &totals);
    ck_assert_uint_ge(info.key_summaries_bytes, SLICES * key_summary_bytes(&geometry, PAGE));
    ck_assert_uint_eq(totals.key_summaries_bytes, info.key_summaries_bytes);
    ck_assert_uint_eq(totals.unique_bytes, info.unique_bytes);
    ck_assert_uint_eq(store_used_bytes(&store), store_fixed_bytes(&store) + info.unique_bytes);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_uint_eq(store_used_bytes(&store), store_fixed_bytes(&store));
    ck_assert_uint_eq(atomic_load(&store.usage.key_summaries_bytes), 0);
}
END_TEST

START_TEST(of_a_common_shape_they_are_three_percent_of_16_bits_at_most) {
    const struct geometry common = {
        .layers = 32, .heads = 8, .head_dim_k = 128, .head_dim_v = 128, .dtype = PAGE_F16};
    double raw = 128.0 * (double)geometry_token_bytes(&common);
    ck_assert_double_le((double)pool_round(key_summary_bytes(&common, 128)), 0.03 * raw);
}
END_TEST

START_TEST(a_fork_shares_them_and_goes_on_with_its_own) {
    store_with_keys("a", 3);
    uint64_t bytes = atomic_load(&store.usage.key_summaries_bytes);
    ck_assert_int_eq(fork_session("a", "b", 0), STORE_OK);
    expect_summaries("b");
    ck_assert_uint_eq(atomic_load(&store.usage.key_summaries_bytes), bytes);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    expect_summaries("b");
    store_tokens("b", TOKENS, TOKENS + PAGE, false);
    ck_assert_uint_gt(atomic_load(&store.usage.key_summaries_bytes), bytes);
}
END_TEST

START_TEST(ageing_keeps_them) {
    store_with_keys("a", 0);
    age_session("a", 5);
    ck_assert_uint_gt(tokens_at("a", 5), 0);
    expect_summaries("a");
}
END_TEST

START_TEST(what_is_taken_over_has_them) {
    store_with_keys("a", 3);
    ck_assert_int_eq(fork_session("a", "b", 200), STORE_OK);
    uint64_t bytes = atomic_load(&store.usage.key_summaries_bytes);
    for (int i = 0; i < 2; i++) {
        hand_on();
        ck_assert_uint_eq(store.taken.sessions, 2);
        expect_summaries("a");
        ck_assert_uint_eq(atomic_load(&store.usage.key_summaries_bytes), bytes);
    }
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_int_eq(delete_session("b"), STORE_OK);
    ck_assert_uint_eq(store_used_bytes(&store), store_fixed_bytes(&store));
}
END_TEST

/* --- with a disk --- */

static bool all_is_spilled(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    bool all = true;
    for (size_t i = 0; i < session->slice_count; i++) {
        struct record *record = chunk_pin(session->slices[i].chunk);
        all &= record_is_absent(record);
        record_unpin(record);
    }
    session_unref(session);
    return all;
}

static void spill_all(const char *name) {
    while (!all_is_spilled(name))
        (void)spill(&store, &store.coldness, 1 << 20, 0);
}

static void expect_nothing_loaded(void) {
    ck_assert_uint_eq(atomic_load(&store.disk.counts.loaded_chunks), 0);
}

START_TEST(what_is_on_disk_alone_has_them_in_memory) {
    store_with_keys("a", 3);
    spill_all("a");
    expect_summaries("a");
    expect_nothing_loaded();
    ck_assert_uint_gt(info_of("a").key_summaries_bytes, 0);
    ck_assert_int_eq(fetch_all("a", 0, TOKENS, 1), STORE_OK);
    expect_summaries("a");
}
END_TEST

START_TEST(they_are_there_after_a_restart_before_anything_is_loaded) {
    store_with_keys("a", 3);
    restart();
    expect_summaries("a");
    expect_nothing_loaded();
    ck_assert_int_eq(fetch_all("a", 0, TOKENS, 1), STORE_OK);
    age_session("a", 5);
    restart();
    expect_summaries("a");
    ck_assert_int_eq(fetch_all("a", 0, TOKENS, 2), STORE_OK);
}
END_TEST

START_TEST(what_is_taken_over_on_disk_has_them) {
    store_with_keys("a", 3);
    spill_all("a");
    hand_on();
    expect_summaries("a");
    expect_nothing_loaded();
    ck_assert_int_eq(fetch_all("a", 0, TOKENS, 1), STORE_OK);
}
END_TEST

/* Of the session's first page, where its parts are not looked at. */
static void lose_summary(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    key_summary_deinit(&session->slices[0].chunk->summary);
    session_unref(session);
}

START_TEST(a_chunk_that_has_lost_its_own_is_read_all_the_same) {
    store_with_keys("a", 3);
    spill_all("a");
    lose_summary("a");
    ck_assert_int_eq(fetch_all("a", 0, TOKENS, 1), STORE_OK);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("memory"), *disk = tcase_create("disk");
    Suite *suite = suite_create("key summaries");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, a_session_that_asks_for_them_has_them);
    tcase_add_test(cases, a_tail_that_is_coded_on_request_has_one_too);
    tcase_add_test(cases, they_are_those_of_rows_that_were_in_the_tail_first);
    tcase_add_test(cases, they_count_where_all_bytes_count);
    tcase_add_test(cases, of_a_common_shape_they_are_three_percent_of_16_bits_at_most);
    tcase_add_test(cases, a_fork_shares_them_and_goes_on_with_its_own);
    tcase_add_test(cases, ageing_keeps_them);
    tcase_add_test(cases, what_is_taken_over_has_them);
    tcase_add_checked_fixture(disk, set_up_with_disk, tear_down_with_disk);
    tcase_add_test(disk, what_is_on_disk_alone_has_them_in_memory);
    tcase_add_test(disk, they_are_there_after_a_restart_before_anything_is_loaded);
    tcase_add_test(disk, what_is_taken_over_on_disk_has_them);
    tcase_add_test(disk, a_chunk_that_has_lost_its_own_is_read_all_the_same);
    tcase_set_timeout(cases, 60);
    tcase_set_timeout(disk, 60);
    suite_add_tcase(suite, cases);
    suite_add_tcase(suite, disk);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
