/* Steps of the model check by which blocks are read: a get of several, and a look at which there
 * are after a start. */
#include "daemon/store/block_get.h"
#include "tests/faults/player_state.h"

enum { KEYS_MOST = 4 };

/* Whether it is what the block has there. */
static bool is_right(struct player *player, const int *slots, const struct block_get *get,
                     const struct fetch_piece *got, const char *values) {
    int slot = slots[got->first / get->tokens];
    uint32_t first = (uint32_t)(got->first % get->tokens);
    const struct player_block *block = &player->blocks[slot];
    struct reference_token tokens[PLAYER_BLOCK_TOKENS_MAX];
    struct reference_piece piece = {.tokens = got->tokens,
                                    .layer = got->layer,
                                    .part = got->part,
                                    .dtype = get->geometry.dtype,
                                    .heads_first = get->wanted.heads_first,
                                    .values = values,
                                    .bytes = got->bytes};
    player_expect(player, block->is_there && first + got->tokens <= block->content.tokens,
                  "tokens %u to %u of block %d came", first, first + got->tokens, slot);
    for (uint32_t i = 0; i < got->tokens; i++)
        tokens[i] = (struct reference_token){.stamp = block->content.first_stamp + first + i};
    return reference_is_near(&player->reference, player_block_geometry(player, slot), tokens,
                             &piece, block->content.level);
}

static int pull(struct player *player, const int *slots, struct block_get *get, bool *differs) {
    size_t count = 0;
    struct fetch_piece pieces[GEOMETRY_PARTS];
    struct fetch_room room = {.values = player->room,
                              .bytes = 2 * block_get_piece_bytes_max(get),
                              .cache = &player->cache};
    int status = block_get_next(get, &room, player->workspace, pieces, &count);
    const char *values = player->room;
    for (size_t i = 0; status == STORE_MORE && i < count; i++) {
        *differs |= !is_right(player, slots, get, &pieces[i], values);
        values += pieces[i].bytes;
    }
    if (status == STORE_WAIT)
        player_pause();
    return status;
}

/* Those that are there, and of as many tokens as asked for, come whole. */
static void get_all(struct player *player, const int *slots, struct block_get *get) {
    bool differs = false;
    int status;
    do
        status = pull(player, slots, get, &differs);
    while (status == STORE_MORE || status == STORE_WAIT);
    player_expect(player, !differs, "a block came otherwise than it was accepted");
    if (status == STORE_FULL && player->world->disk)
        return;
    player_expect(player, status == STORE_OK, "block_get_next gave %d", status);
    for (size_t i = 0; i < get->key_count; i++) {
        const struct player_block *block = &player->blocks[slots[i]];
        player_expect(player,
                      get->keys[i].is_hit ==
                          (block->is_there && block->content.tokens == get->tokens),
                      "block %d came: %d", slots[i], get->keys[i].is_hit);
    }
}

void player_block_get(struct player *player, const struct step *step) {
    const uint32_t *random = step->random;
    int slots[KEYS_MOST], first = (int)(random[0] % PLAYER_BLOCKS);
    struct store_name keys[KEYS_MOST];
    struct block_get *get;
    struct block_get_request request = {.model = player_model(0),
                                        .geometry = player_block_geometry(player, first),
                                        .keys = keys,
                                        .key_count = 1 + random[1] % KEYS_MOST,
                                        .tokens = player->blocks[first].content.tokens,
                                        .fetch = {.heads_first = random[2] % 2}};
    if (!player->blocks[first].is_there)
        request.tokens = 16;
    player_say(player, "get %zu blocks of %u tokens:", request.key_count, request.tokens);
    for (size_t i = 0; i < request.key_count; i++) {
        slots[i] = first / PLAYER_FAMILY * PLAYER_FAMILY +
                   (first + (int)(random[3 + i] % 2 * i)) % PLAYER_FAMILY;
        keys[i] = (struct store_name){.text = player_block_text(slots[i]), .bytes = 2};
        player_say(player, " %d", slots[i]);
    }
    if (!player_expect_status(player, block_get_begin(&player->store, &request, &get), STORE_OK))
        return;
    get_all(player, slots, get);
    block_get_end(get);
}

/* Whether the block that came back is this one. */
static bool is(struct player *player, int slot, const struct player_block_content *content) {
    struct player_block *block = &player->blocks[slot];
    struct block_get *get;
    struct store_name key = {.text = player_block_text(slot), .bytes = 2};
    struct block_get_request request = {.model = player_model(0),
                                        .geometry = player_block_geometry(player, slot),
                                        .keys = &key,
                                        .key_count = 1,
                                        .tokens = content->tokens};
    block->is_there = true;
    block->content = *content;
    int status = block_get_begin(&player->store, &request, &get);
    player_expect(player, status == STORE_OK, "block_get_begin gave %d", status);
    bool differs = false;
    do
        status = pull(player, &slot, get, &differs);
    while (status == STORE_MORE || status == STORE_WAIT);
    bool is_hit = get->keys[0].is_hit;
    block_get_end(get);
    return is_hit && !differs;
}

static void look_at(struct player *player, int slot, bool orderly) {
    struct player_block before = player->blocks[slot], *block = &player->blocks[slot];
    struct block_key key = player_block_key(player, slot);
    uint32_t tokens = block_exists(&player->store, &key, false, 0);
    *block = (struct player_block){0};
    player_say(player, "  block %d: %u tokens\n", slot, tokens);
    player_expect(player, tokens > 0 || !before.is_there || !(orderly || before.is_flushed),
                  "block %d did not come back", slot);
    bool found = tokens > 0 && before.is_there && is(player, slot, &before.content);
    for (size_t i = 0; tokens > 0 && !found && i < before.former_count; i++)
        found = is(player, slot, &before.former[i]);
    player_expect(player, found || tokens == 0, "block %d came back as it never was", slot);
    block->is_flushed = block->is_there;
}

void player_look_at_blocks(struct player *player, bool orderly) {
    for (int slot = 0; slot < PLAYER_BLOCKS; slot++)
        look_at(player, slot, orderly);
}
