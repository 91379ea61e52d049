/* A layer's queries, ready to be scored against key summaries.
 *
 * The score of a block is q . x / sqrt(head_dim), x being the mean of its keys as the summary has
 * it. Of its two parts, the head's centre and the codes' steps, the second is added up in integers:
 * a query's products with a chunk's steps are rounded to 8 bits.
 */
#ifndef DAEMON_RECALL_KEY_QUERIES_H
#define DAEMON_RECALL_KEY_QUERIES_H

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

/* A layer of a chunk's summary; `next` is what is scored next, of the same shape, or NULL. */
struct key_layer {
    struct page_shape page;
    const uint8_t *summary, *next;
};

/* Whatever K and queries are, a score is within this. */
#define KEY_SCORE_MAX 0x1p96F

/* scores[query * apart + block] */
void key_queries_score(const struct key_queries_shape *shape, const void *memory, void *scratch,
                       const struct key_layer *layer, float *scores, size_t apart);

#endif
