/* A store of a small model's sessions: K and V of every layer are the same values, those of their
 * tokens. */
#ifndef TESTS_UNIT_TEST_STORE_SUPPORT_H
#define TESTS_UNIT_TEST_STORE_SUPPORT_H

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/store/append.h"
#include "daemon/store/fetch.h"
#include "daemon/store/fork.h"
#include "daemon/store/info.h"
#include "daemon/store/policy.h"
#include "daemon/store/saving.h"

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

/* Whose the sessions of a test are; NULL: the default's. */
static struct tenant *store_tenant;

static inline struct store_name name_of(const char *text) {
    return (struct store_name){.text = text, .bytes = strlen(text), .tenant = store_tenant};
}

/* A sum of uniforms is near enough. */
static inline float nearly_normal(void) {
    int64_t sum = (int64_t)rand() + rand() - rand() - rand();
    return (float)sum / (float)RAND_MAX;
}

/* NULL: without a disk. */
static const char *store_directory;
static uint64_t store_disk_bytes = 256 << 20;

static inline struct store_options store_options_with(uint64_t memory_bytes) {
    return (struct store_options){
        .memory_bytes = memory_bytes,
        .landing_level = PAGE_FAST8,
        .codec_threads = 2,
        .memory_high_percent = 92,
        .memory_low_percent = 88,
        .disk = {.directory = store_directory, .limit_bytes = store_disk_bytes}};
}

/* A state is waited for in steps; so many take longer than a test may. */
enum { WAIT_STEP_NS = 1000000, WAIT_STEPS = 100000 };

static inline void wait_step(void) {
    nanosleep(&(struct timespec){.tv_nsec = WAIT_STEP_NS}, NULL);
}

/* False if it cannot start; else all is there that is to come back. */
static inline bool try_start(const struct store_options *options) {
    if (store_init(&store, options) != 0)
        return false;
    for (int i = 0; i < WAIT_STEPS && store_is_recovering(&store); i++)
        wait_step();
    ck_assert(!store_is_recovering(&store));
    return true;
}

static inline void open_store(void) {
    struct store_options options = store_options_with(LIMIT_BYTES);
    ck_assert(try_start(&options));
}

static inline void set_up(void) {
    open_store();
    workspace = aligned_alloc(64, PAGE_WORKSPACE_BYTES);
    for (size_t i = 0; i < TOKENS_MAX * ROW_VALUES; i++)
        values[i] = nearly_normal();
}

static inline void tear_down(void) {
    store_deinit(&store);
    free(workspace);
}

/* What its thread does is the test's to do from now on. */
static inline void take_over_from_keeper(void) {
    struct keeper *keeper = &store.keeper;
    pthread_mutex_lock(&keeper->lock);
    keeper->stopping = true;
    pthread_cond_signal(&keeper->wake);
    pthread_mutex_unlock(&keeper->lock);
    pthread_join(keeper->thread, NULL);
    keeper->started = keeper->stopping = false;
}

static inline int open_session(const char *name, int level) {
    struct session_state state;
    struct store_open request = {.session = name_of(name),
                                 .model = name_of("model"),
                                 .geometry = &geometry,
                                 .policy = {.level = level, .floor = level}};
    return store_open(&store, &request, &state);
}

static inline void pin_for(const char *name, uint64_t lease_ns) {
    struct session *session = store_find(&store, name_of(name));
    ck_assert_int_eq(policy_pin(&store, session, lease_ns), STORE_OK);
    session_unref(session);
}

/* The keeper does not evict it. */
static inline void pin_session(const char *name) {
    pin_for(name, UINT64_MAX / 2);
}

static inline int delete_session(const char *name) {
    struct session_discard *discard;
    int status = store_delete(&store, name_of(name), &discard);
    if (status != STORE_OK)
        return status;
    while (session_discard_step(discard))
        ;
    session_discard_free(discard);
    return STORE_OK;
}

static inline bool has_session(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    if (session)
        session_unref(session);
    return session != NULL;
}

/* As if it had not been used since the machine started. */
static inline void leave_idle(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    ck_assert_ptr_nonnull(session);
    pthread_mutex_lock(session->lock);
    session->used_ns = 0;
    pthread_mutex_unlock(session->lock);
    session_unref(session);
}

/* Of so many tokens; 0: of all. */
static inline int fork_session(const char *name, const char *target, uint64_t tokens) {
    struct session_state state;
    struct fork_request request = {
        .session = name_of(name), .target = name_of(target), .tokens = tokens};
    return store_fork(&store, &request, &state);
}

static inline int truncate_session(const char *name, uint64_t tokens) {
    struct session_state state;
    struct session_discard *discard;
    struct truncate_request request = {.session = name_of(name), .tokens = tokens};
    int status = store_truncate(&store, &request, &state, &discard);
    while (discard && session_discard_step(discard))
        ;
    if (discard)
        session_discard_free(discard);
    return status;
}

