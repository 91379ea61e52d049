/* The store without a socket: append, fetch, damage, the limit and the keeper. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/base/bytes.h"
#include "daemon/store/append.h"
#include "daemon/store/fetch.h"
#include "daemon/store/info.h"

enum { LIMIT_BYTES = 64 << 20, LAYERS = 2, HEADS = 2, HEAD_DIM = 64, PAGE = 128 };
enum { ROW_VALUES = HEADS * HEAD_DIM, TOKENS_MAX = 1024 };

static const struct geometry geometry = {.layers = LAYERS,
                                         .heads = HEADS,
                                         .head_dim_k = HEAD_DIM,
                                         .head_dim_v = HEAD_DIM,
                                         .dtype = PAGE_F32};
static struct store store;
static void *workspace;
static float values[TOKENS_MAX * ROW_VALUES], got[PAGE_VALUES_MAX];

static struct store_name name_of(const char *text) {
    return (struct store_name){text, strlen(text)};
}

/* A sum of uniforms is near enough. */
static float nearly_normal(void) {
    int64_t sum = (int64_t)rand() + rand() - rand() - rand();
    return (float)sum / (float)RAND_MAX;
}

static void set_up(void) {
    struct store_options options = {.memory_bytes = LIMIT_BYTES, .landing_level = PAGE_FAST8};
    ck_assert_int_eq(store_init(&store, &options), 0);
    workspace = aligned_alloc(64, PAGE_WORKSPACE_BYTES);
    for (size_t i = 0; i < TOKENS_MAX * ROW_VALUES; i++)
        values[i] = nearly_normal();
}

static void tear_down(void) {
    store_deinit(&store);
    free(workspace);
}

static int open_session(const char *name, int level) {
    struct session_state state;
    struct store_open request = {
        .session = name_of(name), .model = name_of("model"), .geometry = &geometry, .level = level};
    return store_open(&store, &request, &state);
}

static int delete_session(const char *name) {
    struct session_discard *discard;
    int status = store_delete(&store, name_of(name), &discard);
    if (status != STORE_OK)
        return status;
    while (session_discard_step(discard))
        ;
    session_discard_free(discard);
    return STORE_OK;
}

static struct append *begin(const char *name, uint64_t first, uint64_t tokens, bool settle) {
    struct append *append;
    struct session_state state;
    struct append_request request = {.session = name_of(name),
                                     .first = first,
                                     .tokens = tokens,
                                     .tail_tokens = (uint32_t)(settle ? 0 : first % PAGE),
                                     .settle = settle,
                                     .runs_max = 64};
    ck_assert_int_eq(append_begin(&store, &request, &append, &state), STORE_OK);
    return append;
}

/* K and V of every layer are the same values, those of their tokens. */
static int put_run(struct append *append, uint64_t first, uint32_t tokens) {
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        for (enum page_part part = PAGE_K; part <= PAGE_V; part++) {
            struct append_part piece = {.first = first,
                                        .tokens = tokens,
                                        .layer = layer,
                                        .part = part,
                                        .values = values + first * ROW_VALUES,
                                        .bytes = tokens * ROW_VALUES * sizeof(float)};
            int status = append_put(append, &piece, workspace);
            if (status != STORE_OK)
                return status;
        }
    return STORE_OK;
}

static int put_all(struct append *append, uint64_t first, uint64_t end) {
    int status = STORE_OK;
    while (first < end && status == STORE_OK) {
        uint64_t run_end = (first / PAGE + 1) * PAGE;
        run_end = run_end < end ? run_end : end;
        status = put_run(append, first, (uint32_t)(run_end - first));
        first = run_end;
    }
    return status;
}

static int commit(struct append *append) {
    struct session_state state;
    int status;
    while ((status = append_commit(append, workspace, &state)) == STORE_MORE)
        ;
    return status;
}

static void store_tokens(const char *name, uint64_t first, uint64_t end, bool settle) {
    struct append *append = begin(name, first, end - first, settle);
    ck_assert_int_eq(put_all(append, first, end), STORE_OK);
    ck_assert_int_eq(commit(append), STORE_OK);
    append_free(append);
}

/* STORE_OK if all of the range came and its largest error is at most this. */
static int fetch_all(const char *name, uint64_t first, uint64_t end, float error_max) {
    struct fetch fetch;
    struct fetch_piece piece;
    struct fetch_request request = {.session = name_of(name), .first = first, .end = end};
    uint64_t pieces = 0;
    int status = fetch_begin(&store, &request, &fetch);
    if (status != STORE_OK)
        return status;
    while ((status = fetch_next(&store, &fetch, got, workspace, &piece)) == STORE_MORE) {
        for (uint32_t i = 0; i < piece.tokens * ROW_VALUES; i++) {
            float error = got[i] - values[piece.first * ROW_VALUES + i];
            ck_assert_float_le(error < 0 ? -error : error, error_max);
        }
        pieces += piece.tokens;
    }
    if (status == STORE_OK)
        ck_assert_uint_eq(pieces, (end - first) * LAYERS * GEOMETRY_PARTS);
    return status;
}

