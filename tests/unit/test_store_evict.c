/* Eviction: a session loses its newest tokens; what is left is a hit, anything else a miss. */
#include "daemon/store/evict.h"
#include "tests/unit/test_store_support.h"

static const struct evict_request one_chunk = {.want_bytes = 1};
static const struct evict_request all = {.want_bytes = UINT64_MAX};

static int evict(const char *name, const struct evict_request *request,
                 struct evict_result *result) {
    struct session *session = store_find(&store, name_of(name));
    ck_assert_ptr_nonnull(session);
    int status = evict_session(&store, session, request, result);
    session_unref(session);
    return status;
}

static void store_exactly(const char *name, uint64_t tokens) {
    ck_assert_int_eq(open_session(name, PAGE_EXACT), STORE_OK);
    store_tokens(name, 0, tokens, false);
}

START_TEST(the_newest_tokens_go_first_and_what_is_left_is_a_hit) {
    struct evict_result result;
    store_exactly("a", 3 * PAGE + 10);
    uint64_t version = info_of("a").state.version, used = store_used_bytes(&store);
    ck_assert_int_eq(evict("a", &one_chunk, &result), STORE_OK);
    ck_assert_uint_eq(result.tokens, 10);
    ck_assert_int_eq(evict("a", &one_chunk, &result), STORE_OK);
    ck_assert_uint_eq(result.tokens, PAGE);
    ck_assert(!result.deleted);
    ck_assert_int_eq(fetch_all("a", 0, 2 * PAGE, 0), STORE_OK);
    ck_assert_int_eq(fetch_all("a", 0, 2 * PAGE + 1, 0), STORE_MISS);
    ck_assert_uint_gt(info_of("a").state.version, version);
    ck_assert_uint_le(store_used_bytes(&store), used - result.bytes);
}
END_TEST

START_TEST(what_was_lost_is_remembered_until_it_is_appended_to) {
    struct evict_result result;
    store_exactly("a", 3 * PAGE);
    ck_assert_int_eq(evict("a", &one_chunk, &result), STORE_OK);
    ck_assert_uint_eq(info_of("a").state.tokens, 2 * PAGE);
    ck_assert_uint_eq(info_of("a").state.lost_tokens, PAGE);
    store_tokens("a", 2 * PAGE, 2 * PAGE + 5, false);
    ck_assert_uint_eq(info_of("a").state.tokens, 2 * PAGE + 5);
    ck_assert_uint_eq(info_of("a").state.lost_tokens, 0);
    ck_assert_int_eq(fetch_all("a", 0, 2 * PAGE + 5, 0), STORE_OK);
}
END_TEST

START_TEST(a_session_that_loses_its_last_token_is_deleted) {
    struct evict_result result;
    store_exactly("a", 2 * PAGE + 1);
    ck_assert_int_eq(evict("a", &all, &result), STORE_OK);
    ck_assert(result.deleted);
    ck_assert_uint_eq(result.tokens, 2 * PAGE + 1);
    ck_assert(!has_session("a"));
}
END_TEST

START_TEST(a_session_without_tokens_goes_as_a_whole_once_it_is_idle) {
    struct evict_result result;
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    ck_assert_int_eq(evict("a", &all, &result), STORE_WAIT);
    leave_idle("a");
    uint64_t used = store_used_bytes(&store);
    ck_assert_int_eq(evict("a", &one_chunk, &result), STORE_OK);
    ck_assert(result.deleted);
    ck_assert_uint_eq(result.tokens, 0);
    ck_assert(!has_session("a"));
    ck_assert_uint_eq(store_used_bytes(&store), used - result.bytes);
}
END_TEST

START_TEST(a_session_without_tokens_stays_while_its_first_are_appended) {
    struct evict_result result;
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    struct append_member *append = begin("a", 0, 10, false);
    leave_idle("a");
    ck_assert_int_eq(evict("a", &all, &result), STORE_WAIT);
    ck_assert_int_eq(put_all(append, 0, 10), STORE_OK);
    ck_assert_int_eq(commit(append), STORE_OK);
    append_end(append);
}
END_TEST

START_TEST(a_pinned_session_stays) {
    struct evict_result result;
    store_exactly("a", PAGE);
    pin_session("a");
    ck_assert_int_eq(evict("a", &all, &result), STORE_BUSY);
    pin_for("a", 0);
    ck_assert_int_eq(evict("a", &all, &result), STORE_OK);
}
END_TEST

