/* Steps of the model check on sessions as they are: opened, aged, pinned, looked at. */
#include "daemon/store/info.h"
#include "daemon/store/policy.h"
#include "tests/faults/player_state.h"

int player_level(uint32_t random) {
    return random % 3 == 0 ? PAGE_EXACT : PAGE_LEVEL_MIN + (int)(random / 3 % 8);
}

static const struct geometry *geometry_of(uint32_t random) {
    return &player_geometries[random % 16 == 15 ? 5 : random % 5];
}

/* As a rule a level and no more. */
static struct session_policy policy_of(const uint32_t *random) {
    struct session_policy policy = {.level = player_level(random[0])};
    policy.newest_level = policy.floor = policy.level;
    if (random[1] % 16 == 0)
        policy.min_snr_db = PROMISED_DB;
    if (random[1] / 16 % 4 == 0) {
        policy.newest_tokens = random[1] / 64 % 300;
        policy.newest_level = player_level(random[1] / 1024);
    }
    if (random[1] / 65536 % 4 == 0) {
        policy.floor = player_level(random[1] / 262144);
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
    session->key_summaries = request->key_summaries;
    session->id_tokens = 0;
    session->pinned = false;
    session->on_disk = request->durability && *request->durability == SESSION_ON_DISK;
    session->loosened = PAGE_LEVEL_MIN;
    session->incarnation = ++player->reference.incarnations;
    session->least_cut = UINT32_MAX;
}

void player_open(struct player *player, const struct step *step) {
    const uint32_t *random = step->random;
    int slot = player_pick(player, random[0], random[7] % 4 == 0);
    struct reference_session *session = player_session(player, slot);
    bool other = random[1] % 8 == 0;
    bool alike = player->world->alike;
    unsigned model = session->exists && !other ? session->model : alike ? 0 : random[2] % 2;
    uint32_t shape = alike ? (uint32_t)player->world->seed : random[3];
    enum session_durability durability = random[6] / 64 % 2 ? SESSION_ON_DISK : SESSION_IN_MEMORY;
    struct store_open request = {
        .session = player_name(slot),
        .model = player_model(model),
        .geometry = session->exists && !other ? session->geometry : geometry_of(shape),
        .policy = policy_of(random + 4),
        .sharing = (enum session_sharing)(random[6] / 8 % (alike ? 2 : 3) + alike),
        .key_summaries = player->world->key_summaries && random[2] / 2 % 4 > 0,
        .mode =
            random[6] % 8 < 6 ? STORE_OPEN_OR_CREATE : (enum store_open_mode)(random[6] % 8 - 5),
        .durability = player->world->disk && random[6] / 128 % 2 ? &durability : NULL,
    };
    player_say(player,
               "open %s, geometry %d, %s, sharing %d, level %d, floor %d, newest %llu at %d, %g "
               "dB, mode %d, durability %d%s",
               request.session.text, (int)(request.geometry - player_geometries),
               request.model.text, request.sharing, request.policy.level, request.policy.floor,
               (unsigned long long)request.policy.newest_tokens, request.policy.newest_level,
               request.policy.min_snr_db, request.mode, request.durability ? (int)durability : -1,
               request.key_summaries ? ", key summaries" : "");
    struct session_state state;
    int status, expected = open_status(session, &request, model);
    do
        status = store_open(&player->store, &request, &state);
    while (player_name_is_to_come(status));
    if (player_name_is_kept(player, status) || !player_expect_status(player, status, expected))
        return;
    bool created = !session->exists;
    player_expect(player, state.created == created, "created: %d", state.created);
    if (created)
        create(player, slot, &request, model);
    else if (request.durability)
        session->on_disk = durability == SESSION_ON_DISK;
    player_expect_state(player, session, &state, created);
}

static void heed(struct player *player, int slot) {
    struct session *session = store_find(&player->store, player_name(slot));
    if (session) {
        (void)policy_heed(&player->store, session);
        session_unref(session);
    }
}

void player_age(struct player *player, const struct step *step) {
    const uint32_t *random = step->random;
    int slot = player_pick(player, random[0], true), level = player_level(random[1]);
    struct reference_session *expected = player_session(player, slot);
    struct session *session = store_find(&player->store, player_name(slot));
    struct session_info before;
    player_say(player, "age %s to level %d", player_name(slot).text, level);
    player_expect(player, (session != NULL) == expected->exists, "there: %d", session != NULL);
    if (!session) {
        player_say(player, " = MISS\n");
        return;
    }
    int status = policy_age(session, level, &before);
    session_unref(session);
    if (!player_expect_status(player, status,
                              level < expected->policy.level ? STORE_INVALID : STORE_OK))
        return;
    player_expect(player, before.state.policy.level == expected->policy.level, "level %d before",
                  before.state.policy.level);
    expected->policy.level = expected->policy.newest_level = level;
    expected->policy = session_policy_bounded(expected->policy);
    player_note_floor(player, slot);
    player_save_if_owed(player, slot);
    heed(player, slot);
    if (random[2] % 2 == 0)
        player_await_session(player, slot);
}

void player_pin(struct player *player, const struct step *step) {
    static const uint64_t hour_ns = 3600000000000u;
    int slot = player_pick(player, step->random[0], true);
    struct reference_session *session = player_session(player, slot);
    bool pin = step->random[1] % 2 == 0;
    player_say(player, "%s %s", pin ? "pin" : "unpin", player_name(slot).text);
    struct session *held = store_find(&player->store, player_name(slot));
    int status = held ? policy_pin(&player->store, held, pin ? hour_ns : 0) : STORE_MISS;
    if (held)
        session_unref(held);
    if (!player_expect_status(player, status, session->exists ? STORE_OK : STORE_MISS))
        return;
    session->pinned = pin;
    player_save_if_owed(player, slot);
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

void player_check_info(struct player *player, int slot) {
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
    player_expect(player, (info.attachments.count > 0) == reference_has_attachments(expected),
                  "%llu attachments", (unsigned long long)info.attachments.count);
    player_expect(player,
                  info.key_summaries_bytes > 0 ||
                      !(expected->key_summaries && expected->token_count > expected->tail_tokens),
                  "no summary of its keys");
    expect_counts(player, &info);
}

void player_info(struct player *player, const struct step *step) {
    int slot = player_pick(player, step->random[0], true);
    player_say(player, "info %s\n", player_name(slot).text);
    player_check_info(player, slot);
}
