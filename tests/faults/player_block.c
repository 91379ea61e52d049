/* Steps of the model check on blocks by key: put behind others or alone, leased, deleted, evicted
 * and flushed. */
#include <stdio.h>
#include <string.h>

#include "daemon/store/block_put.h"
#include "daemon/store/evict.h"
#include "daemon/store/saving.h"
#include "tests/faults/player_state.h"

enum { RUNS_MOST = 64 };

/* Blocks of a family are of one geometry, and may stand behind each other. */
const struct geometry *player_block_geometry(const struct player *player, int slot) {
    return &player_geometries[(player->world->seed + (unsigned)(slot / PLAYER_FAMILY)) % 5];
}

const char *player_block_text(int slot) {
    static const char *const texts[PLAYER_BLOCKS] = {"k0", "k1", "k2", "k3",
                                                     "k4", "k5", "k6", "k7"};
    return texts[slot];
}

struct block_key player_block_key(const struct player *player, int slot) {
    struct store_name model = player_model(0);
    return (struct block_key){.model = model.text,
                              .model_bytes = model.bytes,
                              .text = player_block_text(slot),
                              .text_bytes = 2,
                              .geometry = player_block_geometry(player, slot)};
}

struct block_place player_find_block(struct player *player, int slot) {
    struct block_key key = player_block_key(player, slot);
    struct block_place place = {0};
    int status = block_find(&player->store.blocks, &key, &place);
    player_expect(player, (status == STORE_OK) == player->blocks[slot].is_there,
                  "block %d is there: %d", slot, status == STORE_OK);
    return place;
}

/* --- put --- */

static bool put_part(struct player *player, struct block_put *put,
                     const struct player_values *values, uint32_t first) {
    struct append_part part = {
        .first = first,
        .tokens = values->tokens,
        .layer = values->layer,
        .part = values->part,
        .values = player->room,
        .bytes = geometry_part_bytes(values->geometry, values->part, values->tokens)};
    int status;
    player_make_values(values, player->room);
    while ((status = block_put_part(put, &part, player->workspace)) == STORE_WAIT)
        player_pause();
    return player_expect_status(player, status, STORE_OK);
}

/* Page by page, layer by layer. */
static bool put_values(struct player *player, struct block_put *put,
                       const struct geometry *geometry, const struct player_block_content *block,
                       bool heads_first) {
    uint32_t page = geometry_page_tokens(geometry);
    struct player_values values = {.geometry = geometry, .heads_first = heads_first};
    for (uint32_t first = 0; first < block->tokens; first += page) {
        values.first_stamp = block->first_stamp + first;
        values.tokens = block->tokens - first < page ? block->tokens - first : page;
        for (values.layer = 0; values.layer < geometry->layers; values.layer++)
            for (values.part = PAGE_K; values.part <= PAGE_V; values.part++)
                if (geometry_head_dim(geometry, values.part) > 0 &&
                    !put_part(player, put, &values, first))
                    return false;
    }
    return true;
}

static bool commit(struct player *player, struct block_put *put) {
    int status;
    while ((status = block_put_commit(put, player->workspace)) == STORE_MORE)
        ;
    player_say(player, "  commit");
    return player_expect_status(player, status, STORE_OK);
}

static uint32_t tokens_of(const uint32_t *random) {
    static const uint32_t counts[] = {16, 64, 100, 128, 200, PLAYER_BLOCK_TOKENS_MAX};
    return counts[random[0] % 6];
}

static int begin_put(struct player *player, int slot, const struct player_block_content *block,
                     const uint32_t *random, struct block_put **put) {
    int parent = slot / PLAYER_FAMILY * PLAYER_FAMILY + (int)(random[0] % PLAYER_FAMILY);
    bool has_parent = random[0] / PLAYER_FAMILY % 4 > 0;
    struct block_put_request request = {
        .key = player_block_key(player, slot),
        .parent = player_block_text(parent),
        .parent_bytes = has_parent ? 2 : 0,
        .tokens = block->tokens,
        .first_position = random[1] % 2 * 64,
        .policy = {.level = block->level, .newest_level = block->level, .floor = block->level},
        .heads_first = random[2] % 2,
        .runs_max = RUNS_MOST};
    player_say(player, "put block %d of %u tokens at level %d behind %s", slot, block->tokens,
               block->level, has_parent ? player_block_text(parent) : "none");
    return block_put_begin(&player->store, &request, put);
}

/* While it is put nobody finds it, and nobody else may put it. */
static void expect_hidden(struct player *player, int slot, const struct player_block_content *block,
                          const uint32_t *random) {
    struct block_put *other;
    struct block_key key = player_block_key(player, slot);
    player_expect(player, block_exists(&player->store, &key, false, 0) == 0,
                  "block %d is there before it was committed", slot);
    player_expect_status(player, begin_put(player, slot, block, random, &other), STORE_BUSY);
}

void player_block_put(struct player *player, const struct step *step) {
    const uint32_t *random = step->random;
    int slot = (int)(random[0] % PLAYER_BLOCKS);
    const struct geometry *geometry = player_block_geometry(player, slot);
    struct player_block *block = &player->blocks[slot];
    struct player_block_content new = {.tokens = tokens_of(random + 1),
                                       .first_stamp = player->stamps + 1,
                                       .level =
                                           random[2] % 2 ? PAGE_EXACT : player_level(random[3])};
    struct block_put *put;
    int expected = block->is_there ? STORE_EXISTS : STORE_OK;
    if (!player_expect_status(player, begin_put(player, slot, &new, random + 4, &put), expected))
        return;
    player->stamps += new.tokens;
    if (random[7] % 4 == 0)
        expect_hidden(player, slot, &new, random + 4);
    bool whole = put_values(player, put, geometry, &new, random[6] % 2);
    if (whole && random[7] / 4 % 8 > 0 && commit(player, put)) {
        block->is_there = true;
        block->is_flushed = false;
        block->content = new;
    }
    block_put_end(put);
}

