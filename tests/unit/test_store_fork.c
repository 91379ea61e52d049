/* Sessions that share chunks and tails: who owns what, who may extend it, and what is left of it.
 */
#include <stdio.h>

#include "daemon/base/bytes.h"
#include "daemon/store/policy.h"
#include "daemon/store/saving.h"
#include "tests/unit/test_store_support.h"

static struct session *locked(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    ck_assert_ptr_nonnull(session);
    session_unref(session); /* the store has it still */
    return session;
}

static struct chunk *chunk_of(const char *name, size_t slice) {
    return locked(name)->slices[slice].chunk;
}

static void set_up_source(void) {
    set_up();
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    pin_session("a");
    store_tokens("a", 0, 300, false);
}

START_TEST(a_fork_owns_the_same_chunks_and_the_same_tail) {
    ck_assert_int_eq(fork_session("a", "b", 0), STORE_OK);
    ck_assert_ptr_eq(chunk_of("a", 0), chunk_of("b", 0));
    ck_assert_uint_eq(chunk_of("a", 0)->owner_count, 2);
    ck_assert_ptr_eq(locked("a")->tail, locked("b")->tail);
    ck_assert_uint_eq(locked("a")->tail->owners, 2);
    ck_assert_uint_eq(locked("b")->tail_tokens, 300 % PAGE);
}
END_TEST

START_TEST(who_appends_at_the_mark_keeps_the_tail_and_the_other_copies_it) {
    ck_assert_int_eq(fork_session("a", "b", 0), STORE_OK);
    struct tail *tail = locked("a")->tail;
    store_tokens("b", 300, 310, false);
    ck_assert_ptr_eq(locked("b")->tail, tail);
    ck_assert_uint_eq(tail->mark, 310 % PAGE);
    store_tokens("a", 300, 320, false);
    ck_assert_ptr_ne(locked("a")->tail, tail);
    ck_assert_uint_eq(tail->owners, 1);
    ck_assert_int_eq(fetch_all("a", 0, 320, 0), STORE_OK);
    ck_assert_int_eq(fetch_all("b", 0, 310, 0), STORE_OK);
}
END_TEST

START_TEST(the_mark_goes_back_when_an_append_is_dropped) {
    uint64_t before = store_used_bytes(&store);
    struct tail *tail = locked("a")->tail;
    struct append_member *append = begin("a", 300, 20, false);
    ck_assert_int_eq(put_all(append, 300, 320), STORE_OK);
    ck_assert_uint_eq(tail->mark, 320 % PAGE);
    append_end(append);
    ck_assert_uint_eq(tail->mark, 300 % PAGE);
    ck_assert_uint_eq(store_used_bytes(&store), before);
    store_tokens("a", 300, 310, false);
    ck_assert_ptr_eq(locked("a")->tail, tail);
}
END_TEST

START_TEST(source_and_fork_may_append_at_the_same_time) {
    ck_assert_int_eq(fork_session("a", "b", 0), STORE_OK);
    struct append_member *first = begin("a", 300, 400, false), *second = begin("b", 300, 10, false);
    ck_assert_int_eq(put_all(second, 300, 310), STORE_OK);
    ck_assert_int_eq(put_all(first, 300, 700), STORE_OK);
    ck_assert_int_eq(commit(second), STORE_OK);
    ck_assert_int_eq(commit(first), STORE_OK);
    append_end(first);
    append_end(second);
    ck_assert_int_eq(fetch_all("a", 0, 700, 0), STORE_OK);
    ck_assert_int_eq(fetch_all("b", 0, 310, 0), STORE_OK);
}
END_TEST

