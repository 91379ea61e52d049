/* Recall by keys in the model check: of what is coded it finds as much as it may, and nothing else,
 * whatever happens to the session while blocks are scored. */
#include <math.h>
#include <stdlib.h>

#include "daemon/recall/recall_keys.h"
#include "tests/faults/player_state.h"
#include "tests/faults/values.h"

enum { QUERIES_PER_HEAD_MAX = 3, BLOCK = SUMMARY_BLOCK_TOKENS };

/* --- what is asked --- */

static float number_of(uint64_t random) {
    return (float)(int16_t)random / 4096;
}

/* Those with a number that is none are refused. */
static bool put_layer(struct player_keys *keys, uint32_t layer, uint64_t random, bool good) {
    size_t bytes = recall_keys_query_bytes(keys->recall), count = bytes / sizeof(float);
    float *queries = malloc(bytes);
    for (size_t i = 0; i < count; i++)
        queries[i] = number_of(values_mix(random + i));
    if (!good)
        queries[0] = NAN;
    int status = recall_keys_put(keys->recall, layer, queries, bytes);
    free(queries);
    return status == (good ? STORE_OK : STORE_INVALID);
}

/* All layers' queries, or one layer's too few. */
static void put_queries(struct player *player, struct player_keys *keys, const uint32_t *random) {
    const struct fetch *fetch = &keys->fetch;
    uint32_t end = fetch->end_layer - (random[0] % 16 == 0);
    keys->lacks_queries = end < fetch->end_layer;
    for (uint32_t layer = fetch->first_layer; layer < end; layer++) {
        uint64_t seed = (uint64_t)random[1] << 32 | (random[2] + layer);
        bool good = seed % 64 > 0;
        player_expect(player, put_layer(keys, layer, seed, good), "queries of layer %u", layer);
        keys->lacks_queries |= !good;
    }
}

/* A range that is there. */
static struct fetch_request range_of(const struct reference_session *session, int slot,
                                     const uint32_t *random) {
    struct fetch_request request = {.session = player_name(slot)};
    if (!session->exists)
        return request;
    if (random[0] % 2 == 0) {
        request.first = random[1] % (session->token_count + 1);
        request.end = request.first + random[2] % (session->token_count + 1 - request.first);
    }
    request.first_layer = random[0] / 2 % 4 == 0 ? session->geometry->layers - 1 : 0;
    return request;
}

static int begin_status(const struct reference_session *session, const struct fetch *fetch,
                        const struct recall_keys_request *request) {
    if (request->k == 0 || request->queries % fetch->geometry.heads != 0)
        return STORE_INVALID;
    return session->key_summaries ? STORE_OK : STORE_UNSUPPORTED;
}

/* Of no tokens a range that ends at 0 is all of them. */
static bool begin_fetch(struct player *player, struct player_keys *keys, const uint32_t *random) {
    const struct reference_session *session = player_session(player, keys->slot);
    struct fetch_request range = range_of(session, keys->slot, random);
    player_say(player, "recall keys of %s, tokens %llu to %llu", range.session.text,
               (unsigned long long)range.first, (unsigned long long)range.end);
    int status = fetch_begin(&player->store, &range, &keys->fetch);
    int expected = !session->exists                ? STORE_MISS
                   : range.first > keys->fetch.end ? STORE_INVALID
                                                   : STORE_OK;
    return player_expect_status(player, status, expected);
}

static void begin(struct player *player, const uint32_t *random) {
    struct player_keys *keys = &player->keys;
    int slot = player_pick(player, random[0], true);
    const struct reference_session *session = player_session(player, slot);
    *keys = (struct player_keys){.slot = slot, .incarnation = session->incarnation};
    if (!begin_fetch(player, keys, random + 1))
        return;
    uint32_t queries = session->geometry->heads * (1 + random[5] % QUERIES_PER_HEAD_MAX);
    struct recall_keys_request request = {.fetch = &keys->fetch,
                                          .queries = queries + (random[5] / 4 % 32 == 0),
                                          .k = random[4] % 2 == 0 ? RECALL_BLOCKS_MAX
                                                                  : random[4] / 2 % 32};
    const char *fault;
    keys->k = request.k;
    player_say(player, "  %u queries, %u blocks", request.queries, request.k);
    int status = recall_keys_begin(&player->store, &request, &keys->recall, &fault);
    if (player_expect_status(player, status, begin_status(session, &keys->fetch, &request)))
        put_queries(player, keys, random + 5);
}

