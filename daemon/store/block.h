/* Blocks: tokens that a host addresses by a key of its own, in chains.
 *
 * A chain is a session that no client can name: a block is a range of its tokens, and blocks with a
 * known parent stand behind it, so that they share pages, levels, ageing and eviction with it as a
 * session's tokens do. The index has a block as long as its chain has the tokens: whoever cuts or
 * deletes a chain takes its blocks out. A chain that was ever cut is never appended to again, so
 * that a place in it never holds other tokens.
 *
 * Safe from any thread. A chain's list of blocks is guarded by its session's lock, the buckets by
 * the locks of their stripes, taken behind it.
 */
#ifndef DAEMON_STORE_BLOCK_H
#define DAEMON_STORE_BLOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/budget.h"
#include "daemon/store/geometry.h"
#include "daemon/store/session_point.h"

struct block;
struct disk_promise;
struct session;
struct store;
struct tenant;

enum { BLOCK_KEY_BYTES_MAX = 64, BLOCK_STRIPES = 16 };

struct block_stripe {
    pthread_mutex_t lock;
    struct block **buckets;
    size_t bucket_count, blocks;
};

struct block_index {
    struct budget *budget;
    struct block_stripe stripes[BLOCK_STRIPES];
    _Atomic uint64_t blocks, tokens; /* that are there */
    _Atomic uint64_t bytes;          /* that the index takes of the budget */
    _Atomic uint64_t lost;           /* since the start: gone with their chain's tokens */
};

/* What a block is known by: the same key of another tenant, model or geometry is another
 * block's. */
struct block_key {
    struct tenant *tenant; /* NULL: the default */
    const char *model, *text;
    size_t model_bytes, text_bytes;
    const struct geometry *geometry;
};

/* Where its tokens are. */
struct block_place {
    struct session *session; /* a reference of the caller's */
    uint64_t first;
    uint32_t tokens;
};

void block_index_init(struct block_index *index, struct budget *budget);
void block_index_deinit(struct block_index *index);

/* STORE_OK, STORE_BUSY (it is being put) or STORE_MISS. By the time the session is locked the place
 * may be gone: block_stands() tells. */
int block_find(struct block_index *index, const struct block_key *key, struct block_place *place)
    __attribute__((warn_unused_result));

/* With the session locked. */
bool block_stands(const struct block_place *place);

/* With the session locked: a block at its end that is about to be appended; nobody finds it before
 * block_publish(). STORE_OK, STORE_MISS (the session is deleted), STORE_EXISTS, STORE_BUSY or
 * STORE_FULL. */
int block_claim(struct block_index *index, const struct block_key *key,
                const struct block_place *place) __attribute__((warn_unused_result));

/* With the session locked: the block is there, unless its session was cut already. */
void block_publish(struct block_index *index, const struct block_key *key,
                   const struct session *session);

/* With the session locked: the block was not appended after all. */
void block_unclaim(struct block_index *index, const struct block_key *key,
                   const struct session *session);

/* With the session locked: what ends behind so many of its tokens is gone. */
void block_cut(struct session *session, uint64_t tokens);

/* A block as its chain's manifest says it. */
struct block_entry {
    uint64_t first;
    uint32_t tokens;
    const char *key;
    size_t key_bytes;
};

/* With the session locked: its blocks that are there, from the newest on. */
void block_each(const struct session *session,
                void (*take)(void *context, const struct block_entry *entry), void *context);

/* A block of a chain that comes back, behind those that it has by now, is there again. Of two with
 * one key that counts whose chain was saved at the later version, or never: the other chain is to
 * be saved anew. STORE_OK, STORE_EXISTS or STORE_FULL. */
int block_restore(struct block_index *index, struct session *session,
                  const struct block_entry *entry) __attribute__((warn_unused_result));

/* How many tokens the block has, or 0 if it is not there. With a lease, its chain is not evicted
 * for so long; used, it is as after a get. */
uint32_t block_exists(struct store *store, const struct block_key *key, bool use,
                      uint64_t lease_ns);

/* What a delete comes to. */
struct block_deletion {
    uint32_t tokens;              /* that it had; 0: it was not there */
    struct session *chain;        /* a reference of the caller's: what is to be saved up to */
    struct session_point point;   /* this, or the block may come back from disk; NULL: nothing is */
    struct disk_promise *promise; /* the caller's, of its chain, which goes with it; NULL: none */
    bool stays_on_disk;           /* that its chain goes there could not be asked for */
};

/* Nobody finds the block; its bytes are free as soon as no other block of its chain stands behind
 * it. What is deleted on disk because of it is on its way there. */
void block_delete(struct store *store, const struct block_key *key,
                  struct block_deletion *deletion);

/* A chain in which there is no block, and is to be none, is deleted. */
void block_drop_unused(struct store *store, struct session *session);

#endif
