/* Appends of the model check: whole, in pieces between which other things happen, by several
 * members, in any order of parts, and some that ask for what cannot be. */
#include <stdlib.h>
#include <string.h>

#include "tests/faults/documents.h"
#include "tests/faults/player_state.h"
#include "tests/faults/values.h"

enum { RUNS_MAX = 8 };

bool player_is_appending(const struct player *player, int slot) {
    for (int i = 0; i < PLAYER_UNDER_WAY; i++)
        if (player->appends[i].member_count > 0 && !player->appends[i].dead &&
            player->appends[i].slot == slot)
            return true;
    return false;
}

/* --- what is sent --- */

static uint32_t room_in(const struct reference_session *session) {
    uint32_t page = geometry_page_tokens(session->geometry);
    uint32_t most = page < PAGE_TOKENS_MAX ? 3 * page : (uint32_t)REFERENCE_TOKENS_MAX;
    return most > session->token_count ? most - session->token_count : 0;
}

static uint32_t tokens_of(const struct reference_session *session, const uint32_t *random) {
    static const uint32_t counts[] = {1, 2, 5, 127, 128, 129, 256};
    uint32_t page = geometry_page_tokens(session->geometry);
    uint32_t tokens = random[0] % 4 == 0   ? counts[random[1] % 7]
                      : random[0] % 4 == 1 ? page - session->tail_tokens
                                           : 1 + random[1] % 300;
    uint32_t room = room_in(session);
    return tokens < room ? tokens : room;
}

static void cut_into_parts(struct player_append *append) {
    uint32_t page = geometry_page_tokens(append->geometry);
    uint32_t first = append->first, end = append->first + append->tokens;
    uint32_t tokens = page - append->tail_tokens;
    for (uint32_t run = 0; first < end; run++) {
        tokens = tokens < end - first ? tokens : end - first;
        for (uint32_t layer = 0; layer < append->geometry->layers; layer++)
            for (enum page_part part = PAGE_K; part <= PAGE_V; part++)
                if (geometry_head_dim(append->geometry, part) > 0)
                    append->parts[append->part_count++] =
                        (struct player_part){run, first, tokens, layer, part};
        first += tokens;
        tokens = page;
    }
}

static void shuffle(struct player_append *append, uint32_t random) {
    for (uint32_t i = append->part_count; i > 1; i--) {
        uint32_t other = (uint32_t)(values_mix(random + i) % i);
        struct player_part part = append->parts[i - 1];
        append->parts[i - 1] = append->parts[other];
        append->parts[other] = part;
    }
}

/* Mostly of a document, where a session is to share with others: the same tokens as theirs. Where
 * what comes of it may not be another worker's, several workers are at it. */
static uint64_t first_stamp_of(const struct player *player, const struct reference_session *session,
                               const uint32_t *random) {
    bool wild = random[6] % 8 == 0 && !player->reference.tails_at_fast8;
    if (session->sharing == SESSION_SHARES_NOTHING && random[7] / 256 % 8 > 0)
        return (player->stamps + 1) | (wild ? VALUES_WILD_BIT : 0);
    uint64_t stamp = document_stamp(player->world->alike ? 0 : random[7] / 2048 % DOCUMENTS,
                                    session->token_count);
    if (random[7] / 8192 % 4 == 0)
        stamp |= DOCUMENT_SALT_BIT;
    return random[7] / 32768 % 4 == 0 ? stamp | DOCUMENT_WORKER_BIT : stamp;
}

/* What has no document has ids of its own. */
static uint32_t id_of(uint64_t stamp) {
    return stamp & DOCUMENT_BIT ? document_id(stamp) : UINT32_C(1) << 31 | (uint32_t)stamp;
}

/* All at once or in two pieces. */
static void put_ids(struct player *player, struct player_append *append) {
    uint32_t ids[REFERENCE_TOKENS_MAX], half = append->tokens / 2;
    for (uint32_t i = 0; i < append->tokens; i++)
        ids[i] = id_of(append->first_stamp + i);
    int status = STORE_OK;
    if (half > 0)
        status = append_put_ids(append->members[0], append->first, ids, half * sizeof *ids);
    if (status == STORE_OK)
        status = append_put_ids(append->members[0], append->first + half, ids + half,
                                (append->tokens - half) * sizeof *ids);
    player_expect(player, status == STORE_OK, "ids were refused: %d", status);
}

