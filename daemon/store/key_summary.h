/* The summaries of a chunk's K, layer by layer, in an extent of their own: made while K is coded,
 * and as they were then for as long as the chunk is there, however coarse its record becomes and
 * wherever that is.
 *
 * Bytes, little-endian:
 *     0  magic "KVQKEYS" 0             8  u32 format (2)
 *    12  u32 tokens of a block        16  u32 tokens
 *    20  u32 layers                   24  u32 heads
 *    28  u32 head_dim of K            32  u64 xxh3 of all that follows from 64 on
 *    40  zeros
 *    64  for each layer a summary as proto/page/SUMMARY.md has it
 */
#ifndef DAEMON_STORE_KEY_SUMMARY_H
#define DAEMON_STORE_KEY_SUMMARY_H

#include <stdbool.h>

#include "daemon/base/budget.h"
#include "daemon/store/geometry.h"
#include "daemon/store/pool.h"
#include "proto/page/summary.h"

struct key_summary {
    struct pool *pool;
    struct budget *budget;
    struct pool_extent extent; /* all of it is in the budget */
    uint64_t bytes;            /* 0: there is none */
};

/* 0 where keys are too many a token to have one. */
uint64_t key_summary_bytes(const struct geometry *geometry, uint32_t tokens);

/* Room for one, which holds nothing yet. STORE_OK or STORE_FULL. */
int key_summary_init(struct key_summary *summary, struct pool *pool, struct budget *budget,
                     uint64_t bytes) __attribute__((warn_unused_result));
void key_summary_deinit(struct key_summary *summary);

/* What it takes of the budget. */
static inline uint64_t key_summary_reserved_bytes(const struct key_summary *summary) {
    return summary->extent.bytes;
}

/* To be filled: with its header there, or as it was written once. */
void key_summary_begin(const struct key_summary *summary, const struct geometry *geometry,
                       uint32_t tokens);
uint8_t *key_summary_memory(const struct key_summary *summary);

/* Where page_summarise() of the layer's K goes, or what it wrote. */
uint8_t *key_summary_layer(const struct key_summary *summary, const struct geometry *geometry,
                           uint32_t tokens, uint32_t layer);

/* All layers are there. */
void key_summary_seal(const struct key_summary *summary);

/* Whether these bytes are the whole one of a chunk of this geometry and so many tokens. */
bool key_summary_is_whole(const struct key_summary *summary, const struct geometry *geometry,
                          uint32_t tokens);

#endif
