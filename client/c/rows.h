/* Values of one DATA frame as they lie in the caller's memory: rows that the wire has end to end.
 *
 * Nothing here owns memory. Few rows are sent and received where they are; many small ones pass
 * through a buffer.
 */
#ifndef CLIENT_C_ROWS_H
#define CLIENT_C_ROWS_H

#include "client/c/kvq.h"

#include <sys/uio.h>

enum { KVQ_PIECES_MAX = 128 };

/* All in bytes; row (i, j) is at base + i * outer_stride + j * inner_stride. */
struct kvq_rows {
    char *base;
    size_t outer, inner, row_bytes;
    ptrdiff_t outer_stride, inner_stride;
};

struct kvq_strides {
    ptrdiff_t layer, token, head;
};

/* The wire's order of a block. */
enum kvq_layout { KVQ_TOKENS_HEADS_DIM = 0, KVQ_HEADS_TOKENS_DIM = 1 };

#pragma GCC visibility push(hidden)

/* Strides left 0 become those of packed [layers, tokens, heads, head_dim]. */
struct kvq_strides kvq_resolve_strides(struct kvq_strides given, uint64_t tokens, uint32_t heads,
                                       size_t dim_bytes);

/* The wire's layout in which values with these strides lie in the longest rows. */
enum kvq_layout kvq_best_layout(struct kvq_strides strides, uint32_t heads, size_t dim_bytes);

/* The rows of tokens x heads values at base, merged where they touch. */
struct kvq_rows kvq_rows_of(char *base, enum kvq_layout layout, struct kvq_strides strides,
                            uint32_t tokens, uint32_t heads, size_t dim_bytes);

/* Whether kvq_rows_pieces() may be used. */
bool kvq_rows_are_few(const struct kvq_rows *rows);

/* Writes at most KVQ_PIECES_MAX pieces; returns how many. */
size_t kvq_rows_pieces(const struct kvq_rows *rows, struct iovec *pieces);

void kvq_rows_gather(const struct kvq_rows *rows, uint8_t *packed);
void kvq_rows_scatter(const struct kvq_rows *rows, const uint8_t *packed);

#pragma GCC visibility pop

#endif
