/* Threads that do everything to the same few sessions at once; meant for the thread sanitizer, and
 * checked as far as it goes: every token of an exact session says which append it is of and where
 * it stands.
 *
 * With an odd seed memory is always short; with an even one it never is, and time has its turn.
 *
 * usage: race_check [SECONDS [SEED]]
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/store/append.h"
#include "daemon/store/fetch.h"
#include "daemon/store/fork.h"
#include "daemon/store/info.h"
#include "daemon/store/policy.h"
#include "tests/faults/values.h"

enum { THREADS = 4, LIMIT_BYTES = 48 << 20, TOKENS_MAX = 600, RUN_MAX = 128 };
/* Names from LOSSY on are of sessions that are coded again and again; from FORKS on, of forks. */
enum { NAMES = 6, LOSSY = 2, FORKS = 4 };
enum { LAYERS = 2, ROW_BYTES = 32, APPEND_TOKENS = 1 << 20 };
enum { NEVER_PERCENT = 200 };

static const struct geometry geometry = {
    .layers = LAYERS, .heads = 1, .head_dim_k = 8, .head_dim_v = 8, .dtype = PAGE_F32};
static const char *const names[NAMES] = {"a", "b", "lossy a", "lossy b", "fork a", "fork b"};

static struct store store;
static _Atomic uint64_t append_clock;         /* numbers of appends that were begun */
static _Atomic uint64_t deleted_until[NAMES]; /* appends up to this one were deleted */
static _Atomic bool over;
static _Atomic uint64_t operations, hits;

struct worker {
    pthread_t thread;
    uint64_t random;
    void *workspace;
    char *room;
    struct page_cache cache;
};

static uint64_t draw(struct worker *worker, uint64_t below) {
    worker->random = values_mix(worker->random);
    return worker->random % below;
}

static struct store_name name_of(unsigned name) {
    return (struct store_name){.text = names[name], .bytes = strlen(names[name])};
}

static void expect(bool holds, const char *what) {
    if (holds)
        return;
    fprintf(stderr, "%s\n", what);
    _Exit(1);
}

/* --- values: a number of 8 bytes, and what follows from it --- */

static void make_row(uint64_t stamp, uint32_t layer, enum page_part part, char *row) {
    memcpy(row, &stamp, sizeof stamp);
    for (uint64_t i = 1; i < ROW_BYTES / sizeof stamp; i++) {
        uint64_t value = values_mix(stamp + i + 8 * layer + 4 * (uint64_t)part);
        memcpy(row + i * sizeof value, &value, sizeof value);
    }
}

static uint64_t read_row(uint32_t layer, enum page_part part, const char *row) {
    uint64_t stamp;
    char expected[ROW_BYTES];
    memcpy(&stamp, row, sizeof stamp);
    make_row(stamp, layer, part, expected);
    expect(memcmp(row, expected, ROW_BYTES) == 0, "a token came torn, or as another's");
    return stamp;
}

/* --- what is done --- */

static void free_now(struct session_discard *discard) {
    while (session_discard_step(discard))
        ;
    session_discard_free(discard);
}

static struct session_state open_session(unsigned name) {
    struct session_state state = {0};
    struct store_open request = {
        .session = name_of(name),
        .model = {.text = "model", .bytes = 5},
        .geometry = &geometry,
        .policy = {.level = name >= LOSSY && name < FORKS ? 0 : PAGE_EXACT,
                   .idle_step_ms = 2,
                   .floor = name >= LOSSY && name < FORKS ? PAGE_LEVEL_MAX : PAGE_EXACT}};
    int status = store_open(&store, &request, &state);
    expect(status == STORE_OK || status == STORE_FULL, "open");
    return state;
}

static int put_run(struct worker *worker, struct append_member *append, uint64_t number,
                   uint64_t first, uint32_t tokens) {
    int status = STORE_OK;
    for (uint32_t layer = 0; layer < LAYERS && status == STORE_OK; layer++)
        for (enum page_part part = PAGE_K; part <= PAGE_V && status == STORE_OK; part++) {
            for (uint32_t i = 0; i < tokens; i++)
                make_row(number * APPEND_TOKENS + first + i, layer, part,
                         worker->room + (size_t)i * ROW_BYTES);
            struct append_part piece = {
                first, tokens, layer, part, worker->room, (size_t)tokens * ROW_BYTES, 0};
            status = append_put(append, &piece, worker->workspace);
        }
    return status;
}

