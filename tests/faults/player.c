#include "tests/faults/player_state.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/faults/power.h"
#include "tests/faults/values.h"

enum { IDLE_MS = 1, NEVER_PERCENT = 200 }; /* the keeper evicts nothing by itself: steps do */
enum { DISK_BYTES = 32 << 20 };

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
    return (struct store_name){.text = names[slot], .bytes = 2};
}

struct store_name player_model(unsigned model) {
    static const char *const models[] = {"model", "another model"};
    return (struct store_name){.text = models[model], .bytes = strlen(models[model])};
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
                                        "DISK",
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
    player_expect(player, state->key_summaries == session->key_summaries, "key summaries: %d",
                  state->key_summaries);
    player_expect(player, (state->durability == SESSION_ON_DISK) == session->on_disk,
                  "durability %d", state->durability);
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

void player_pause(void) {
    nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

void player_await_session(struct player *player, int slot) {
    struct session *session = store_find(&player->store, player_name(slot));
    if (!session)
        return;
    uint64_t ticket = keeper_ticket(&player->store.keeper, session);
    while (!keeper_has_done(&player->store.keeper, session, ticket))
        player_pause();
    session_unref(session);
}

void player_await_keeper(struct player *player) {
    while (!keeper_is_idle(&player->store.keeper))
        player_pause();
    for (int slot = 0; slot < REFERENCE_SESSIONS; slot++)
        player_await_session(player, slot);
}

void player_unsqueeze(struct player *player) {
    budget_release(&player->store.budget, player->squeezed_bytes);
    player->squeezed_bytes = 0;
}

void player_start(struct player *player) {
    const struct world *world = player->world;
    char directory[PLAYER_PATH_BYTES + 8], key[PLAYER_PATH_BYTES + 8];
    snprintf(directory, sizeof directory, "%s/disk", player->directory);
    snprintf(key, sizeof key, "%s/key", player->directory);
    struct store_options options = {.memory_bytes = world->memory_bytes,
                                    .landing_level = world->landing_level,
                                    .codec_threads = world->codec_threads,
                                    .memory_high_percent = NEVER_PERCENT,
                                    .memory_low_percent = NEVER_PERCENT};
    if (world->disk)
        options.disk = (struct store_disk_options){.directory = directory,
                                                   .limit_bytes = DISK_BYTES,
                                                   .key_file = world->encrypted ? key : NULL,
                                                   .io = &power_io};
    player_begin_recall(player, &options);
    power_begin();
    player_expect(player, store_init(&player->store, &options) == 0, "store_init");
    player->cache = /* of the store before, whose serials come again */
        (struct page_cache){.memory = player->cache.memory, .bytes = player->cache.bytes};
    while (store_is_recovering(&player->store))
        player_pause();
    if (world->idle_tails)
        ageing_set_tails(&player->store.ageing, IDLE_MS, world->tail_level);
}

void player_make_values(const struct player_values *of, char *values) {
    const struct geometry *geometry = of->geometry;
    size_t row_bytes = geometry_part_bytes(geometry, of->part, 1);
    size_t head_bytes = row_bytes / geometry->heads;
    char row[VALUES_ROW_MAX * sizeof(float)];
    for (uint32_t i = 0; i < of->tokens; i++) {
        values_make(geometry, of->first_stamp + i, of->layer, of->part, row);
        for (uint32_t head = 0; head < geometry->heads; head++) {
            size_t at = of->heads_first ? (head * of->tokens + i) * head_bytes
                                        : i * row_bytes + head * head_bytes;
            memcpy(values + at, row + head * head_bytes, head_bytes);
        }
    }
}
