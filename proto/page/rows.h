/* Access to the caller's tensors: a token's channels, c = head * head_dim + d, wherever the heads
 * stand. */
#ifndef PROTO_PAGE_ROWS_H
#define PROTO_PAGE_ROWS_H

#include "proto/page/page.h"

#include <assert.h>

/* How many channels from `channel` on stand side by side, at most `limit`. */
static inline size_t row_run(uint32_t head_dim, const struct page_strides *strides, size_t channel,
                             size_t limit) {
    assert(head_dim > 0);
    if (strides->head == head_dim)
        return limit;
    size_t left = head_dim - channel % head_dim;
    return left < limit ? left : limit;
}

/* Where a value stands, in values. */
static inline size_t row_index(uint32_t head_dim, const struct page_strides *strides, size_t token,
                               size_t channel) {
    assert(head_dim > 0);
    return token * strides->token + channel / head_dim * strides->head + channel % head_dim;
}

static inline size_t shape_channels(const struct page_shape *shape) {
    return (size_t)shape->heads * shape->head_dim;
}

/* Channels channel .. channel + count - 1 of a token, as float. */
void page_load_token(const struct page_source *source, size_t token, size_t channel, size_t count,
                     float *row);

/* A whole token, in the source's dtype. */
void page_copy_token(const struct page_source *source, size_t token, void *out);

/* A whole token of `dtype`, packed, to a target as IEEE 754 converts. */
void page_store_token(const struct page_target *target, uint32_t heads, uint32_t head_dim,
                      size_t token, enum page_dtype dtype, const void *values);

#endif
