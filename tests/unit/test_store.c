/* The store without a socket: append, fetch, damage, the limit and the keeper. */
#include "daemon/base/bytes.h"
#include "tests/unit/test_store_support.h"

START_TEST(an_exact_session_gives_back_what_it_was_given) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, 300, false);
    store_tokens("a", 300, 301, false);
    store_tokens("a", 301, 700, false);
    ck_assert_int_eq(fetch_all("a", 0, 700, 0), STORE_OK);
    ck_assert_int_eq(fetch_all("a", 250, 390, 0), STORE_OK);
}
END_TEST

START_TEST(nothing_is_seen_before_the_commit) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    struct append_member *append = begin("a", 0, 300, false);
    ck_assert_int_eq(put_all(append, 0, 300), STORE_OK);
    ck_assert_int_eq(fetch_all("a", 0, 1, 0), STORE_MISS);
    append_end(append);
    ck_assert_int_eq(fetch_all("a", 0, 1, 0), STORE_MISS);
    store_tokens("a", 0, 300, false);
    ck_assert_int_eq(fetch_all("a", 0, 300, 0), STORE_OK);
}
END_TEST

START_TEST(a_dropped_append_gives_its_memory_back) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, 200, false);
    uint64_t before = store_used_bytes(&store);
    struct append_member *append = begin("a", 200, 600, false);
    ck_assert_int_eq(put_all(append, 200, 800), STORE_OK);
    ck_assert_uint_gt(store_used_bytes(&store), before);
    append_end(append);
    ck_assert_uint_eq(store_used_bytes(&store), before);
}
END_TEST

START_TEST(a_part_that_came_before_is_refused) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    struct append_member *append = begin("a", 0, 50, false);
    ck_assert_int_eq(put_run(append, 0, 50), STORE_OK);
    ck_assert_int_eq(put_run(append, 0, 50), STORE_INVALID);
    append_end(append);
}
END_TEST

START_TEST(settled_means_that_no_tail_is_left) {
    ck_assert_int_eq(open_session("a", 3), STORE_OK);
    store_tokens("a", 0, 200, true);
    struct session_info info = info_of("a");
    ck_assert_uint_eq(info.tail.tokens, 0);
    ck_assert_uint_eq(info.sinks.tokens, PAGE_SINK_TOKENS);
    ck_assert_uint_eq(info.levels[3 - PAGE_LEVEL_MIN].tokens, 200 - PAGE_SINK_TOKENS);
    ck_assert(!info.loss[PAGE_K].estimated);
}
END_TEST

START_TEST(the_keeper_brings_pages_to_their_level_and_says_the_loss_is_estimated) {
    ck_assert_int_eq(open_session("a", 4), STORE_OK);
    store_tokens("a", 0, 512, false);
    wait_for_keeper("a");
    struct session_info info = info_of("a");
    ck_assert_uint_eq(info.levels[4 - PAGE_LEVEL_MIN].tokens, 512 - PAGE_SINK_TOKENS);
    ck_assert(info.loss[PAGE_K].estimated);
    ck_assert_int_eq(fetch_all("a", 0, 512, 3), STORE_OK);
}
END_TEST

START_TEST(the_keepers_working_space_is_free_again_after_its_work) {
    ck_assert_int_eq(open_session("a", 4), STORE_OK);
    store_tokens("a", 0, 512, false);
    wait_for_keeper("a");
    ck_assert_uint_eq(store.keeper.budget.used_bytes, 0);
    uint64_t session_bytes = info_of("a").stored_bytes, used_bytes = store_used_bytes(&store);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_uint_eq(store_used_bytes(&store), used_bytes - session_bytes);
}
END_TEST

static bool freed;

static bool note_freed(struct discard *discard) {
    (void)discard;
    freed = true;
    return false;
}

START_TEST(what_is_left_to_the_keeper_after_its_end_is_freed_with_the_store) {
    struct discard discard = {.step = note_freed};
    keeper_stop(&store.keeper);
    keeper_discard(&store.keeper, &discard);
    store_deinit(&store);
    ck_assert(freed);
    open_store();
}
END_TEST

START_TEST(at_the_limit_an_append_is_told_to_wait_and_goes_on_when_there_is_room) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    ck_assert_int_eq(open_session("b", PAGE_EXACT), STORE_OK);
    pin_session("a");
    pin_session("b");
    store_tokens("b", 0, TOKENS_MAX, false);
    wait_for_keeper("b"); /* while it works, what is left changes */
    struct append_member *append = begin("a", 0, TOKENS_MAX / 2, false);
    uint64_t left;
    do
        left = LIMIT_BYTES - store_used_bytes(&store); /* what is warm is given up for it */
    while (!budget_reserve(&store.budget, left));
    ck_assert_int_eq(put_run(append, 0, PAGE), STORE_FULL);
    ck_assert_int_eq(delete_session("b"), STORE_OK);
    ck_assert_int_eq(put_all(append, 0, TOKENS_MAX / 2), STORE_OK);
    ck_assert_int_eq(commit(append), STORE_OK);
    append_end(append);
    ck_assert_int_eq(fetch_all("a", 0, TOKENS_MAX / 2, 0), STORE_OK);
    budget_release(&store.budget, left);
}
END_TEST

