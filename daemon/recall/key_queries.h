/* A layer's queries, ready to be scored against key summaries.
 *
 * The score of a block is q . x / sqrt(head_dim), x being the mean of its keys as the summary has
 * it, in units of ln 2 / KEY_DOUBLING. It is added up in integers: queries are rounded to 16 bits,
 * their products with a chunk's steps to 8.
 */
#ifndef DAEMON_RECALL_KEY_QUERIES_H
#define DAEMON_RECALL_KEY_QUERIES_H

#include "daemon/recall/key_kernels.h"
#include "proto/page/summary.h"

struct key_queries_shape {
    uint32_t heads;   /* of K */
    uint32_t queries; /* a multiple of the heads: the first so many are the first head's */
    uint32_t head_dim;
};

/* What a layer's take, and what scoring needs; multiples of 64. */
size_t key_queries_bytes(const struct key_queries_shape *shape);
size_t key_queries_scratch_bytes(const struct key_queries_shape *shape);

/* From [queries, head_dim] of float32 at any alignment into 64-byte aligned memory. -1 if one is
 * not finite, or of a magnitude that no query has. */
int key_queries_write(const struct key_queries_shape *shape, const void *values, void *memory)
    __attribute__((warn_unused_result));

/* A layer of a chunk's summary, of whose blocks those from `first` on to `end` count. */
struct key_layer {
    const struct summary_layout *layout;
    const uint8_t *summary;
    uint32_t first, end;
};

/* Where scores go: scores[query * apart + block], whose row has room for a multiple of 16 blocks,
 * and what they are added to. */
struct key_scored {
    int16_t *scores;
    size_t apart;
    struct key_sum *sums; /* [queries] */
};

/* What is no block that counts has -KEY_SCORE_MAX. */
void key_queries_score(const struct key_queries_shape *shape, const void *memory, void *scratch,
                       const struct key_layer *layer, const struct key_scored *to);

#endif