/* --- steps --- */

/* What is wrong with the request, on purpose, and what comes of it. */
static int spoil(const struct reference_session *session, struct append_request *request,
                 uint32_t random) {
    switch (random % 40) {
    case 0:
        request->first++;
        return STORE_WRONG_FIRST;
    case 1:
        request->tail_tokens++;
        return request->tokens == 0 ? STORE_INVALID : STORE_TAIL_MOVED;
    case 2:
        request->tokens = (RUNS_MAX + 1) * (uint64_t)geometry_page_tokens(session->geometry);
        return STORE_UNSUPPORTED;
    default:
        return request->tokens == 0 ? STORE_INVALID : STORE_OK;
    }
}

static int begin_status(const struct player *player, int slot, int spoiled) {
    if (!player->reference.sessions[slot].exists)
        return STORE_MISS;
    return player_is_appending(player, slot) ? STORE_BUSY : spoiled;
}

static bool begin(struct player *player, struct player_append *append, const struct step *step,
                  uint32_t member_count) {
    const uint32_t *random = step->random;
    int slot = player_pick(player, random[0], true), spoiled = STORE_OK;
    const struct reference_session *session = player_session(player, slot);
    struct append_request request = {.session = player_name(slot),
                                     .heads_first = random[1] % 4 == 0,
                                     .settle = random[2] % 4 == 0,
                                     .runs_max = RUNS_MAX,
                                     .members = member_count,
                                     .token_ids = random[7] / 64 % 4 > 0,
                                     .join_ns = 1000000000};
    if (session->exists) {
        request.first = session->token_count;
        request.tail_tokens = session->tail_tokens;
        request.tokens = tokens_of(session, random + 3);
        spoiled = spoil(session, &request, random[5]);
    }
    struct salt salt = {
        .first = request.first, .end = request.first + request.tokens, .bytes = 4, .text = "salt"};
    player_say(player, "append to %s, %llu tokens from %llu behind a tail of %u%s%s%s, by %u",
               request.session.text, (unsigned long long)request.tokens,
               (unsigned long long)request.first, request.tail_tokens,
               request.settle ? ", settle" : "", request.token_ids ? ", ids" : "",
               request.heads_first ? ", heads first" : "", member_count);
    *append = (struct player_append){.slot = slot,
                                     .incarnation = session->incarnation,
                                     .geometry = session->geometry,
                                     .first = (uint32_t)request.first,
                                     .tokens = (uint32_t)request.tokens,
                                     .tail_tokens = request.tail_tokens,
                                     .settle = request.settle,
                                     .heads_first = request.heads_first,
                                     .has_ids = request.token_ids,
                                     .first_stamp = first_stamp_of(player, session, random)};
    if (append->first_stamp & DOCUMENT_SALT_BIT) {
        request.salts = &salt;
        request.salt_count = 1;
    }
    int expected = begin_status(player, slot, spoiled);
    for (uint32_t i = 0; i < member_count; i++) {
        struct session_state state;
        int status = append_begin(&player->store, &request, &append->members[i], &state);
        if (!player_expect_status(player, status, expected))
            break;
        append->member_count++;
    }
    if (append->member_count == 0)
        return false;
    player->stamps += append->tokens;
    cut_into_parts(append);
    if (append->has_ids)
        put_ids(player, append);
    if (random[6] % 2 == 0)
        shuffle(append, random[6]);
    return true;
}

static void leave(struct player_append *append) {
    for (uint32_t i = 0; i < append->member_count; i++)
        append_end(append->members[i]);
    append->member_count = 0;
}

