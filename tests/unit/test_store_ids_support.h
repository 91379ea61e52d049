/* Sessions whose tokens have ids. */
#ifndef TESTS_UNIT_TEST_STORE_IDS_SUPPORT_H
#define TESTS_UNIT_TEST_STORE_IDS_SUPPORT_H

#include "tests/unit/test_store_support.h"

static uint32_t ids[TOKENS_MAX];

static inline void fill_ids(uint32_t *text, unsigned seed) {
    srand(seed);
    for (int i = 0; i < TOKENS_MAX; i++)
        text[i] = (uint32_t)rand() % 50000;
}

static inline struct append_member *begin_ids(const char *name, uint64_t first, uint64_t tokens,
                                              const struct salt *salts, size_t salt_count) {
    struct append_member *append;
    struct session_state state;
    struct session *session = store_find(&store, name_of(name));
    struct append_request request = {.session = name_of(name),
                                     .first = first,
                                     .tokens = tokens,
                                     .tail_tokens = session->tail_tokens,
                                     .runs_max = 64,
                                     .members = 1,
                                     .token_ids = true,
                                     .salts = salts,
                                     .salt_count = salt_count};
    session_unref(session);
    ck_assert_int_eq(append_begin(&store, &request, &append, &state), STORE_OK);
    return append;
}

/* Runs are cut from where the session's tail begins. */
static inline int put_runs(struct append_member *append, uint64_t start, uint64_t first,
                           uint64_t end) {
    int status = STORE_OK;
    while (first < end && status == STORE_OK) {
        uint64_t run_end = start + ((first - start) / PAGE + 1) * PAGE;
        run_end = run_end < end ? run_end : end;
        status = put_run(append, first, (uint32_t)(run_end - first));
        first = run_end;
    }
    return status;
}

static inline void store_salted(const char *name, uint64_t first, uint64_t end,
                                const uint32_t *text, const struct salt *salts, size_t salt_count) {
    struct session *session = store_find(&store, name_of(name));
    uint64_t start = session->tokens - session->tail_tokens;
    session_unref(session);
    struct append_member *append = begin_ids(name, first, end - first, salts, salt_count);
    ck_assert_int_eq(append_put_ids(append, first, text + first, (end - first) * sizeof *text),
                     STORE_OK);
    ck_assert_int_eq(put_runs(append, start, first, end), STORE_OK);
    ck_assert_int_eq(commit(append), STORE_OK);
    append_end(append);
}

static inline void store_ids(const char *name, uint64_t first, uint64_t end, const uint32_t *text) {
    store_salted(name, first, end, text, NULL, 0);
}

#endif
