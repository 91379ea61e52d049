#include "tests/faults/player.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/store/evict.h"
#include "daemon/store/fork.h"
#include "daemon/store/info.h"
#include "daemon/store/policy.h"
#include "tests/faults/player_state.h"
#include "tests/faults/values.h"

enum { ROOM_BYTES = 2 * PAGE_VALUES_MAX * 4 + 4096, CACHE_BYTES = 1 << 20 };
enum { IDLE_MS = 1, NEVER_PERCENT = 200 }; /* the keeper evicts nothing by itself: steps do */

const struct geometry player_geometries[PLAYER_GEOMETRIES] = {
    {.layers = 1, .heads = 1, .head_dim_k = 8, .head_dim_v = 8, .dtype = PAGE_F16},
    {.layers = 2, .heads = 3, .head_dim_k = 10, .head_dim_v = 6, .dtype = PAGE_BF16},
    {.layers = 2, .heads = 1, .head_dim_k = 7, .head_dim_v = 0, .dtype = PAGE_F32},
    {.layers = 1, .heads = 2, .head_dim_k = 16, .head_dim_v = 16, .dtype = PAGE_I8},
    {.layers = 2, .heads = 2, .head_dim_k = 33, .head_dim_v = 1, .dtype = PAGE_F8E4M3},
    {.layers = 1, .heads = 20, .head_dim_k = 128, .head_dim_v = 0, .dtype = PAGE_F16},
};

struct store_name player_name(int slot) {
    static const char *const names[REFERENCE_SESSIONS] = {"a0", "a1", "a2", "b0", "b1", "b2"};
    return (struct store_name){names[slot], 2};
}

struct store_name player_model(unsigned model) {
    static const char *const models[] = {"model", "another model"};
    return (struct store_name){models[model], strlen(models[model])};
}

struct reference_session *player_session(struct player *player, int slot) {
    return &player->reference.sessions[slot];
}

int player_pick(const struct player *player, uint32_t random, bool there) {
    int slot = (int)(random % REFERENCE_SESSIONS);
    for (int i = 0; random / REFERENCE_SESSIONS % 16 > 0 && i < REFERENCE_SESSIONS &&
                    player->reference.sessions[slot].exists != there;
         i++)
        slot = (slot + 1) % REFERENCE_SESSIONS;
    return slot;
}

void player_say(const struct player *player, const char *format, ...) {
    va_list arguments;
    if (!player->verbose)
        return;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    fflush(stdout);
}

void player_expect(const struct player *player, bool holds, const char *format, ...) {
    va_list arguments;
    if (holds)
        return;
    player_say(player, " : WRONG\n");
    fprintf(stderr, "seed %llu, step %zu: ", (unsigned long long)player->world->seed, player->step);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    _Exit(1);
}

static const char *name_of_status(int status) {
    static const char *const names[] = {"OK",
                                        "MORE",
                                        "WAIT",
                                        "FULL",
                                        "MISS",
                                        "BUSY",
                                        "EXISTS",
                                        "WRONG_FIRST",
                                        "TAIL_MOVED",
                                        "MODEL_MISMATCH",
                                        "VERSION_CHANGED",
                                        "UNSUPPORTED",
                                        "INVALID",
                                        "INCOMPLETE",
                                        "CANCELLED",
                                        "INTERNAL"};
    return (size_t)status < sizeof names / sizeof *names ? names[status] : "?";
}

bool player_expect_status(const struct player *player, int status, int expected) {
    player_say(player, " = %s\n", name_of_status(status));
    bool may_be_full = expected == STORE_OK || player->squeezed_bytes > 0;
    player_expect(player, status == expected || (status == STORE_FULL && may_be_full),
                  "%s where %s was expected", name_of_status(status), name_of_status(expected));
    return status == STORE_OK;
}

static bool is_same_policy(const struct session_policy *a, const struct session_policy *b) {
    return a->level == b->level && a->min_snr_db == b->min_snr_db &&
           a->newest_tokens == b->newest_tokens && a->newest_level == b->newest_level &&
           a->floor == b->floor && a->idle_step_ms == b->idle_step_ms && a->ttl_ms == b->ttl_ms;
}