static void append(struct worker *worker, unsigned name) {
    struct session_state state = open_session(name);
    uint64_t tokens = 1 + draw(worker, 200);
    struct append_member *append;
    struct append_request request = {.session = name_of(name),
                                     .first = state.tokens,
                                     .tokens = tokens,
                                     .tail_tokens = state.tail_tokens,
                                     .settle = draw(worker, 4) == 0,
                                     .runs_max = 8,
                                     .members = 1};
    if (state.tokens + tokens > TOKENS_MAX ||
        append_begin(&store, &request, &append, &state) != STORE_OK)
        return;
    uint64_t number = atomic_fetch_add(&append_clock, 1) + 1;
    uint64_t first = request.first, end = first + tokens;
    uint64_t room = RUN_MAX - request.tail_tokens;
    int status = STORE_OK;
    while (first < end && status == STORE_OK) {
        uint32_t run = (uint32_t)(end - first < room ? end - first : room);
        status = put_run(worker, append, number, first, run);
        first += run;
        room = RUN_MAX;
    }
    while (status == STORE_OK && draw(worker, 8) > 0 &&
           append_commit(append, worker->workspace, &state) == STORE_MORE)
        ;
    append_end(append);
}

static void check_pieces(const struct fetch_piece *pieces, size_t count, const char *values,
                         uint64_t stamps[], uint64_t deleted) {
    for (size_t i = 0; i < count; i++)
        for (uint64_t token = pieces[i].first; token < pieces[i].first + pieces[i].tokens;
             token++, values += ROW_BYTES) {
            uint64_t stamp = read_row(pieces[i].layer, pieces[i].part, values);
            expect(stamp % APPEND_TOKENS == token, "a token stands where it never stood");
            expect(stamps[token] == 0 || stamps[token] == stamp,
                   "a token's layers are of several appends");
            expect(stamp / APPEND_TOKENS > deleted, "a token came that had been deleted");
            stamps[token] = stamp;
        }
}

static void fetch(struct worker *worker, unsigned name) {
    struct fetch fetch;
    struct fetch_piece pieces[GEOMETRY_PARTS];
    uint64_t stamps[TOKENS_MAX] = {0}, deleted = atomic_load(&deleted_until[name]);
    struct fetch_request request = {.session = name_of(name), .first = draw(worker, 300)};
    struct fetch_room room = {.values = worker->room,
                              .bytes = (size_t)2 * RUN_MAX * ROW_BYTES,
                              .cache = draw(worker, 2) ? &worker->cache : NULL};
    size_t count;
    int status = fetch_begin(&store, &request, &fetch);
    while (status == STORE_OK || status == STORE_MORE) {
        status = fetch_next(&store, &fetch, &room, worker->workspace, pieces, &count);
        if (status == STORE_OK)
            break;
        if (status == STORE_MORE && (name < LOSSY || name >= FORKS))
            check_pieces(pieces, count, worker->room, stamps, deleted);
    }
    expect(status == STORE_OK || status == STORE_MISS, "fetch");
    atomic_fetch_add(&hits, status == STORE_OK);
}

static void fork_session(struct worker *worker, unsigned name) {
    struct session_state state;
    unsigned target = FORKS + (unsigned)draw(worker, NAMES - FORKS);
    struct fork_request request = {.session = name_of(name == target ? 0 : name % LOSSY),
                                   .target = name_of(target),
                                   .tokens = draw(worker, 200)};
    int status = store_fork(&store, &request, &state);
    expect(status == STORE_OK || status == STORE_MISS || status == STORE_EXISTS ||
               status == STORE_FULL,
           "fork");
}

