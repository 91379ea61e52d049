/* Token ids: who begins with which, and what a match finds of it. */
#include <stdio.h>

#include "daemon/store/fork.h"
#include "daemon/store/match.h"
#include "tests/unit/test_store_ids_support.h"

static const char *matched; /* the session that the last match found */

/* How many of these tokens a session of the model begins with. */
static uint64_t match_salted(const char *model, const struct geometry *shape, const uint32_t *ids,
                             uint64_t tokens, const struct salt *salts, size_t salt_count) {
    static struct match_result result;
    struct match *match;
    struct match_request request = {.model = name_of(model),
                                    .geometry = shape,
                                    .tokens = tokens,
                                    .salts = salts,
                                    .salt_count = salt_count};
    ck_assert_int_eq(match_begin(&store, &request, &match), STORE_OK);
    for (uint64_t at = 0, step = 100; at < tokens; at += step) {
        uint64_t count = tokens - at < step ? tokens - at : step;
        ck_assert_int_eq(match_put_ids(match, at, ids + at, count * sizeof *ids), STORE_OK);
    }
    memset(&result, 0, sizeof result);
    ck_assert_int_eq(match_find(match, &result), STORE_OK);
    match_end(match);
    matched = result.name;
    return result.tokens;
}

static uint64_t match(const uint32_t *ids, uint64_t tokens) {
    return match_salted("model", NULL, ids, tokens, NULL, 0);
}

static void truncate_to(const char *name, uint64_t tokens) {
    struct session_state state;
    struct session_discard *discard;
    struct truncate_request request = {.session = name_of(name), .tokens = tokens};
    ck_assert_int_eq(store_truncate(&store, &request, &state, &discard), STORE_OK);
    while (discard && session_discard_step(discard))
        ;
    if (discard)
        session_discard_free(discard);
}

static void fork_to(const char *name, const char *target, uint64_t tokens) {
    struct session_state state;
    struct fork_request request = {
        .session = name_of(name), .target = name_of(target), .tokens = tokens};
    ck_assert_int_eq(store_fork(&store, &request, &state), STORE_OK);
}

static uint64_t ids_of(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    uint64_t tokens = session->prefix.tokens;
    session_unref(session);
    return tokens;
}

/* Session "a" of 300 tokens. */
static void set_up_ids(void) {
    set_up();
    fill_ids(ids, 1);
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_ids("a", 0, 300, ids);
}