void player_expect_state(const struct player *player, struct reference_session *session,
                         const struct session_state *state, bool changed) {
    player_expect(player, state->tokens == session->token_count, "%llu tokens, not %u",
                  (unsigned long long)state->tokens, session->token_count);
    player_expect(player, state->tail_tokens == session->tail_tokens, "%u tail tokens, not %u",
                  state->tail_tokens, session->tail_tokens);
    player_expect(player, is_same_policy(&state->policy, &session->policy),
                  "another policy: level %d, floor %d", state->policy.level, state->policy.floor);
    player_expect(player, state->sharing == session->sharing, "sharing %d", state->sharing);
    player_expect(player, geometry_equal(&state->geometry, session->geometry), "other geometry");
    struct store_name model = player_model(session->model);
    player_expect(player,
                  state->model_bytes == model.bytes &&
                      memcmp(state->model, model.text, model.bytes) == 0,
                  "another model");
    player_expect(player,
                  changed ? state->version > session->version : state->version == session->version,
                  "version %llu after %llu", (unsigned long long)state->version,
                  (unsigned long long)session->version);
    session->version = state->version;
}

static bool keeper_is_idle(struct keeper *keeper) {
    struct keeper_stats stats;
    keeper_read_stats(keeper, &stats);
    return stats.queued_sessions == 0;
}

