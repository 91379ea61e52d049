/* Getting blocks: a fetch of one behind the other, of those that are there.
 *
 * Between two pulls nothing is held but the keys. A get is used by one thread at a time. */
#ifndef DAEMON_STORE_BLOCK_GET_H
#define DAEMON_STORE_BLOCK_GET_H

#include "daemon/store/fetch.h"

enum { BLOCK_KEYS_MAX = 512 };

struct block_get_request {
    struct store_name model;
    const struct geometry *geometry;
    const struct store_name *keys; /* at most BLOCK_KEYS_MAX */
    size_t key_count;
    uint32_t tokens;            /* that each has: others are not there */
    struct fetch_request fetch; /* layers, parts, layout and dtype */
};

struct block_get_key {
    bool is_hit;
    uint8_t bytes;
    char text[BLOCK_KEY_BYTES_MAX];
};

struct block_get {
    struct store *store;
    uint64_t charged_bytes;
    struct tenant *tenant;
    char model[256];
    size_t model_bytes;
    struct geometry geometry;
    struct fetch_request wanted;
    uint32_t tokens;
    struct fetch fetch; /* of the block at hand */
    bool is_fetching;
    /* what was sent of whole blocks */
    uint64_t hits, sent_bytes, level_tokens[FETCH_LEVELS];
    struct loss loss[GEOMETRY_PARTS];
    size_t next, key_count; /* next: the one at hand, or the next */
    struct block_get_key keys[];
};

/* STORE_OK or STORE_FULL. */
int block_get_begin(struct store *store, const struct block_get_request *request,
                    struct block_get **get) __attribute__((warn_unused_result));

/* No piece is larger. */
size_t block_get_piece_bytes_max(const struct block_get *get);

/* As fetch_next(), but that the first token of block i counts as i * tokens, and that a block that
 * goes away on the way, or is deleted, is no hit and is followed by the next. */
int block_get_next(struct block_get *get, const struct fetch_room *room, void *workspace,
                   struct fetch_piece pieces[GEOMETRY_PARTS], size_t *count)
    __attribute__((warn_unused_result));

void block_get_end(struct block_get *get);

#endif