/* --- the rest --- */

static void note_former(struct player *player, struct player_block *block,
                        struct player_block_content content) {
    player_expect(player, block->former_count < PLAYER_FORMER_MAX, "too many blocks may come back");
    block->former[block->former_count++] = content;
}

/* As rpc acknowledges it: when the block would not come back. */
static int await_deletion(struct player *player, const struct block_deletion *deletion) {
    player_expect(player, !deletion->stays_on_disk, "a delete could not be asked for");
    if (deletion->promise)
        return player_await_promise(player, deletion->promise);
    if (!deletion->chain)
        return STORE_OK;
    return player_save(player, deletion->chain, deletion->point);
}

static void delete_block(struct player *player, int slot) {
    struct player_block *block = &player->blocks[slot], before = *block;
    struct block_key key = player_block_key(player, slot);
    struct block_deletion deletion;
    player_say(player, "delete block %d\n", slot);
    block_delete(&player->store, &key, &deletion);
    player_expect(player, deletion.tokens == (block->is_there ? block->content.tokens : 0),
                  "block %d had %u tokens", slot, deletion.tokens);
    *block = (struct player_block){0};
    if (await_deletion(player, &deletion) != STORE_OK) {
        *block = before;
        block->is_there = block->is_flushed = false;
        if (before.is_there)
            note_former(player, block, before.content);
    }
    if (deletion.chain)
        session_unref(deletion.chain);
    if (deletion.promise)
        disk_promise_release(deletion.promise);
}

static void look_for(struct player *player, int slot, bool use, uint64_t lease_ns) {
    const struct player_block *block = &player->blocks[slot];
    struct block_key key = player_block_key(player, slot);
    uint32_t tokens = block_exists(&player->store, &key, use, lease_ns);
    player_expect(player, tokens == (block->is_there ? block->content.tokens : 0),
                  "block %d has %u tokens", slot, tokens);
}

void player_block_act(struct player *player, const struct step *step) {
    static const uint64_t hour_ns = 3600000000000u;
    const uint32_t *random = step->random;
    int slot = (int)(random[0] % PLAYER_BLOCKS);
    if (random[1] % 3 == 0) {
        delete_block(player, slot);
        return;
    }
    player_say(player, "look for block %d\n", slot);
    look_for(player, slot, random[1] % 2, random[2] % 8 == 0 ? hour_ns : 0);
}

void player_delete_blocks(struct player *player) {
    for (int slot = 0; slot < PLAYER_BLOCKS; slot++)
        delete_block(player, slot);
}

/* What is gone, of which more may have been on disk, is certain when this is. */
static bool sync_disk(struct player *player) {
    struct disk_promise *promise = player->world->disk ? disk_tier_sync(&player->store.disk) : NULL;
    if (!promise)
        return !player->world->disk;
    bool synced = player_await_promise(player, promise) == STORE_OK;
    disk_promise_release(promise);
    return synced;
}

/* Of the chain's blocks those are gone that ended behind what is left; on disk all are. */
static void lose_blocks(struct player *player, const struct session *chain,
                        const struct block_place *places, uint64_t tokens_left) {
    bool synced = sync_disk(player);
    for (int slot = 0; slot < PLAYER_BLOCKS; slot++) {
        struct player_block *block = &player->blocks[slot];
        if (places[slot].session != chain)
            continue;
        block->is_flushed = false;
        if (places[slot].first + places[slot].tokens <= tokens_left)
            continue;
        block->is_there = false;
        if (!synced)
            note_former(player, block, block->content);
    }
}

void player_block_evict(struct player *player, const struct step *step) {
    struct block_place places[PLAYER_BLOCKS];
    struct evict_request request = {.want_bytes = 1 + step->random[1] % 65536,
                                    .shared_too = step->random[2] % 2 == 0};
    struct evict_result result;
    for (int slot = 0; slot < PLAYER_BLOCKS; slot++)
        places[slot] = player_find_block(player, slot);
    struct session *chain = places[step->random[0] % PLAYER_BLOCKS].session;
    if (chain) {
        uint64_t tokens = chain->tokens;
        int status = evict_session(&player->store, chain, &request, &result);
        player_say(player, "evict of the chain of block %u = %d\n", step->random[0] % PLAYER_BLOCKS,
                   status);
        player_expect(player,
                      status == STORE_OK || status == STORE_BUSY || status == STORE_UNSUPPORTED,
                      "an eviction came to %d", status);
        if (status == STORE_OK)
            lose_blocks(player, chain, places, tokens - result.tokens);
    }
    for (int slot = 0; slot < PLAYER_BLOCKS; slot++) {
        if (places[slot].session)
            session_unref(places[slot].session);
        look_for(player, slot, false, 0);
    }
}

void player_flush_blocks(struct player *player) {
    for (int slot = 0; slot < PLAYER_BLOCKS; slot++) {
        struct session *chain = player_find_block(player, slot).session;
        if (!chain)
            continue;
        if (player_save(player, chain, saving_retry(chain)) == STORE_OK)
            player->blocks[slot].is_flushed = true;
        session_unref(chain);
    }
}