/* --- what is found --- */

/* The tokens asked for that were coded when their chunks were taken: keys->end is where they end.
 */
static void expect_ranges(const struct player *player, const struct player_keys *keys,
                          const struct key_range *ranges, size_t count) {
    uint64_t end = keys->fetch.first, tokens = 0;
    for (size_t i = 0; i < count; i++) {
        player_expect(player, ranges[i].tokens > 0 && (i == 0 || ranges[i].first > end),
                      "range %zu is empty, or does not follow the one before", i);
        player_expect(player, ranges[i].first >= keys->fetch.first, "a range begins too early");
        player_expect(player, ranges[i].score <= 0.001F, "a share of e^%g",
                      (double)ranges[i].score);
        end = ranges[i].first + ranges[i].tokens;
        tokens += ranges[i].tokens;
    }
    player_expect(player, count == 0 || end <= keys->end, "tokens up to %llu of %llu",
                  (unsigned long long)end, (unsigned long long)keys->end);
    player_expect(player, tokens <= (uint64_t)keys->k * BLOCK, "%llu tokens in %u blocks",
                  (unsigned long long)tokens, keys->k);
}

/* A block that does not lie within the range is none, at either of its ends. */
static void expect_as_much_as_may_be(const struct player *player, const struct player_keys *keys,
                                     const struct key_range *ranges, size_t count) {
    uint64_t first = keys->fetch.first, most = keys->end > first ? keys->end - first : 0;
    bool whole = keys->k == RECALL_BLOCKS_MAX;
    if (count == 0) {
        player_expect(player, most < 2 * BLOCK, "nothing was found of %llu tokens",
                      (unsigned long long)most);
        return;
    }
    player_expect(player,
                  !whole || (count == 1 && ranges[0].first < first + BLOCK &&
                             ranges[0].first + ranges[0].tokens + BLOCK > keys->end),
                  "%zu ranges from %llu on, not all of %llu tokens", count,
                  (unsigned long long)ranges[0].first, (unsigned long long)most);
}

static void expect_found(const struct player *player, const struct player_keys *keys) {
    for (uint32_t layer = keys->fetch.first_layer; layer < keys->fetch.end_layer; layer++) {
        size_t count;
        const struct key_range *ranges = recall_keys_ranges(keys->recall, layer, &count);
        expect_ranges(player, keys, ranges, count);
        expect_as_much_as_may_be(player, keys, ranges, count);
    }
}

/* --- steps --- */

void player_drop_keys(struct player *player) {
    if (player->keys.recall)
        recall_keys_end(player->keys.recall);
    player->keys.recall = NULL;
}

/* The first step takes what the session has then. */
static int take(struct player *player, struct player_keys *keys) {
    const struct reference_session *session = player_session(player, keys->slot);
    uint32_t coded = session->token_count - session->tail_tokens;
    bool is_there = session->exists && session->incarnation == keys->incarnation;
    keys->end = coded < keys->fetch.end ? coded : keys->fetch.end;
    keys->taken = true;
    if (keys->lacks_queries)
        return STORE_INCOMPLETE;
    return is_there ? STORE_OK : STORE_MISS;
}

/* STORE_MORE until it is at its end. */
static int go_on(struct player *player, struct player_keys *keys) {
    int expected = keys->taken ? STORE_OK : take(player, keys);
    int status = recall_keys_step(keys->recall);
    if (status == STORE_MORE && expected == STORE_OK)
        return status;
    player_say(player, "  recall keys of %s ends", player_name(keys->slot).text);
    if (player_expect_status(player, status, expected))
        expect_found(player, keys);
    player_drop_keys(player);
    return status;
}

void player_recall_keys(struct player *player, const struct step *step) {
    struct player_keys *keys = &player->keys;
    if (!keys->recall)
        begin(player, step->random);
    while (keys->recall && go_on(player, keys) == STORE_MORE && step->random[7] % 2 == 0)
        ;
}