static void truncate_session(struct worker *worker, unsigned name) {
    struct session_state state;
    struct session_discard *discard;
    struct truncate_request request = {.session = name_of(name), .tokens = draw(worker, 300)};
    int status = store_truncate(&store, &request, &state, &discard);
    expect(status == STORE_OK || status == STORE_MISS || status == STORE_BUSY, "truncate");
    if (discard)
        free_now(discard);
}

static void delete_session(unsigned name) {
    struct session_discard *discard;
    uint64_t until = atomic_load(&append_clock), before = atomic_load(&deleted_until[name]);
    if (store_delete(&store, name_of(name), &discard) != STORE_OK)
        return;
    while (name < FORKS && before < until &&
           !atomic_compare_exchange_weak(&deleted_until[name], &before, until))
        ;
    keeper_discard(&store.keeper, &discard->discard);
}

static void look(struct worker *worker, unsigned name) {
    struct session_info info;
    struct session *session = store_find(&store, name_of(name));
    if (!session)
        return;
    int status = draw(worker, 2) && name >= LOSSY && name < FORKS
                     ? policy_age(session, (int)draw(worker, 6), &info)
                     : info_read(session, &info);
    expect(status == STORE_OK || status == STORE_MISS || status == STORE_INVALID, "age or info");
    (void)policy_heed(&store, session);
    session_unref(session);
    struct store_totals totals;
    info_totals(&store, &totals);
    expect(totals.sessions <= NAMES, "there are more sessions than names");
}

static void walk(void) {
    struct session *session = list_after(&store.list, 0);
    while (session)
        session = list_next(&store.list, session);
}

static void do_something(struct worker *worker) {
    unsigned name = (unsigned)draw(worker, NAMES);
    switch (draw(worker, 16)) {
    case 0:
    case 1:
        fork_session(worker, name);
        break;
    case 2:
    case 3:
        truncate_session(worker, name);
        break;
    case 4:
        delete_session(name);
        break;
    case 5:
        look(worker, name);
        break;
    case 6:
        walk();
        break;
    case 7:
    case 8:
    case 9:
    case 10:
        append(worker, name < FORKS ? name : name - FORKS);
        break;
    default:
        fetch(worker, name);
    }
    atomic_fetch_add(&operations, 1);
}

static void *work(void *argument) {
    struct worker *worker = argument;
    while (!atomic_load(&over))
        do_something(worker);
    return NULL;
}

static void start(struct worker *worker, uint64_t seed) {
    enum { ROOM_BYTES = 1 << 20 };
    *worker = (struct worker){.random = seed,
                              .workspace = aligned_alloc(64, PAGE_WORKSPACE_BYTES),
                              .room = malloc(ROOM_BYTES),
                              .cache = {.memory = malloc(ROOM_BYTES), .bytes = ROOM_BYTES}};
    expect(pthread_create(&worker->thread, NULL, work, worker) == 0, "no thread");
}

static void finish(struct worker *worker) {
    pthread_join(worker->thread, NULL);
    free(worker->workspace);
    free(worker->room);
    free(worker->cache.memory);
}

int main(int argc, char **argv) {
    int seconds = argc > 1 ? atoi(argv[1]) : 3;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    struct worker workers[THREADS];
    struct store_options options = {.memory_bytes = LIMIT_BYTES,
                                    .landing_level = PAGE_FAST8,
                                    .codec_threads = 2,
                                    .memory_high_percent = seed % 2 ? 0 : NEVER_PERCENT};
    expect(store_init(&store, &options) == 0, "store_init");
    ageing_set_tails(&store.ageing, 1, PAGE_FAST8);
    for (unsigned i = 0; i < THREADS; i++)
        start(&workers[i], values_mix(seed * THREADS + i));
    nanosleep(&(struct timespec){.tv_sec = seconds}, NULL);
    atomic_store(&over, true);
    for (unsigned i = 0; i < THREADS; i++)
        finish(&workers[i]);
    for (unsigned name = 0; name < NAMES; name++)
        delete_session(name);
    store_deinit(&store);
    printf("%llu operations, %llu fetches to their end\n", (unsigned long long)operations,
           (unsigned long long)hits);
    return EXIT_SUCCESS;
}
