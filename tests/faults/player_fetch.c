/* Fetches of the model check: ranges of tokens and layers, parts, dtypes and layouts, with and
 * without a page cache, whole or piece by piece while other things happen. */
#include "proto/page/compact.h"
#include "tests/faults/player_state.h"

/* A range, mostly one that is there. */
static void choose_range(const struct reference_session *session, struct fetch_request *request,
                         const uint32_t *random) {
    uint32_t tokens = session->token_count, layers = session->geometry->layers;
    if (random[0] % 4 > 0) {
        request->first = random[1] % (tokens + 1);
        request->end = request->first + random[2] % (tokens + 1 - request->first);
    }
    if (random[0] % 64 == 1)
        request->end = tokens + 1;
    if (random[3] % 4 == 0) {
        request->first_layer = random[3] / 4 % (layers + 1);
        request->end_layer = random[3] / 64 % (layers + 2);
    }
}

static enum page_dtype choose_dtype(uint32_t random) {
    static const enum page_dtype dtypes[] = {0,        0,         PAGE_F32, PAGE_F32,
                                             PAGE_F16, PAGE_BF16, 0,        PAGE_I8};
    return dtypes[random % 8];
}

static int range_status(const struct reference_session *session,
                        const struct fetch_request *request) {
    uint64_t end = request->end ? request->end : session->token_count;
    uint32_t layers = session->geometry->layers;
    uint32_t end_layer = request->end_layer ? request->end_layer : layers;
    bool has_v = session->geometry->head_dim_v > 0;
    if (request->first > session->token_count)
        return STORE_MISS;
    if (request->first > end || request->first_layer >= end_layer || end_layer > layers ||
        (request->skip_k && (request->skip_v || !has_v)))
        return STORE_INVALID;
    return end > session->token_count ? STORE_MISS : STORE_OK;
}

static int begin_status(const struct reference_session *session,
                        const struct fetch_request *request) {
    if (!session->exists)
        return STORE_MISS;
    if (request->if_version != 0 && request->if_version != session->version)
        return STORE_VERSION_CHANGED;
    if (request->dtype != 0 && request->dtype != session->geometry->dtype &&
        page_is_compact(request->dtype))
        return STORE_UNSUPPORTED;
    return range_status(session, request);
}

static bool begin(struct player *player, struct player_fetch *fetch, const uint32_t *random) {
    int slot = player_pick(player, random[0], true);
    const struct reference_session *session = player_session(player, slot);
    struct fetch_request request = {.session = player_name(slot),
                                    .skip_k = random[5] % 8 == 0,
                                    .skip_v = random[5] / 8 % 8 == 0,
                                    .heads_first = random[5] / 64 % 2 == 0,
                                    .dtype = choose_dtype(random[6])};
    if (session->exists)
        choose_range(session, &request, random + 1);
    if (random[6] / 8 % 4 == 0)
        request.if_version = session->version - (random[6] / 32 % 4 == 0);
    player_say(player,
               "fetch %s, tokens %llu to %llu, layers %u to %u, dtype %d%s%s%s, if version %llu",
               request.session.text, (unsigned long long)request.first,
               (unsigned long long)request.end, request.first_layer, request.end_layer,
               request.dtype, request.skip_k ? ", no K" : "", request.skip_v ? ", no V" : "",
               request.heads_first ? ", heads first" : "", (unsigned long long)request.if_version);
    *fetch = (struct player_fetch){.slot = slot,
                                   .request = request,
                                   .incarnation = session->incarnation,
                                   .least_cut = UINT32_MAX,
                                   .may_end = UINT32_MAX};
    int status = fetch_begin(&player->store, &request, &fetch->fetch);
    fetch->under_way = player_expect_status(player, status, begin_status(session, &request));
    return fetch->under_way;
}

