/* Matches of the model check: the session that begins with the most of some tokens. */
#include <string.h>

#include "daemon/store/match.h"
#include "tests/faults/documents.h"
#include "tests/faults/player_state.h"

/* How many of a document's tokens the session begins with. */
static uint64_t common(const struct reference_session *session, uint64_t first_stamp,
                       uint64_t tokens) {
    uint64_t count = 0;
    while (count < tokens && count < session->id_tokens &&
           document_same(session->tokens[count].stamp, first_stamp + count))
        count++;
    return count;
}

static bool is_asked_for(const struct reference_session *session, unsigned model) {
    return session->exists && session->model == model;
}

static uint64_t longest(const struct player *player, unsigned model, uint64_t first_stamp,
                        uint64_t tokens) {
    uint64_t most = 0;
    for (int slot = 0; slot < REFERENCE_SESSIONS; slot++) {
        const struct reference_session *session = &player->reference.sessions[slot];
        uint64_t count = is_asked_for(session, model) ? common(session, first_stamp, tokens) : 0;
        most = count > most ? count : most;
    }
    return most;
}

static int slot_named(const struct match_result *result) {
    int slot = 0;
    while (slot < REFERENCE_SESSIONS &&
           (player_name(slot).bytes != result->name_bytes ||
            memcmp(player_name(slot).text, result->name, result->name_bytes) != 0))
        slot++;
    return slot;
}

/* At the memory limit a session may have fewer ids than it was given. */
static void check(struct player *player, const struct match_result *result, unsigned model,
                  uint64_t first_stamp, uint64_t tokens) {
    uint64_t most = longest(player, model, first_stamp, tokens);
    player_expect(player, result->tokens == most || (result->tokens < most && player->was_squeezed),
                  "%llu tokens match, not %llu", (unsigned long long)result->tokens,
                  (unsigned long long)most);
    if (result->tokens == 0)
        return;
    int slot = slot_named(result);
    player_expect(player, slot < REFERENCE_SESSIONS, "a session that there is not");
    struct reference_session *session = player_session(player, slot);
    player_expect(player,
                  is_asked_for(session, model) &&
                      common(session, first_stamp, tokens) >= result->tokens,
                  "%s does not begin so", player_name(slot).text);
    player_expect_state(player, session, &result->state, false);
}

void player_match(struct player *player, const struct step *step) {
    const uint32_t *random = step->random;
    uint64_t tokens = 1 + random[0] % REFERENCE_TOKENS_MAX;
    uint64_t first_stamp = document_stamp(random[1] % DOCUMENTS, 0);
    bool salted = random[2] % 4 == 0;
    unsigned model = random[3] % 2;
    struct salt salt = {.end = tokens, .bytes = 4, .text = "salt"};
    struct match_request request = {
        .model = player_model(model), .tokens = tokens, .salts = &salt, .salt_count = salted};
    struct match *match;
    struct match_result result;
    uint32_t ids[REFERENCE_TOKENS_MAX];
    if (salted)
        first_stamp |= DOCUMENT_SALT_BIT;
    for (uint64_t i = 0; i < tokens; i++)
        ids[i] = document_id(first_stamp + i);
    player_say(player, "match %llu tokens of document %u%s, %s", (unsigned long long)tokens,
               random[1] % DOCUMENTS, salted ? ", salted" : "", request.model.text);
    if (!player_expect_status(player, match_begin(&player->store, &request, &match), STORE_OK))
        return;
    player_expect(player,
                  match_put_ids(match, 0, ids, tokens * sizeof *ids) == STORE_OK &&
                      match_find(match, &result) == STORE_OK,
                  "match");
    match_end(match);
    check(player, &result, model, first_stamp, tokens);
}