START_TEST(a_session_that_is_appended_to_stays) {
    struct evict_result result;
    store_exactly("a", PAGE);
    struct append_member *append = begin("a", PAGE, PAGE, false);
    ck_assert_int_eq(put_all(append, PAGE, 2 * PAGE), STORE_OK);
    ck_assert_int_eq(evict("a", &all, &result), STORE_WAIT);
    ck_assert_int_eq(commit(append), STORE_OK);
    append_end(append);
    ck_assert_int_eq(evict("a", &all, &result), STORE_OK);
}
END_TEST

START_TEST(a_session_that_was_just_used_stays_where_that_is_asked) {
    struct evict_result result;
    struct evict_request idle = {.want_bytes = 1, .idle_ns = UINT64_C(3600) * 1000000000};
    store_exactly("a", PAGE);
    ck_assert_int_eq(evict("a", &idle, &result), STORE_WAIT);
}
END_TEST

START_TEST(what_a_fork_has_too_frees_nothing_and_stays) {
    struct evict_result result;
    store_exactly("a", 2 * PAGE);
    ck_assert_int_eq(fork_session("a", "b", 0), STORE_OK);
    ck_assert_int_eq(evict("a", &all, &result), STORE_UNSUPPORTED);
    store_tokens("b", 2 * PAGE, 4 * PAGE, false);
    ck_assert_int_eq(evict("b", &all, &result), STORE_OK);
    ck_assert_uint_eq(result.tokens, 2 * PAGE);
    ck_assert_int_eq(fetch_all("b", 0, 2 * PAGE, 0), STORE_OK);
    ck_assert_int_eq(fetch_all("a", 0, 2 * PAGE, 0), STORE_OK);
}
END_TEST

START_TEST(what_is_shared_goes_where_that_is_asked_and_the_other_keeps_it) {
    struct evict_result result;
    struct evict_request shared_too = {.want_bytes = UINT64_MAX, .shared_too = true};
    store_exactly("a", 2 * PAGE);
    ck_assert_int_eq(fork_session("a", "b", 0), STORE_OK);
    ck_assert_int_eq(evict("a", &shared_too, &result), STORE_OK);
    ck_assert(!has_session("a"));
    ck_assert_int_eq(fetch_all("b", 0, 2 * PAGE, 0), STORE_OK);
    ck_assert_int_eq(evict("b", &all, &result), STORE_OK);
    ck_assert(result.deleted);
}
END_TEST

START_TEST(a_fetch_under_way_misses_what_was_evicted) {
    struct evict_result result;
    struct fetch fetch;
    struct fetch_piece pieces[GEOMETRY_PARTS];
    size_t count;
    struct fetch_request request = {.session = name_of("a"), .end = 2 * PAGE};
    store_exactly("a", 2 * PAGE);
    ck_assert_int_eq(fetch_begin(&store, &request, &fetch), STORE_OK);
    ck_assert_int_eq(evict("a", &one_chunk, &result), STORE_OK);
    store_tokens("a", PAGE, 2 * PAGE, false); /* other tokens, for all that the fetch knows */
    for (int layer = 0; layer < LAYERS; layer++)
        ck_assert_int_eq(fetch_next(&store, &fetch, &got_room, workspace, pieces, &count),
                         STORE_MORE);
    ck_assert_int_eq(fetch_next(&store, &fetch, &got_room, workspace, pieces, &count), STORE_MISS);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("evict");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, the_newest_tokens_go_first_and_what_is_left_is_a_hit);
    tcase_add_test(cases, what_was_lost_is_remembered_until_it_is_appended_to);
    tcase_add_test(cases, a_session_that_loses_its_last_token_is_deleted);
    tcase_add_test(cases, a_session_without_tokens_goes_as_a_whole_once_it_is_idle);
    tcase_add_test(cases, a_session_without_tokens_stays_while_its_first_are_appended);
    tcase_add_test(cases, a_pinned_session_stays);
    tcase_add_test(cases, a_session_that_is_appended_to_stays);
    tcase_add_test(cases, a_session_that_was_just_used_stays_where_that_is_asked);
    tcase_add_test(cases, what_a_fork_has_too_frees_nothing_and_stays);
    tcase_add_test(cases, what_is_shared_goes_where_that_is_asked_and_the_other_keeps_it);
    tcase_add_test(cases, a_fetch_under_way_misses_what_was_evicted);
    return run_suite(cases);
}