static void check_piece(struct player *player, struct player_fetch *fetch,
                        const struct fetch_piece *got, const char *values) {
    const struct reference_session *session = player_session(player, fetch->slot);
    struct reference_piece piece = {.first = (uint32_t)got->first,
                                    .tokens = got->tokens,
                                    .layer = got->layer,
                                    .part = got->part,
                                    .dtype = fetch->fetch.dtype,
                                    .heads_first = fetch->request.heads_first,
                                    .values = values,
                                    .bytes = got->bytes};
    player_expect(player,
                  session->incarnation == fetch->incarnation &&
                      got->first + got->tokens <= session->token_count &&
                      got->first + got->tokens <= fetch->least_cut,
                  "tokens %llu to %llu are gone and came", (unsigned long long)got->first,
                  (unsigned long long)got->first + got->tokens);
    player_expect(player, reference_allows(&player->reference, session, &piece),
                  "tokens %u to %u of layer %u, part %d came otherwise than they were accepted",
                  piece.first, piece.first + piece.tokens, piece.layer, piece.part);
    fetch->sent_tokens += got->tokens;
}

/* What the whole fetch ought to have sent. */
static void expect_complete(const struct player *player, const struct player_fetch *fetch) {
    const struct fetch *done = &fetch->fetch;
    uint64_t parts = (done->parts & 1u) + (done->parts >> 1 & 1u), tokens = 0;
    player_expect(player,
                  fetch->sent_tokens ==
                      (done->end - done->first) * parts * (done->end_layer - done->first_layer),
                  "%llu tokens by layer and part came", (unsigned long long)fetch->sent_tokens);
    for (int i = 0; i < FETCH_LEVELS; i++)
        tokens += done->level_tokens[i];
    player_expect(player, tokens == done->end - done->first, "%llu tokens by level",
                  (unsigned long long)tokens);
}

/* A miss on the way is right only where tokens were taken away. */
static void expect_miss(struct player *player, const struct player_fetch *fetch) {
    const struct reference_session *session = player_session(player, fetch->slot);
    player_expect(player,
                  session->incarnation != fetch->incarnation ||
                      fetch->least_cut < fetch->fetch.end || fetch->may_end < fetch->fetch.end,
                  "a miss on the way, and nothing was taken away");
}

static void pull(struct player *player, struct player_fetch *fetch, uint32_t random) {
    size_t piece_bytes = fetch_piece_bytes_max(&fetch->fetch), count = 0;
    struct fetch_room room = {.values = player->room,
                              .bytes = piece_bytes * (1 + random % 2) + 64,
                              .gap_bytes = random / 2 % 2 * 32,
                              .cache = random / 4 % 2 ? &player->cache : NULL};
    struct fetch_piece pieces[GEOMETRY_PARTS];
    int status;
    while ((status = fetch_next(&player->store, &fetch->fetch, &room, player->workspace, pieces,
                                &count)) == STORE_WAIT)
        player_pause();
    fetch->under_way = status == STORE_MORE;
    fetch->cuts_since_pull = 0;
    if (status == STORE_OK)
        expect_complete(player, fetch);
    else if (status == STORE_MISS)
        expect_miss(player, fetch);
    else
        player_expect(player, status == STORE_MORE || (status == STORE_FULL && player->world->disk),
                      "fetch_next gave %d", status);
    const char *values = player->room;
    for (size_t i = 0; status == STORE_MORE && i < count; i++) {
        check_piece(player, fetch, &pieces[i], values);
        values += pieces[i].bytes + room.gap_bytes;
    }
}

void player_fetch(struct player *player, const struct step *step) {
    struct player_fetch fetch;
    begin(player, &fetch, step->random);
    while (fetch.under_way)
        pull(player, &fetch, step->random[7]);
}

void player_fetch_begin(struct player *player, const struct step *step) {
    for (int i = 0; i < PLAYER_UNDER_WAY; i++)
        if (!player->fetches[i].under_way) {
            begin(player, &player->fetches[i], step->random);
            return;
        }
}

void player_fetch_next(struct player *player, const struct step *step) {
    struct player_fetch *fetch = &player->fetches[step->random[0] % PLAYER_UNDER_WAY];
    for (uint32_t i = 0; fetch->under_way && i <= step->random[1] % 3; i++) {
        player_say(player, "  pull from %s\n", player_name(fetch->slot).text);
        pull(player, fetch, step->random[2]);
    }
}

void player_check_all_of(struct player *player, int slot) {
    struct player_fetch fetch;
    uint32_t whole[8] = {(uint32_t)slot, 0, 0, 0, 1, 63, 32};
    if (!player_session(player, slot)->exists)
        return;
    begin(player, &fetch, whole);
    while (fetch.under_way)
        pull(player, &fetch, 1);
}