START_TEST(a_copy_of_a_tail_whose_append_is_dropped_is_free_again) {
    ck_assert_int_eq(fork_session("a", "b", 0), STORE_OK);
    store_tokens("a", 300, 310, false);
    uint64_t before = store_used_bytes(&store);
    struct append_member *append = begin("b", 300, 200, false);
    ck_assert_int_eq(put_all(append, 300, 500), STORE_OK);
    append_end(append);
    ck_assert_uint_eq(store_used_bytes(&store), before);
    ck_assert_int_eq(fetch_all("b", 0, 300, 0), STORE_OK);
}
END_TEST

/* After a cut within a page what is appended begins a page there: all tokens are their own still.
 */
START_TEST(a_cut_through_a_chunk_leaves_a_part_of_it_and_goes_on_unaligned) {
    static const uint64_t cuts[] = {1, 3, 130, 255};
    uint64_t cut = cuts[_i];
    ck_assert_int_eq(fork_session("a", "b", cut), STORE_OK);
    ck_assert_int_eq(truncate_session("a", cut), STORE_OK);
    const char *const names[] = {"a", "b"};
    for (int i = 0; i < 2; i++) {
        const struct session *session = locked(names[i]);
        const struct slice *last = &session->slices[session->slice_count - 1];
        ck_assert_ptr_null(session->tail);
        ck_assert_uint_eq(last->start + last->tokens, cut);
        ck_assert_uint_lt(last->tokens, last->chunk->tokens);
        ck_assert_int_eq(fetch_all(names[i], 0, cut, 0), STORE_OK);
        ck_assert_int_eq(fetch_all(names[i], 0, cut + 1, 0), STORE_MISS);
        struct session_info info = info_of(names[i]);
        uint64_t sinks = cut < PAGE_SINK_TOKENS ? cut : PAGE_SINK_TOKENS;
        ck_assert_uint_eq(info.sinks.tokens, sinks);
        ck_assert_uint_eq(info.levels[0].tokens, cut - sinks);
    }
}
END_TEST

START_TEST(truncated_rows_of_a_tail_are_given_back_unless_others_have_them) {
    struct tail *tail = locked("a")->tail;
    uint64_t before = store_used_bytes(&store);
    ck_assert_int_eq(truncate_session("a", 257), STORE_OK);
    ck_assert_uint_eq(tail->mark, 1);
    ck_assert_uint_lt(store_used_bytes(&store), before);
    store_tokens("a", 257, 300, false);
    ck_assert_ptr_eq(locked("a")->tail, tail);
    ck_assert_int_eq(fork_session("a", "b", 0), STORE_OK);
    ck_assert_int_eq(truncate_session("a", 257), STORE_OK);
    ck_assert_uint_eq(tail->mark, 300 % PAGE);
    store_tokens("a", 257, 258, false);
    ck_assert_ptr_ne(locked("a")->tail, tail);
    ck_assert_int_eq(fetch_all("b", 0, 300, 0), STORE_OK);
}
END_TEST

START_TEST(truncated_to_nothing_a_session_begins_anew) {
    ck_assert_int_eq(truncate_session("a", 0), STORE_OK);
    ck_assert_int_eq(fetch_all("a", 0, 1, 0), STORE_MISS);
    store_tokens("a", 0, 200, false);
    ck_assert_int_eq(fetch_all("a", 0, 200, 0), STORE_OK);
}
END_TEST

START_TEST(one_of_two_owns_alone_what_the_other_let_go) {
    uint64_t whole = info_of("a").unique_bytes;
    ck_assert_int_eq(fork_session("a", "b", 0), STORE_OK);
    ck_assert_uint_lt(info_of("a").unique_bytes, whole / 2);
    ck_assert_uint_eq(info_of("a").stored_bytes, whole);
    ck_assert_int_eq(delete_session("b"), STORE_OK);
    ck_assert_uint_eq(info_of("a").unique_bytes, whole);
}
END_TEST