START_TEST(damaged_bytes_are_a_miss) {
    ck_assert_int_eq(open_session("a", 3), STORE_OK);
    store_tokens("a", 0, 128, true);
    struct session *session = store_find(&store, name_of("a"));
    struct record *record = chunk_pin(session->slices[0].chunk);
    uint8_t *memory = pool_memory(record->pool, &record->extent);
    for (uint64_t at = record->bytes - 40; at > record->bytes / 2; at -= 1009) {
        memory[at] ^= 1;
        ck_assert_int_eq(fetch_all("a", 0, 128, 9), STORE_MISS);
        memory[at] ^= 1;
    }
    record_unpin(record);
    session_unref(session);
    ck_assert_int_eq(fetch_all("a", 0, 128, 9), STORE_OK);
}
END_TEST

START_TEST(a_record_says_what_it_is) {
    ck_assert_int_eq(open_session("chat", 2), STORE_OK);
    store_tokens("chat", 0, 200, true);
    struct session *session = store_find(&store, name_of("chat"));
    struct record *record = chunk_pin(session->slices[1].chunk);
    const uint8_t *memory = pool_memory(record->pool, &record->extent);
    ck_assert_mem_eq(memory, "KVQCHUNK", 8);
    ck_assert_uint_eq(bytes_get(memory + 16, 8), record->bytes);
    ck_assert_uint_eq(bytes_get(memory + 24, 8), session->id);
    ck_assert_uint_eq(bytes_get(memory + 32, 8), 128);
    ck_assert_uint_eq(bytes_get(memory + 40, 4), 72);
    ck_assert_mem_eq(memory + 104,
                     "default"
                     "model"
                     "chat",
                     16);
    record_unpin(record);
    session_unref(session);
}
END_TEST

START_TEST(a_delete_during_a_fetch_is_a_miss_even_if_the_name_comes_again) {
    struct fetch fetch;
    struct fetch_piece pieces[GEOMETRY_PARTS];
    size_t count;
    struct fetch_request request = {.session = name_of("a")};
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, 256, false);
    ck_assert_int_eq(fetch_begin(&store, &request, &fetch), STORE_OK);
    ck_assert_int_eq(fetch_next(&store, &fetch, &got_room, workspace, pieces, &count), STORE_MORE);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, 256, false);
    ck_assert_int_eq(fetch_next(&store, &fetch, &got_room, workspace, pieces, &count), STORE_MISS);
}
END_TEST

START_TEST(an_append_to_a_session_that_is_deleted_meanwhile_is_a_miss) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    struct append_member *append = begin("a", 0, 200, false);
    ck_assert_int_eq(put_all(append, 0, 200), STORE_OK);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_int_eq(commit(append), STORE_MISS);
    append_end(append);
}
END_TEST

START_TEST(a_model_whose_raw_chunk_is_above_an_eighth_of_the_limit_is_unsupported) {
    struct session_state state;
    struct geometry large = geometry;
    large.layers = 1024;
    struct store_open request = {.session = name_of("a"),
                                 .model = name_of("large"),
                                 .geometry = &large,
                                 .policy = {.level = 3}};
    ck_assert_int_eq(store_open(&store, &request, &state), STORE_UNSUPPORTED);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("store");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, an_exact_session_gives_back_what_it_was_given);
    tcase_add_test(cases, nothing_is_seen_before_the_commit);
    tcase_add_test(cases, a_dropped_append_gives_its_memory_back);
    tcase_add_test(cases, a_part_that_came_before_is_refused);
    tcase_add_test(cases, settled_means_that_no_tail_is_left);
    tcase_add_test(cases, the_keeper_brings_pages_to_their_level_and_says_the_loss_is_estimated);
    tcase_add_test(cases, the_keepers_working_space_is_free_again_after_its_work);
    tcase_add_test(cases, what_is_left_to_the_keeper_after_its_end_is_freed_with_the_store);
    tcase_add_test(cases, at_the_limit_an_append_is_told_to_wait_and_goes_on_when_there_is_room);
    tcase_add_test(cases, damaged_bytes_are_a_miss);
    tcase_add_test(cases, a_record_says_what_it_is);
    tcase_add_test(cases, a_delete_during_a_fetch_is_a_miss_even_if_the_name_comes_again);
    tcase_add_test(cases, an_append_to_a_session_that_is_deleted_meanwhile_is_a_miss);
    tcase_add_test(cases, a_model_whose_raw_chunk_is_above_an_eighth_of_the_limit_is_unsupported);
    return run_suite(cases);
}