static void tear_down_ids(void) {
    static const char *const names[] = {"a", "b", "c"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        (void)!delete_session(names[i]);
    ck_assert_ptr_null(store.prefixes.roots);
    ck_assert_uint_eq(store.prefixes.bytes, 0);
    ck_assert_uint_eq(store.prefixes.full_bytes, 0);
    tear_down();
}

START_TEST(the_longest_prefix_is_found_to_the_token) {
    static const uint64_t lengths[] = {1, 2, 127, 128, 129, 255, 256, 257, 299, 300};
    uint64_t length = lengths[_i];
    ck_assert_uint_eq(match(ids, length), length);
    ck_assert_str_eq(matched, "a");
    uint32_t changed[TOKENS_MAX];
    memcpy(changed, ids, sizeof changed);
    changed[length - 1]++;
    ck_assert_uint_eq(match(changed, 300), length - 1);
}
END_TEST

START_TEST(tokens_behind_the_sessions_own_do_not_count) {
    ck_assert_uint_eq(match(ids, 301), 300);
    ck_assert_uint_eq(match(ids, TOKENS_MAX), 300);
}
END_TEST

START_TEST(no_tokens_match_nothing) {
    ck_assert_uint_eq(match(ids, 0), 0);
}
END_TEST

START_TEST(of_several_sessions_that_with_the_longest_prefix_is_found) {
    uint32_t other[TOKENS_MAX];
    ck_assert_int_eq(open_session("b", PAGE_EXACT), STORE_OK);
    ck_assert_int_eq(open_session("c", PAGE_EXACT), STORE_OK);
    memcpy(other, ids, sizeof other);
    other[200] = ids[200] + 1;
    store_ids("b", 0, 300, other);
    other[200] = ids[200];
    other[150] = ids[150] + 1;
    store_ids("c", 0, 400, other);
    other[150] = ids[150];
    other[200] = ids[200] + 1;
    ck_assert_uint_eq(match(other, 300), 300);
    ck_assert_str_eq(matched, "b");
    ck_assert_uint_eq(match(ids, 400), 300);
    ck_assert_str_eq(matched, "a");
    other[200] = ids[200];
    other[150] = ids[150] + 1;
    ck_assert_uint_eq(match(other, 390), 390);
    ck_assert_str_eq(matched, "c");
}
END_TEST

/* Whatever order they come in: of sorted pages the neighbours are the nearest. */
START_TEST(among_many_that_differ_anywhere_the_nearest_is_found) {
    enum { SESSIONS = 60 };
    static uint32_t texts[SESSIONS][TOKENS_MAX];
    char name[8];
    srand((unsigned)_i + 1);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    for (int i = 0; i < SESSIONS; i++) {
        snprintf(name, sizeof name, "s%d", i);
        for (int t = 0; t < 140; t++)
            texts[i][t] = rand() % 8 == 0; /* mostly 0: long agreements */
        ck_assert_int_eq(open_session(name, PAGE_EXACT), STORE_OK);
        store_ids(name, 0, 100 + (uint64_t)(rand() % 40), texts[i]);
    }
    for (int i = 0; i < 200; i++) {
        uint32_t query[140];
        uint64_t longest = 0;
        for (int t = 0; t < 140; t++)
            query[t] = rand() % 8 == 0;
        for (int j = 0; j < SESSIONS; j++) {
            snprintf(name, sizeof name, "s%d", j);
            uint64_t common = 0, most = ids_of(name);
            while (common < most && query[common] == texts[j][common])
                common++;
            longest = common > longest ? common : longest;
        }
        ck_assert_uint_eq(match(query, 140), longest);
    }
    for (int i = 0; i < SESSIONS; i++) {
        snprintf(name, sizeof name, "s%d", i);
        ck_assert_int_eq(delete_session(name), STORE_OK);
    }
}
END_TEST

START_TEST(another_model_or_geometry_or_tenant_never_matches) {
    struct geometry other = geometry;
    other.rope_theta = 5e5;
    ck_assert_uint_eq(match_salted("model", &geometry, ids, 300, NULL, 0), 300);
    ck_assert_uint_eq(match_salted("model", &other, ids, 300, NULL, 0), 0);
    ck_assert_uint_eq(match_salted("model2", NULL, ids, 300, NULL, 0), 0);
    ck_assert_uint_eq(match_salted("mode", NULL, ids, 300, NULL, 0), 0);
    struct prefix_key key = {
        .tenant = tenants_find(&store.tenants, "stranger", 8), .model = "model", .model_bytes = 5};
    struct token_ids text = {.count = 300, .ids = ids};
    struct prefix_match match;
    ck_assert_ptr_null(prefix_match(&store.prefixes, &key, &text, &match));
}
END_TEST

START_TEST(salts_are_a_part_of_the_tokens_that_they_cover) {
    struct salt salts[] = {{.first = 20, .end = 150, .bytes = 5, .text = "image"},
                           {.first = 150, .end = 160, .bytes = 5, .text = "other"}};
    ck_assert_int_eq(open_session("b", PAGE_EXACT), STORE_OK);
    store_salted("b", 0, 300, ids, salts, 2);
    ck_assert_uint_eq(match_salted("model", NULL, ids, 400, salts, 2), 300);
    ck_assert_str_eq(matched, "b");
    ck_assert_uint_eq(match(ids, 400), 300);
    ck_assert_str_eq(matched, "a");
    ck_assert_uint_eq(match_salted("model", NULL, ids, 400, salts, 1), 150);
    salts[0].text[4] = 'f';
    ck_assert_uint_eq(match_salted("model", NULL, ids, 400, salts, 2), 20);
    salts[0].text[4] = 'e';
    salts[0].end = 149;
    ck_assert_uint_eq(match_salted("model", NULL, ids, 400, salts, 2), 149);
    struct salt cut[] = {{.first = 20, .end = 90, .bytes = 5, .text = "image"},
                         {.first = 90, .end = 150, .bytes = 5, .text = "image"},
                         {.first = 150, .end = 160, .bytes = 5, .text = "other"}};
    ck_assert_uint_eq(match_salted("model", NULL, ids, 400, cut, 3), 300);
}
END_TEST

START_TEST(a_salt_ends_where_the_text_was_cut) {
    struct salt salts[] = {{.first = 20, .end = 150, .bytes = 5, .text = "image"}};
    ck_assert_int_eq(open_session("b", PAGE_EXACT), STORE_OK);
    store_salted("b", 0, 100, ids, salts, 1);
    truncate_to("b", 50);
    store_ids("b", 50, 200, ids);
    salts[0].end = 50;
    ck_assert_uint_eq(match_salted("model", NULL, ids, 200, salts, 1), 200);
}
END_TEST

START_TEST(appends_of_any_length_go_on_where_the_ids_end) {
    static const uint64_t steps[] = {1, 5, 127, 128, 129, 300};
    uint64_t step = steps[_i], end = 0;
    ck_assert_int_eq(open_session("b", PAGE_EXACT), STORE_OK);
    fill_ids(ids, 7);
    for (; end + step <= 600; end += step)
        store_ids("b", end, end + step, ids);
    ck_assert_uint_eq(ids_of("b"), end);
    ck_assert_uint_eq(match(ids, TOKENS_MAX), end);
}
END_TEST

START_TEST(ids_end_where_tokens_came_without) {
    store_tokens("a", 300, 310, false);
    store_ids("a", 310, 400, ids);
    ck_assert_uint_eq(ids_of("a"), 300);
    ck_assert_uint_eq(match(ids, 400), 300);
    ck_assert_int_eq(fetch_all("a", 0, 400, 0), STORE_OK);
    truncate_to("a", 290);
    store_ids("a", 290, 400, ids);
    ck_assert_uint_eq(match(ids, 400), 400);
}
END_TEST

START_TEST(ids_are_cut_with_the_tokens) {
    static const uint64_t cuts[] = {0, 1, 127, 128, 129, 256, 257, 299};
    uint64_t cut = cuts[_i];
    truncate_to("a", cut);
    ck_assert_uint_eq(ids_of("a"), cut);
    ck_assert_uint_eq(match(ids, 300), cut);
    uint32_t other[TOKENS_MAX];
    fill_ids(other, 9);
    memcpy(other, ids, cut * sizeof *other);
    store_ids("a", cut, 400, other);
    ck_assert_uint_eq(match(other, 400), 400);
    ck_assert_uint_eq(match(ids, 300), cut);
}
END_TEST

START_TEST(a_fork_has_the_ids_of_its_tokens_and_takes_none_of_its_own) {
    static const uint64_t lengths[] = {1, 128, 200, 256, 300};
    uint64_t length = lengths[_i], before = store.prefixes.bytes;
    fork_to("a", "b", length);
    ck_assert_uint_eq(ids_of("b"), length);
    if (length % PAGE == 0 || length == 300)
        ck_assert_uint_eq(store.prefixes.bytes, before);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_uint_eq(match(ids, 300), length);
    ck_assert_str_eq(matched, "b");
}
END_TEST

START_TEST(the_same_ids_are_kept_once) {
    uint64_t before = store.prefixes.bytes;
    ck_assert_int_eq(open_session("b", PAGE_EXACT), STORE_OK);
    store_ids("b", 0, 300, ids);
    ck_assert_uint_eq(store.prefixes.bytes, before);
    struct session_info info = info_of("b");
    ck_assert_uint_ge(info.stored_bytes, info.unique_bytes + 300 * sizeof *ids);
}
END_TEST

START_TEST(what_is_deleted_is_not_found) {
    ck_assert_int_eq(open_session("b", PAGE_EXACT), STORE_OK);
    store_ids("b", 0, 200, ids);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_uint_eq(match(ids, 300), 200);
    ck_assert_str_eq(matched, "b");
    ck_assert_int_eq(delete_session("b"), STORE_OK);
    ck_assert_uint_eq(match(ids, 300), 0);
}
END_TEST

START_TEST(what_is_not_committed_is_not_found) {
    struct append_member *append = begin_ids("a", 300, 100, NULL, 0);
    ck_assert_int_eq(append_put_ids(append, 300, ids + 300, 400), STORE_OK);
    ck_assert_int_eq(put_all(append, 300, 400), STORE_OK);
    ck_assert_uint_eq(match(ids, 400), 300);
    append_end(append);
    ck_assert_uint_eq(match(ids, 400), 300);
}
END_TEST

START_TEST(ids_that_are_not_the_appends_are_refused) {
    struct append_member *append = begin_ids("a", 300, 10, NULL, 0);
    ck_assert_int_eq(append_put_ids(append, 299, ids, 4), STORE_INVALID);
    ck_assert_int_eq(append_put_ids(append, 301, ids, 4), STORE_INVALID);
    ck_assert_int_eq(append_put_ids(append, 300, ids, 0), STORE_INVALID);
    ck_assert_int_eq(append_put_ids(append, 300, ids, 7), STORE_INVALID);
    ck_assert_int_eq(append_put_ids(append, 300, ids, 44), STORE_INVALID);
    ck_assert_int_eq(append_put_ids(append, 300, ids, 40), STORE_OK);
    ck_assert_int_eq(append_put_ids(append, 310, ids, 4), STORE_INVALID);
    append_end(append);
    append = begin("a", 300, 10, false);
    ck_assert_int_eq(append_put_ids(append, 300, ids, 40), STORE_INVALID);
    append_end(append);
}
END_TEST

START_TEST(an_append_without_all_of_its_ids_is_incomplete) {
    struct append_member *append = begin_ids("a", 300, 10, NULL, 0);
    ck_assert_int_eq(put_all(append, 300, 310), STORE_OK);
    ck_assert_int_eq(append_put_ids(append, 300, ids, 36), STORE_OK);
    ck_assert_int_eq(commit(append), STORE_INCOMPLETE);
    append_end(append);
}
END_TEST

START_TEST(a_session_that_was_cut_since_it_was_found_is_known_to_be_another) {
    struct prefix_match found;
    static uint32_t others[TOKENS_MAX];
    fill_ids(ids, 71);
    fill_ids(others, 72);
    ck_assert_int_eq(open_session("c", 3), STORE_OK);
    store_ids("c", 0, 200, ids);
    const struct prefix_key key = {NULL, "model", 5, &geometry};
    const struct token_ids text = {.count = 200, .ids = ids};
    struct session *session = prefix_match(&store.prefixes, &key, &text, &found);
    ck_assert_uint_eq(found.tokens, 200);
    ck_assert_uint_eq(session->prefix.cuts, found.cuts);
    truncate_to("c", 0);
    store_ids("c", 0, 200, others);
    ck_assert_uint_eq(session->prefix.tokens, 200);
    ck_assert_uint_ne(session->prefix.cuts, found.cuts);
    session_unref(session);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("prefix");
    tcase_add_checked_fixture(cases, set_up_ids, tear_down_ids);
    tcase_add_loop_test(cases, the_longest_prefix_is_found_to_the_token, 0, 10);
    tcase_add_test(cases, tokens_behind_the_sessions_own_do_not_count);
    tcase_add_test(cases, no_tokens_match_nothing);
    tcase_add_test(cases, of_several_sessions_that_with_the_longest_prefix_is_found);
    tcase_add_loop_test(cases, among_many_that_differ_anywhere_the_nearest_is_found, 0, 3);
    tcase_add_test(cases, another_model_or_geometry_or_tenant_never_matches);
    tcase_add_test(cases, salts_are_a_part_of_the_tokens_that_they_cover);
    tcase_add_test(cases, a_salt_ends_where_the_text_was_cut);
    tcase_add_loop_test(cases, appends_of_any_length_go_on_where_the_ids_end, 0, 6);
    tcase_add_test(cases, ids_end_where_tokens_came_without);
    tcase_add_loop_test(cases, ids_are_cut_with_the_tokens, 0, 8);
    tcase_add_loop_test(cases, a_fork_has_the_ids_of_its_tokens_and_takes_none_of_its_own, 0, 5);
    tcase_add_test(cases, the_same_ids_are_kept_once);
    tcase_add_test(cases, what_is_deleted_is_not_found);
    tcase_add_test(cases, what_is_not_committed_is_not_found);
    tcase_add_test(cases, ids_that_are_not_the_appends_are_refused);
    tcase_add_test(cases, an_append_without_all_of_its_ids_is_incomplete);
    tcase_add_test(cases, a_session_that_was_cut_since_it_was_found_is_known_to_be_another);
    return run_suite(cases);
}