static inline struct append_member *begin(const char *name, uint64_t first, uint64_t tokens,
                                          bool settle) {
    struct append_member *append;
    struct session_state state;
    struct append_request request = {.session = name_of(name),
                                     .first = first,
                                     .tokens = tokens,
                                     .tail_tokens = (uint32_t)(settle ? 0 : first % PAGE),
                                     .settle = settle,
                                     .runs_max = 64,
                                     .members = 1};
    ck_assert_int_eq(append_begin(&store, &request, &append, &state), STORE_OK);
    return append;
}

/* K and V of every layer are the same values, those of their tokens. */
static inline int put_run(struct append_member *append, uint64_t first, uint32_t tokens) {
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

static inline int put_all(struct append_member *append, uint64_t first, uint64_t end) {
    int status = STORE_OK;
    while (first < end && status == STORE_OK) {
        uint64_t run_end = (first / PAGE + 1) * PAGE;
        run_end = run_end < end ? run_end : end;
        status = put_run(append, first, (uint32_t)(run_end - first));
        first = run_end;
    }
    return status;
}

static inline int commit(struct append_member *append) {
    struct session_state state;
    int status;
    while ((status = append_commit(append, workspace, &state)) == STORE_MORE)
        ;
    return status;
}

static inline void store_tokens(const char *name, uint64_t first, uint64_t end, bool settle) {
    struct append_member *append = begin(name, first, end - first, settle);
    ck_assert_int_eq(put_all(append, first, end), STORE_OK);
    ck_assert_int_eq(commit(append), STORE_OK);
    append_end(append);
}

static const struct fetch_room got_room = {.values = (char *)got, .bytes = sizeof got};

static inline void check_piece(const struct fetch_piece *piece, const float *at, float error_max) {
    const float *given = values + piece->first * ROW_VALUES;
    if (error_max == 0)
        ck_assert_mem_eq(at, given, piece->tokens * ROW_VALUES * sizeof *at);
    for (uint32_t i = 0; error_max > 0 && i < piece->tokens * ROW_VALUES; i++) {
        float error = at[i] - given[i];
        ck_assert_float_le(error < 0 ? -error : error, error_max);
    }
}

/* STORE_OK if all of the range came and its largest error is at most this; 0: it is the same bit
 * for bit. */
static inline int fetch_all(const char *name, uint64_t first, uint64_t end, float error_max) {
    struct fetch fetch;
    struct fetch_piece pieces[GEOMETRY_PARTS];
    size_t count;
    struct fetch_request request = {.session = name_of(name), .first = first, .end = end};
    uint64_t sent = 0;
    int status = fetch_begin(&store, &request, &fetch);
    if (status != STORE_OK)
        return status;
    while ((status = fetch_next(&store, &fetch, &got_room, workspace, pieces, &count)) ==
               STORE_MORE ||
           status == STORE_WAIT) {
        if (status == STORE_WAIT) { /* for the disk */
            wait_step();
            continue;
        }
        const float *at = got;
        for (size_t i = 0; i < count; i++) {
            check_piece(&pieces[i], at, error_max);
            at += pieces[i].bytes / sizeof *at;
            sent += pieces[i].tokens;
        }
    }
    if (status == STORE_OK)
        ck_assert_uint_eq(sent, (end - first) * LAYERS * GEOMETRY_PARTS);
    return status;
}

static inline struct session_info info_of(const char *name) {
    struct session_info info;
    struct session *session = store_find(&store, name_of(name));
    ck_assert_ptr_nonnull(session);
    ck_assert_int_eq(info_read(session, &info), STORE_OK);
    session_unref(session);
    return info;
}

static inline bool is_settled(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    bool settled = keeper_has_done(&store.keeper, session, keeper_ticket(&store.keeper, session));
    session_unref(session);
    return settled;
}

static inline void wait_for_keeper(const char *name) {
    for (int i = 0; i < WAIT_STEPS && !is_settled(name); i++)
        wait_step();
    ck_assert(is_settled(name));
}

static inline void save_if_owed(struct session *session) {
    pthread_mutex_lock(session->lock);
    struct session_point point = session_point(session);
    bool owed = saving_is_owed(session);
    pthread_mutex_unlock(session->lock);
    int status = STORE_OK;
    while (owed && (status = saving_step(&store, session, point)) == STORE_WAIT)
        wait_step();
    ck_assert_int_eq(status, STORE_OK);
}

static inline void age_session(const char *name, int level) {
    struct session_info before;
    uint64_t ticket;
    struct session *session = store_find(&store, name_of(name));
    ck_assert_int_eq(policy_age(session, level, &before), STORE_OK);
    save_if_owed(session);
    ticket = policy_heed(&store, session);
    for (int i = 0; i < WAIT_STEPS && !keeper_has_done(&store.keeper, session, ticket); i++)
        wait_step();
    ck_assert(keeper_has_done(&store.keeper, session, ticket));
    session_unref(session);
}

static inline uint64_t tokens_at(const char *name, int level) {
    return info_of(name).levels[level - PAGE_LEVEL_MIN].tokens;
}

static inline int run_suite(TCase *cases) {
    Suite *suite = suite_create("store");
    tcase_set_timeout(cases, 60);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