START_TEST(a_chunk_ages_no_further_than_its_finest_owner) {
    ck_assert_int_eq(truncate_session("a", 256), STORE_OK);
    ck_assert_int_eq(fork_session("a", "b", 128), STORE_OK);
    age_session("a", 3);
    ck_assert_int_eq(chunk_of("a", 0)->record->level, PAGE_EXACT);
    ck_assert_int_eq(chunk_of("a", 1)->record->level, 3);
    ck_assert_int_eq(fetch_all("b", 0, 128, 0), STORE_OK);
    age_session("b", 5);
    ck_assert_int_eq(chunk_of("b", 0)->record->level, 3);
}
END_TEST

START_TEST(a_record_coded_anew_says_whose_it_was_first) {
    ck_assert_int_eq(fork_session("a", "fork", 0), STORE_OK);
    uint64_t id = locked("a")->id;
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    age_session("fork", 2);
    struct record *record = chunk_pin(chunk_of("fork", 1));
    const uint8_t *memory = pool_memory(record->pool, &record->extent);
    ck_assert_int_eq(record->level, 2);
    ck_assert_uint_eq(bytes_get(memory + 24, 8), id);
    ck_assert_uint_eq(bytes_get(memory + 32, 8), PAGE);
    ck_assert_mem_eq(memory + 104,
                     "default"
                     "model"
                     "a",
                     13);
    record_unpin(record);
}
END_TEST

START_TEST(a_refused_fork_leaves_nothing_reserved) {
    uint64_t before = store_used_bytes(&store);
    ck_assert_int_eq(fork_session("a", "b", 301), STORE_MISS);
    ck_assert_int_eq(fork_session("none", "b", 0), STORE_MISS);
    ck_assert_int_eq(fork_session("a", "a", 0), STORE_EXISTS);
    uint64_t left;
    do
        left = LIMIT_BYTES - store_used_bytes(&store);
    while (!budget_reserve(&store.budget, left));
    ck_assert_int_eq(fork_session("a", "b", 0), STORE_FULL);
    budget_release(&store.budget, left);
    for (int i = 0; i < WAIT_STEPS && store_used_bytes(&store) != before; i++)
        wait_step(); /* the keeper frees it */
    ck_assert_uint_eq(store_used_bytes(&store), before);
    ck_assert_uint_eq(chunk_of("a", 0)->owner_count, 1);
}
END_TEST

START_TEST(a_session_is_truncated_even_at_the_memory_limit) {
    uint64_t left;
    do
        left = LIMIT_BYTES - store_used_bytes(&store);
    while (!budget_reserve(&store.budget, left));
    uint64_t before = store_used_bytes(&store);
    ck_assert_int_eq(truncate_session("a", 1), STORE_OK);
    ck_assert_uint_lt(store_used_bytes(&store), before);
    ck_assert_int_eq(fetch_all("a", 0, 1, 0), STORE_OK);
    budget_release(&store.budget, left);
}
END_TEST

START_TEST(when_all_are_deleted_nothing_is_reserved_or_counted) {
    ck_assert_int_eq(fork_session("a", "b", 200), STORE_OK);
    ck_assert_int_eq(fork_session("b", "c", 100), STORE_OK);
    store_tokens("a", 300, 500, false);
    ck_assert_int_eq(truncate_session("a", 400), STORE_OK);
    age_session("c", 4);
    const char *const names[] = {"a", "b", "c"};
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(delete_session(names[i]), STORE_OK);
    struct store_totals totals;
    info_totals(&store, &totals);
    ck_assert_uint_eq(totals.sessions + totals.tokens + totals.values, 0);
    ck_assert_uint_eq(totals.stored_bytes + totals.unique_bytes, 0);
    ck_assert_uint_eq(store_used_bytes(&store), store_fixed_bytes(&store));
}
END_TEST

