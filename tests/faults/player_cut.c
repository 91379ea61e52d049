/* Steps of the model check by which sessions come to have fewer tokens, or others the same: forks,
 * truncations, deletes and evictions. */
#include <string.h>

#include "daemon/store/evict.h"
#include "daemon/store/fork.h"
#include "daemon/store/info.h"
#include "tests/faults/player_state.h"

static int copy_status(const struct reference_session *session, uint64_t tokens,
                       bool version_fits) {
    if (!session->exists)
        return STORE_MISS;
    if (!version_fits)
        return STORE_VERSION_CHANGED;
    return tokens > session->token_count ? STORE_MISS : STORE_OK;
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

void player_fork(struct player *player, const struct step *step) {
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
    int status;
    int expected = target->exists ? STORE_EXISTS : copy_status(source, tokens, version_fits);
    do
        status = store_fork(&player->store, &request, &state);
    while (player_name_is_to_come(status));
    if (player_name_is_kept(player, status) || !player_expect_status(player, status, expected))
        return;
    target->exists = true;
    target->pinned = false;
    target->incarnation = ++player->reference.incarnations;
    target->least_cut = UINT32_MAX;
    reference_fork(source, target, (uint32_t)tokens);
    player_expect_state(player, target, &state, true);
    player_save_if_owed(player, target_slot);
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

void player_truncate(struct player *player, const struct step *step) {
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
    bool changes = request.tokens != session->token_count ||
                   (request.tokens == 0 && reference_has_attachments(session));
    if (changes)
        note_cut(player, slot, (uint32_t)request.tokens);
    reference_cut(session, (uint32_t)request.tokens);
    if (request.tokens == 0)
        memset(session->attachments, 0, sizeof session->attachments);
    player_expect_state(player, session, &state, changes);
    player_save_if_owed(player, slot);
}

static void end_delete(struct player *player, int slot, struct session_discard *discard,
                       uint32_t random) {
    player_await_delete(player, slot, discard);
    drop(player, discard, random);
}

static void forget(struct player *player, int slot) {
    struct reference_session *session = player_session(player, slot);
    for (int i = 0; i < PLAYER_UNDER_WAY; i++)
        if (player->appends[i].member_count > 0 &&
            player->appends[i].incarnation == session->incarnation)
            player->appends[i].dead = true;
    reference_cut(session, 0);
    memset(session->attachments, 0, sizeof session->attachments);
    session->exists = false;
    session->version = 0;
    session->incarnation = 0;
}

void player_delete(struct player *player, const struct step *step) {
    int slot = player_pick(player, step->random[0], true);
    struct session_discard *discard;
    player_say(player, "delete %s", player_name(slot).text);
    int status = store_delete(&player->store, player_name(slot), &discard);
    if (!player_expect_status(player, status,
                              player_session(player, slot)->exists ? STORE_OK : STORE_MISS))
        return;
    forget(player, slot);
    end_delete(player, slot, discard, step->random[1]);
}

/* With a filter, session by session as rpc does it. */
void player_delete_many(struct player *player, const struct step *step) {
    const uint32_t *random = step->random;
    unsigned model = random[2] % 2;
    struct session_filter filter = {.prefix = {.text = random[0] % 2 == 0 ? "a" : "b", .bytes = 1},
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
        forget(player, slot);
        end_delete(player, slot, discard, random[4]);
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
    player_note_eviction(player, slot, left);
    if (result->deleted)
        forget(player, slot);
    else
        reference_cut(session, left);
}

/* One that was just used and has nothing stays a while. */
static bool waits_for_tokens(const struct reference_session *session) {
    return session->token_count == 0 && !reference_has_attachments(session);
}

void player_evict(struct player *player, const struct step *step) {
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
                                        : waits_for_tokens(expected)        ? STORE_WAIT
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