static void pause_shortly(void) {
    nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

static void await_session(struct player *player, int slot) {
    struct session *session = store_find(&player->store, player_name(slot));
    if (!session)
        return;
    uint64_t ticket = keeper_ticket(&player->store.keeper, session);
    while (!keeper_has_done(&player->store.keeper, session, ticket))
        pause_shortly();
    session_unref(session);
}

void player_await_keeper(struct player *player) {
    while (!keeper_is_idle(&player->store.keeper))
        pause_shortly();
    for (int slot = 0; slot < REFERENCE_SESSIONS; slot++)
        await_session(player, slot);
}

/* --- steps on whole sessions --- */

static int level_of(uint32_t random) {
    return random % 3 == 0 ? PAGE_EXACT : PAGE_LEVEL_MIN + (int)(random / 3 % 8);
}

static const struct geometry *geometry_of(uint32_t random) {
    return &player_geometries[random % 16 == 15 ? 5 : random % 5];
}

/* The steps that free something leave it to the keeper as often as not. */
static void drop(struct player *player, struct session_discard *discard, uint32_t random) {
    if (random % 2 == 0) {
        keeper_discard(&player->store.keeper, &discard->discard);
        return;
    }
    while (session_discard_step(discard))
        ;
    session_discard_free(discard);
}

/* As a rule a level and no more. */
static struct session_policy policy_of(const uint32_t *random) {
    struct session_policy policy = {.level = level_of(random[0])};
    policy.newest_level = policy.floor = policy.level;
    if (random[1] % 16 == 0)
        policy.min_snr_db = PROMISED_DB;
    if (random[1] / 16 % 4 == 0) {
        policy.newest_tokens = random[1] / 64 % 300;
        policy.newest_level = level_of(random[1] / 1024);
    }
    if (random[1] / 65536 % 4 == 0) {
        policy.floor = level_of(random[1] / 262144);
        policy.idle_step_ms = random[1] / 262144 % 3;
    }
    return session_policy_bounded(policy);
}

static int open_status(const struct reference_session *session, const struct store_open *request,
                       unsigned model) {
    if (!session->exists)
        return request->mode == STORE_OPEN_EXISTING ? STORE_MISS : STORE_OK;
    if (request->mode == STORE_OPEN_NEW)
        return STORE_EXISTS;
    bool same = model == session->model &&
                (!request->geometry || geometry_equal(request->geometry, session->geometry));
    return same ? STORE_OK : STORE_MODEL_MISMATCH;
}

static void create(struct player *player, int slot, const struct store_open *request,
                   unsigned model) {
    struct reference_session *session = player_session(player, slot);
    session->exists = true;
    session->geometry = request->geometry;
    session->model = model;
    session->policy = request->policy;
    session->sharing = request->sharing;
    session->id_tokens = 0;
    session->pinned = false;
    session->incarnation = ++player->reference.incarnations;
    session->least_cut = UINT32_MAX;
}

static void play_open(struct player *player, const struct step *step) {
    const uint32_t *random = step->random;
    int slot = player_pick(player, random[0], random[7] % 4 == 0);
    struct reference_session *session = player_session(player, slot);
    bool other = random[1] % 8 == 0;
    bool alike = player->world->alike;
    unsigned model = session->exists && !other ? session->model : alike ? 0 : random[2] % 2;
    uint32_t shape = alike ? (uint32_t)player->world->seed : random[3];
    struct store_open request = {
        .session = player_name(slot),
        .model = player_model(model),
        .geometry = session->exists && !other ? session->geometry : geometry_of(shape),
        .policy = policy_of(random + 4),
        .sharing = (enum session_sharing)(random[6] / 8 % (alike ? 2 : 3) + alike),
        .mode =
            random[6] % 8 < 6 ? STORE_OPEN_OR_CREATE : (enum store_open_mode)(random[6] % 8 - 5),
    };
    player_say(player,
               "open %s, geometry %d, %s, sharing %d, level %d, floor %d, newest %llu at %d, %g "
               "dB, mode %d",
               request.session.text, (int)(request.geometry - player_geometries),
               request.model.text, request.sharing, request.policy.level, request.policy.floor,
               (unsigned long long)request.policy.newest_tokens, request.policy.newest_level,
               request.policy.min_snr_db, request.mode);
    struct session_state state;
    int expected = open_status(session, &request, model);
    if (!player_expect_status(player, store_open(&player->store, &request, &state), expected))
        return;
    bool created = !session->exists;
    player_expect(player, state.created == created, "created: %d", state.created);
    if (created)
        create(player, slot, &request, model);
    player_expect_state(player, session, &state, created);
}

static int copy_status(const struct reference_session *session, uint64_t tokens,
                       bool version_fits) {
    if (!session->exists)
        return STORE_MISS;
    if (!version_fits)
        return STORE_VERSION_CHANGED;
    return tokens > session->token_count ? STORE_MISS : STORE_OK;
}

/* A length up to the session's and one more, often where something ends. */
static uint64_t cut_of(const struct reference_session *session, const uint32_t *random) {
    static const uint32_t edges[] = {0, 1, 4, 127, 128, 129, 256};
    uint32_t tokens = session->token_count;
    if (random[0] % 4 == 0)
        return random[1] % 16 == 0 ? tokens + 1 : tokens - session->tail_tokens;
    if (random[0] % 4 == 1)
        return edges[random[1] % 7] < tokens ? edges[random[1] % 7] : tokens;
    return random[1] % (tokens + 1);
}

static void play_fork(struct player *player, const struct step *step) {
    const uint32_t *random = step->random;
    int source_slot = player_pick(player, random[0], true);
    int target_slot = player_pick(player, random[1], false);
    const struct reference_session *source = player_session(player, source_slot);
    struct reference_session *target = player_session(player, target_slot);
    bool version_fits = random[2] % 16 > 0;
    struct fork_request request = {
        .session = player_name(source_slot),
        .target = player_name(target_slot),
        .tokens = cut_of(source, random + 3),
        .if_version = source->version - !version_fits,
    };
    uint64_t tokens = request.tokens ? request.tokens : source->token_count;
    player_say(player, "fork %s to %s, %llu tokens, if version %llu", request.session.text,
               request.target.text, (unsigned long long)request.tokens,
               (unsigned long long)request.if_version);
    struct session_state state;
    int expected = target->exists ? STORE_EXISTS : copy_status(source, tokens, version_fits);
    if (!player_expect_status(player, store_fork(&player->store, &request, &state), expected))
        return;
    target->exists = true;
    target->pinned = false;
    target->incarnation = ++player->reference.incarnations;
    target->least_cut = UINT32_MAX;
    reference_fork(source, target, (uint32_t)tokens);
    player_expect_state(player, target, &state, true);
}

static uint32_t lesser(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static void note_cut(struct player *player, int slot, uint32_t tokens) {
    struct reference_session *session = player_session(player, slot);
    session->least_cut = lesser(session->least_cut, tokens);
    for (int i = 0; i < PLAYER_UNDER_WAY; i++) {
        struct player_fetch *fetch = &player->fetches[i];
        if (fetch->incarnation != session->incarnation)
            continue;
        fetch->least_cut = lesser(fetch->least_cut, tokens);
        if (++fetch->cuts_since_pull > 1)
            fetch->may_end = session->least_cut;
    }
}

static void play_truncate(struct player *player, const struct step *step) {
    const uint32_t *random = step->random;
    int slot = player_pick(player, random[0], true);
    struct reference_session *session = player_session(player, slot);
    bool version_fits = random[1] % 16 > 0;
    struct truncate_request request = {.session = player_name(slot),
                                       .tokens = cut_of(session, random + 2),
                                       .if_version = session->version - !version_fits};
    player_say(player, "truncate %s to %llu tokens, if version %llu", request.session.text,
               (unsigned long long)request.tokens, (unsigned long long)request.if_version);
    struct session_state state;
    struct session_discard *discard;
    int expected = copy_status(session, request.tokens, version_fits);
    if (expected == STORE_OK && player_is_appending(player, slot))
        expected = STORE_BUSY;
    int status = store_truncate(&player->store, &request, &state, &discard);
    if (discard)
        drop(player, discard, random[4]);
    if (!player_expect_status(player, status, expected))
        return;
    bool changes = request.tokens != session->token_count;
    if (changes)
        note_cut(player, slot, (uint32_t)request.tokens);
    reference_cut(session, (uint32_t)request.tokens);
    player_expect_state(player, session, &state, changes);
}

static void play_age(struct player *player, const struct step *step) {
    const uint32_t *random = step->random;
    int slot = player_pick(player, random[0], true), level = level_of(random[1]);
    struct reference_session *expected = player_session(player, slot);
    struct session *session = store_find(&player->store, player_name(slot));
    struct session_info before;
    uint64_t ticket;
    player_say(player, "age %s to level %d", player_name(slot).text, level);
    player_expect(player, (session != NULL) == expected->exists, "there: %d", session != NULL);
    if (!session) {
        player_say(player, " = MISS\n");
        return;
    }
    int status = policy_age(&player->store, session, level, &before, &ticket);
    session_unref(session);
    if (!player_expect_status(player, status,
                              level < expected->policy.level ? STORE_INVALID : STORE_OK))
        return;
    player_expect(player, before.state.policy.level == expected->policy.level, "level %d before",
                  before.state.policy.level);
    expected->policy.level = expected->policy.newest_level = level;
    expected->policy = session_policy_bounded(expected->policy);
    if (random[2] % 2 == 0)
        await_session(player, slot);
}

static void play_pin(struct player *player, const struct step *step) {
    static const uint64_t hour_ns = 3600000000000u;
    int slot = player_pick(player, step->random[0], true);
    struct reference_session *session = player_session(player, slot);
    bool pin = step->random[1] % 2 == 0;
    player_say(player, "%s %s", pin ? "pin" : "unpin", player_name(slot).text);
    struct session *held = store_find(&player->store, player_name(slot));
    int status = held ? policy_pin(&player->store, held, pin ? hour_ns : 0) : STORE_MISS;
    if (held)
        session_unref(held);
    if (player_expect_status(player, status, session->exists ? STORE_OK : STORE_MISS))
        session->pinned = pin;
}

static void expect_counts(const struct player *player, const struct session_info *info) {
    uint64_t tokens = info->sinks.tokens + info->tail.tokens;
    uint64_t bytes = info->sinks.bytes + info->tail.bytes;
    for (int i = 0; i < INFO_LEVELS; i++) {
        tokens += info->levels[i].tokens;
        bytes += info->levels[i].bytes;
    }
    player_expect(player, tokens == info->state.tokens, "levels of %llu tokens together",
                  (unsigned long long)tokens);
    player_expect(player, bytes <= info->stored_bytes, "levels of %llu bytes, %llu stored",
                  (unsigned long long)bytes, (unsigned long long)info->stored_bytes);
    player_expect(player, info->unique_bytes <= info->stored_bytes, "unique bytes %llu of %llu",
                  (unsigned long long)info->unique_bytes, (unsigned long long)info->stored_bytes);
}

static void check_info(struct player *player, int slot) {
    struct reference_session *expected = player_session(player, slot);
    struct session *session = store_find(&player->store, player_name(slot));
    struct session_info info;
    player_expect(player, (session != NULL) == expected->exists, "there: %d", session != NULL);
    if (!session)
        return;
    player_expect(player, info_read(session, &info) == STORE_OK, "info_read");
    session_unref(session);
    player_expect_state(player, expected, &info.state, false);
    player_expect(player, (info.pinned_ns > 0) == expected->pinned, "pinned: %d",
                  info.pinned_ns > 0);
    player_expect(player,
                  info.logical_bytes ==
                      expected->token_count * geometry_token_bytes(expected->geometry),
                  "%llu logical bytes", (unsigned long long)info.logical_bytes);
    expect_counts(player, &info);
}

static void play_info(struct player *player, const struct step *step) {
    int slot = player_pick(player, step->random[0], true);
    player_say(player, "info %s\n", player_name(slot).text);
    check_info(player, slot);
}

static void forget(struct player *player, int slot) {
    struct reference_session *session = player_session(player, slot);
    for (int i = 0; i < PLAYER_UNDER_WAY; i++)
        if (player->appends[i].member_count > 0 &&
            player->appends[i].incarnation == session->incarnation)
            player->appends[i].dead = true;
    reference_cut(session, 0);
    session->exists = false;
    session->version = 0;
    session->incarnation = 0;
}

static void play_delete(struct player *player, const struct step *step) {
    int slot = player_pick(player, step->random[0], true);
    struct session_discard *discard;
    player_say(player, "delete %s", player_name(slot).text);
    int status = store_delete(&player->store, player_name(slot), &discard);
    if (!player_expect_status(player, status,
                              player_session(player, slot)->exists ? STORE_OK : STORE_MISS))
        return;
    drop(player, discard, step->random[1]);
    forget(player, slot);
}

/* With a filter, session by session as rpc does it. */
static void play_delete_many(struct player *player, const struct step *step) {
    const uint32_t *random = step->random;
    unsigned model = random[2] % 2;
    struct session_filter filter = {.prefix = {random[0] % 2 == 0 ? "a" : "b", 1},
                                    .pinned_too = random[1] % 2 == 0};
    if (random[3] % 2 == 0)
        filter.model = player_model(model);
    player_say(
        player, "delete all %s*%s%s%s\n", filter.prefix.text, filter.model.bytes > 0 ? " of " : "",
        filter.model.bytes > 0 ? filter.model.text : "", filter.pinned_too ? ", pinned too" : "");
    for (int slot = 0; slot < REFERENCE_SESSIONS; slot++) {
        struct reference_session *expected = player_session(player, slot);
        struct session *session = store_find(&player->store, player_name(slot));
        struct session_discard *discard;
        bool goes = expected->exists && player_name(slot).text[0] == filter.prefix.text[0] &&
                    (filter.model.bytes == 0 || expected->model == model) &&
                    (filter.pinned_too || !expected->pinned);
        player_expect(player, (session != NULL) == expected->exists, "there: %d", session != NULL);
        if (!session)
            continue;
        int status = store_delete_session(&player->store, session, &filter, &discard);
        session_unref(session);
        player_expect(player, (status == STORE_OK) == goes, "%s deleted: %d",
                      player_name(slot).text, status == STORE_OK);
        if (!goes)
            continue;
        drop(player, discard, random[4]);
        forget(player, slot);
    }
}

/* The tail goes, and slices from the end on: what is left ends where one ended. */
static void lose_tokens(struct player *player, int slot, const struct evict_result *result) {
    struct reference_session *session = player_session(player, slot);
    uint32_t tokens = session->token_count, coded = tokens - session->tail_tokens;
    player_expect(player, result->tokens <= tokens, "%llu tokens lost of %u",
                  (unsigned long long)result->tokens, tokens);
    uint32_t left = tokens - (uint32_t)result->tokens;
    player_expect(player,
                  left == coded || (left < coded && (left == 0 || session->tokens[left].row == 0 ||
                                                     session->tokens[left].group !=
                                                         session->tokens[left - 1].group)),
                  "%u tokens are left, where nothing ends", left);
    player_expect(player, result->deleted == (left == 0), "deleted: %d", result->deleted);
    note_cut(player, slot, left);
    if (result->deleted)
        forget(player, slot);
    else
        reference_cut(session, left);
}

static void play_evict(struct player *player, const struct step *step) {
    int slot = player_pick(player, step->random[0], true);
    struct reference_session *expected = player_session(player, slot);
    struct session *session = store_find(&player->store, player_name(slot));
    struct evict_request request = {.want_bytes = 1 + step->random[1] % 65536,
                                    .shared_too = step->random[2] % 2 == 0};
    struct evict_result result;
    struct session_info info;
    player_expect(player, (session != NULL) == expected->exists, "there: %d", session != NULL);
    if (!session)
        return;
    player_say(player, "evict %llu bytes of %s%s", (unsigned long long)request.want_bytes,
               player_name(slot).text, request.shared_too ? ", shared too" : "");
    int status = evict_session(&player->store, session, &request, &result);
    bool frees_nothing = status == STORE_UNSUPPORTED;
    bool evicted = player_expect_status(player, status,
                                        expected->pinned                    ? STORE_BUSY
                                        : player_is_appending(player, slot) ? STORE_WAIT
                                        : frees_nothing                     ? STORE_UNSUPPORTED
                                                                            : STORE_OK);
    if (evicted)
        lose_tokens(player, slot, &result);
    if (evicted && expected->exists) {
        player_expect(player, info_read(session, &info) == STORE_OK, "info_read");
        player_expect_state(player, expected, &info.state, true);
    }
    session_unref(session);
}

static void play_squeeze(struct player *player, const struct step *step) {
    struct budget *budget = &player->store.budget;
    uint64_t leave = step->random[1] % 65536;
    budget_release(budget, player->squeezed_bytes);
    player->squeezed_bytes = 0;
    uint64_t free_bytes = player->world->memory_bytes - store_used_bytes(&player->store);
    if (step->random[0] % 2 == 0 && free_bytes > leave &&
        budget_reserve(budget, free_bytes - leave))
        player->squeezed_bytes = free_bytes - leave;
    player->was_squeezed |= player->squeezed_bytes > 0;
    player_say(player, "squeeze by %llu bytes\n", (unsigned long long)player->squeezed_bytes);
}

static void play_await_keeper(struct player *player, const struct step *step) {
    (void)step;
    player_say(player, "await the keeper\n");
    player_await_keeper(player);
}

static void play_rest(struct player *player, const struct step *step) {
    (void)step;
    player_say(player, "rest\n");
    nanosleep(&(struct timespec){.tv_nsec = 2 * IDLE_MS * 1000000L}, NULL);
}

/* --- programs --- */

static void (*const plays[STEP_KINDS])(struct player *player, const struct step *step) = {
    [STEP_OPEN] = play_open,
    [STEP_APPEND] = player_append,
    [STEP_APPEND_BEGIN] = player_append_begin,
    [STEP_APPEND_PUT] = player_append_put,
    [STEP_APPEND_COMMIT] = player_append_commit,
    [STEP_APPEND_DROP] = player_append_drop,
    [STEP_FETCH] = player_fetch,
    [STEP_FETCH_BEGIN] = player_fetch_begin,
    [STEP_FETCH_NEXT] = player_fetch_next,
    [STEP_FORK] = play_fork,
    [STEP_TRUNCATE] = play_truncate,
    [STEP_AGE] = play_age,
    [STEP_PIN] = play_pin,
    [STEP_INFO] = play_info,
    [STEP_DELETE] = play_delete,
    [STEP_DELETE_MANY] = play_delete_many,
    [STEP_AWAIT_KEEPER] = play_await_keeper,
    [STEP_EVICT] = play_evict,
    [STEP_MATCH] = player_match,
    [STEP_SQUEEZE] = play_squeeze,
    [STEP_REST] = play_rest,
};

static void set_up(struct player *player) {
    const struct world *world = player->world;
    struct store_options options = {.memory_bytes = world->memory_bytes,
                                    .landing_level = world->landing_level,
                                    .codec_threads = world->codec_threads,
                                    .memory_high_percent = NEVER_PERCENT,
                                    .memory_low_percent = NEVER_PERCENT};
    player_expect(player, store_init(&player->store, &options) == 0, "store_init");
    reference_init(&player->reference);
    if (world->idle_tails)
        ageing_set_tails(&player->store.ageing, IDLE_MS, world->tail_level);
    player->reference.tails_at_fast8 = world->idle_tails && world->tail_level == PAGE_FAST8;
    player->workspace = aligned_alloc(64, PAGE_WORKSPACE_BYTES);
    player->room = malloc(ROOM_BYTES);
    player->cache = (struct page_cache){.memory = malloc(CACHE_BYTES), .bytes = CACHE_BYTES};
    player_say(
        player,
        "memory %llu MiB, landing level %d, codec threads %zu, tails of idle sessions %s %d\n",
        (unsigned long long)world->memory_bytes >> 20, world->landing_level, world->codec_threads,
        world->idle_tails ? "at" : "raw, not at", world->tail_level);
}

static void tear_down(struct player *player) {
    store_deinit(&player->store);
    reference_deinit(&player->reference);
    free(player->workspace);
    free(player->room);
    free(player->cache.memory);
}

/* What the store holds once the sessions are gone, and what was being dropped. */
static void expect_empty(struct player *player) {
    struct store_totals totals;
    uint64_t fixed_bytes = store_fixed_bytes(&player->store);
    for (int i = 0; i < 100000 && store_used_bytes(&player->store) != fixed_bytes; i++)
        pause_shortly();
    info_totals(&player->store, &totals);
    player_expect(player, store_used_bytes(&player->store) == fixed_bytes,
                  "%llu bytes in use of an empty store, %llu of them fixed",
                  (unsigned long long)store_used_bytes(&player->store),
                  (unsigned long long)fixed_bytes);
    player_expect(player,
                  totals.sessions == 0 && totals.tokens == 0 && totals.logical_bytes == 0 &&
                      totals.stored_bytes == 0 && totals.unique_bytes == 0,
                  "totals of an empty store: %llu sessions, %llu tokens, %llu bytes",
                  (unsigned long long)totals.sessions, (unsigned long long)totals.tokens,
                  (unsigned long long)totals.stored_bytes);
}

static void end(struct player *player) {
    struct ageing_stats ageing;
    ageing_read_stats(&player->store.ageing, &ageing);
    player_say(player, "%llu tails were coded, %llu decoded again, %llu chunks aged by time\n",
               (unsigned long long)ageing.coded_tails, (unsigned long long)ageing.decoded_tails,
               (unsigned long long)ageing.chunks);
    play_squeeze(player, &(struct step){.random = {1}});
    for (int slot = 0; slot < REFERENCE_SESSIONS; slot++) {
        check_info(player, slot);
        player_check_all_of(player, slot);
    }
    for (uint32_t i = 0; i < PLAYER_UNDER_WAY; i++)
        player_append_drop(player, &(struct step){.random = {i}});
    for (int slot = 0; slot < REFERENCE_SESSIONS; slot++)
        play_delete(player, &(struct step){.random = {(uint32_t)slot}});
    expect_empty(player);
}

void play(const struct world *world, const struct step *steps, size_t count, bool verbose) {
    struct player *player = calloc(1, sizeof *player);
    player->world = world;
    player->verbose = verbose;
    set_up(player);
    for (player->step = 0; player->step < count; player->step++)
        plays[steps[player->step].kind](player, &steps[player->step]);
    end(player);
    tear_down(player);
    free(player);
}