static struct session_info info_of(const char *name) {
    struct session_info info;
    struct session *session = store_find(&store, name_of(name));
    ck_assert_ptr_nonnull(session);
    ck_assert_int_eq(info_read(session, &info), STORE_OK);
    session_unref(session);
    return info;
}

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
    struct append *append = begin("a", 0, 300, false);
    ck_assert_int_eq(put_all(append, 0, 300), STORE_OK);
    ck_assert_int_eq(fetch_all("a", 0, 1, 0), STORE_MISS);
    append_free(append);
    ck_assert_int_eq(fetch_all("a", 0, 1, 0), STORE_MISS);
    store_tokens("a", 0, 300, false);
    ck_assert_int_eq(fetch_all("a", 0, 300, 0), STORE_OK);
}
END_TEST

START_TEST(a_dropped_append_gives_its_memory_back) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, 200, false);
    uint64_t before = store_used_bytes(&store);
    struct append *append = begin("a", 200, 600, false);
    ck_assert_int_eq(put_all(append, 200, 800), STORE_OK);
    ck_assert_uint_gt(store_used_bytes(&store), before);
    append_free(append);
    ck_assert_uint_eq(store_used_bytes(&store), before);
}
END_TEST

START_TEST(a_part_that_came_before_is_refused) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    struct append *append = begin("a", 0, 50, false);
    ck_assert_int_eq(put_run(append, 0, 50), STORE_OK);
    ck_assert_int_eq(put_run(append, 0, 50), STORE_INVALID);
    append_free(append);
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

static bool is_settled(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    bool settled = keeper_has_done(&store.keeper, session, keeper_ticket(&store.keeper, session));
    session_unref(session);
    return settled;
}

static void wait_for_keeper(const char *name) {
    for (int i = 0; i < 1000 && !is_settled(name); i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    ck_assert(is_settled(name));
}

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

START_TEST(at_the_limit_an_append_is_told_to_wait_and_goes_on_when_there_is_room) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    ck_assert_int_eq(open_session("b", PAGE_EXACT), STORE_OK);
    store_tokens("b", 0, TOKENS_MAX, false);
    struct append *append = begin("a", 0, TOKENS_MAX / 2, false);
    uint64_t left = LIMIT_BYTES - store_used_bytes(&store); /* what is warm is given up for it */
    ck_assert(budget_reserve(&store.budget, left));
    ck_assert_int_eq(put_run(append, 0, PAGE), STORE_FULL);
    ck_assert_int_eq(delete_session("b"), STORE_OK);
    ck_assert_int_eq(put_all(append, 0, TOKENS_MAX / 2), STORE_OK);
    ck_assert_int_eq(commit(append), STORE_OK);
    append_free(append);
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
    ck_assert_mem_eq(memory + 96,
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
    struct fetch_piece piece;
    struct fetch_request request = {.session = name_of("a")};
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, 256, false);
    ck_assert_int_eq(fetch_begin(&store, &request, &fetch), STORE_OK);
    ck_assert_int_eq(fetch_next(&store, &fetch, got, workspace, &piece), STORE_MORE);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, 256, false);
    ck_assert_int_eq(fetch_next(&store, &fetch, got, workspace, &piece), STORE_MISS);
}
END_TEST

START_TEST(an_append_to_a_session_that_is_deleted_meanwhile_is_a_miss) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    struct append *append = begin("a", 0, 200, false);
    ck_assert_int_eq(put_all(append, 0, 200), STORE_OK);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_int_eq(commit(append), STORE_MISS);
    append_free(append);
}
END_TEST

START_TEST(a_model_whose_raw_chunk_is_above_an_eighth_of_the_limit_is_unsupported) {
    struct session_state state;
    struct geometry large = geometry;
    large.layers = 1024;
    struct store_open request = {
        .session = name_of("a"), .model = name_of("large"), .geometry = &large, .level = 3};
    ck_assert_int_eq(store_open(&store, &request, &state), STORE_UNSUPPORTED);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("store");
    TCase *cases = tcase_create("store");
    tcase_set_timeout(cases, 60);
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, an_exact_session_gives_back_what_it_was_given);
    tcase_add_test(cases, nothing_is_seen_before_the_commit);
    tcase_add_test(cases, a_dropped_append_gives_its_memory_back);
    tcase_add_test(cases, a_part_that_came_before_is_refused);
    tcase_add_test(cases, settled_means_that_no_tail_is_left);
    tcase_add_test(cases, the_keeper_brings_pages_to_their_level_and_says_the_loss_is_estimated);
    tcase_add_test(cases, the_keepers_working_space_is_free_again_after_its_work);
    tcase_add_test(cases, at_the_limit_an_append_is_told_to_wait_and_goes_on_when_there_is_room);
    tcase_add_test(cases, damaged_bytes_are_a_miss);
    tcase_add_test(cases, a_record_says_what_it_is);
    tcase_add_test(cases, a_delete_during_a_fetch_is_a_miss_even_if_the_name_comes_again);
    tcase_add_test(cases, an_append_to_a_session_that_is_deleted_meanwhile_is_a_miss);
    tcase_add_test(cases, a_model_whose_raw_chunk_is_above_an_eighth_of_the_limit_is_unsupported);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