START_TEST(a_step_of_freeing_is_bounded) {
    ck_assert_int_eq(open_session("long", PAGE_EXACT), STORE_OK);
    for (uint64_t token = 0; token < 2 * DISCARD_STEP_CHUNKS + 1; token++)
        store_tokens("long", token, token + 1, true);
    struct session_discard *discard;
    ck_assert_int_eq(store_delete(&store, name_of("long"), &discard), STORE_OK);
    ck_assert_int_eq(fetch_all("long", 0, 1, 0), STORE_MISS);
    ck_assert(session_discard_step(discard));
    ck_assert_uint_eq(discard->slice_count, DISCARD_STEP_CHUNKS + 1);
    ck_assert(session_discard_step(discard));
    ck_assert(!session_discard_step(discard));
    session_discard_free(discard);
}
END_TEST

START_TEST(a_session_is_found_by_its_id_whoever_went_before) {
    char name[16];
    for (int i = 0; i < 600; i++) {
        snprintf(name, sizeof name, "%d", i);
        ck_assert_int_eq(open_session(name, PAGE_EXACT), STORE_OK);
    }
    uint64_t first = locked("0")->id;
    for (int i = 0; i < 600; i += 3) {
        snprintf(name, sizeof name, "%d", i);
        ck_assert_int_eq(delete_session(name), STORE_OK);
    }
    for (uint64_t i = 0; i < 599; i++) {
        struct session *session = list_after(&store.list, first + i);
        ck_assert_uint_eq(session->id, first + i + 1 + ((i + 1) % 3 == 0));
        session_unref(session);
    }
    ck_assert_ptr_null(list_after(&store.list, first + 599));
}
END_TEST

START_TEST(what_is_cut_while_a_session_is_being_saved_is_owed_to_the_disk) {
    ck_assert_int_eq(open_session("z", 3), STORE_OK);
    store_tokens("z", 0, 200, false);
    struct session *session = store_find(&store, name_of("z"));
    pthread_mutex_lock(session->lock);
    session->saved.under_way = true;
    session->saved.floor = session->policy.floor;
    ck_assert(!saving_is_owed(session));
    pthread_mutex_unlock(session->lock);
    ck_assert_int_eq(truncate_session("z", 100), STORE_OK);
    pthread_mutex_lock(session->lock);
    ck_assert(saving_is_owed(session));
    session->saved.under_way = false;
    pthread_mutex_unlock(session->lock);
    session_unref(session);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("fork");
    tcase_add_checked_fixture(cases, set_up_source, tear_down);
    tcase_add_test(cases, a_fork_owns_the_same_chunks_and_the_same_tail);
    tcase_add_test(cases, who_appends_at_the_mark_keeps_the_tail_and_the_other_copies_it);
    tcase_add_test(cases, the_mark_goes_back_when_an_append_is_dropped);
    tcase_add_test(cases, source_and_fork_may_append_at_the_same_time);
    tcase_add_test(cases, a_copy_of_a_tail_whose_append_is_dropped_is_free_again);
    tcase_add_loop_test(cases, a_cut_through_a_chunk_leaves_a_part_of_it_and_goes_on_unaligned, 0,
                        4);
    tcase_add_test(cases, truncated_rows_of_a_tail_are_given_back_unless_others_have_them);
    tcase_add_test(cases, truncated_to_nothing_a_session_begins_anew);
    tcase_add_test(cases, one_of_two_owns_alone_what_the_other_let_go);
    tcase_add_test(cases, a_chunk_ages_no_further_than_its_finest_owner);
    tcase_add_test(cases, a_record_coded_anew_says_whose_it_was_first);
    tcase_add_test(cases, a_refused_fork_leaves_nothing_reserved);
    tcase_add_test(cases, a_session_is_truncated_even_at_the_memory_limit);
    tcase_add_test(cases, when_all_are_deleted_nothing_is_reserved_or_counted);
    tcase_add_test(cases, a_step_of_freeing_is_bounded);
    tcase_add_test(cases, a_session_is_found_by_its_id_whoever_went_before);
    tcase_add_test(cases, what_is_cut_while_a_session_is_being_saved_is_owed_to_the_disk);
    return run_suite(cases);
}