/* False, and the append is dropped, at the memory limit. */
static bool put_next(struct player *player, struct player_append *append) {
    const struct player_part *part = &append->parts[append->put_count];
    struct append_part piece = {
        .first = part->first,
        .tokens = part->tokens,
        .layer = part->layer,
        .part = part->part,
        .values = player->room,
        .bytes = geometry_part_bytes(append->geometry, part->part, part->tokens)};
    player_make_values(
        &(struct player_values){.geometry = append->geometry,
                                .first_stamp = append->first_stamp + part->first - append->first,
                                .tokens = part->tokens,
                                .layer = part->layer,
                                .part = part->part,
                                .heads_first = append->heads_first},
        player->room);
    int status;
    while ((status = append_put(append->members[part->run % append->member_count], &piece,
                                player->workspace)) == STORE_WAIT)
        player_pause();
    player_say(player, "  put %u tokens from %u of layer %u, part %d", piece.tokens, part->first,
               piece.layer, piece.part);
    if (!player_expect_status(player, status, STORE_OK)) {
        leave(append);
        return false;
    }
    append->put_count++;
    return true;
}

static int commit_member(struct player *player, struct append_member *member,
                         struct session_state *state) {
    int status;
    do
        status = append_commit(member, player->workspace, state);
    while (status == STORE_MORE);
    return status;
}

static void commit(struct player *player, struct player_append *append) {
    struct session_state state;
    int expected = append->put_count < append->part_count ? STORE_INCOMPLETE
                   : append->dead                         ? STORE_MISS
                                                          : STORE_OK;
    for (uint32_t i = 0; i + 1 < append->member_count; i++)
        player_expect(player, commit_member(player, append->members[i], &state) == STORE_WAIT,
                      "a member does not wait for the others");
    int status = commit_member(player, append->members[append->member_count - 1], &state);
    player_say(player, "  commit to %s", player_name(append->slot).text);
    bool committed = player_expect_status(player, status, expected);
    for (uint32_t i = 0; committed && i + 1 < append->member_count; i++)
        player_expect(player, commit_member(player, append->members[i], &state) == STORE_OK,
                      "a member is not told of the commit");
    leave(append);
    if (!committed)
        return;
    struct reference_session *session = player_session(player, append->slot);
    if (append->has_ids && session->id_tokens == session->token_count)
        session->id_tokens += append->tokens;
    reference_append(&player->reference, session, append->first_stamp, append->tokens,
                     append->settle);
    player_expect_state(player, session, &state, true);
    player_save_if_owed(player, append->slot);
}

void player_append(struct player *player, const struct step *step) {
    struct player_append *append = malloc(sizeof *append);
    uint32_t members = step->random[7] % 8 == 0 ? 2 + step->random[7] / 8 % 2 : 1;
    bool goes_on = begin(player, append, step, members);
    bool complete = goes_on && append->member_count == members;
    while (complete && append->put_count < append->part_count)
        complete = put_next(player, append);
    if (complete)
        commit(player, append);
    else if (goes_on)
        leave(append);
    free(append);
}

void player_append_begin(struct player *player, const struct step *step) {
    for (int i = 0; i < PLAYER_UNDER_WAY; i++)
        if (player->appends[i].member_count == 0) {
            struct player_append *append = malloc(sizeof *append);
            if (begin(player, append, step, 1))
                player->appends[i] = *append;
            free(append);
            return;
        }
}

static struct player_append *one_under_way(struct player *player, const struct step *step) {
    struct player_append *append = &player->appends[step->random[0] % PLAYER_UNDER_WAY];
    return append->member_count > 0 ? append : NULL;
}

void player_append_put(struct player *player, const struct step *step) {
    struct player_append *append = one_under_way(player, step);
    uint32_t count = append ? 1 + step->random[1] % append->part_count : 0;
    while (count-- > 0 && append->put_count < append->part_count && put_next(player, append))
        ;
}

void player_append_commit(struct player *player, const struct step *step) {
    struct player_append *append = one_under_way(player, step);
    if (append)
        commit(player, append);
}

void player_append_drop(struct player *player, const struct step *step) {
    struct player_append *append = one_under_way(player, step);
    if (!append)
        return;
    player_say(player, "drop the append to %s\n", player_name(append->slot).text);
    leave(append);
}
