/* Access to the caller's tensors: where the tokens that a coding works on stand, and tiles of them.
 *
 * A tile is channels c .. c + PAGE_BLOCK - 1 of all coded tokens. Where heads do not stand side by
 * side and a tile crosses from one to the next, it goes through a staging area, so that kernels see
 * rows without gaps.
 */
#ifndef PROTO_PAGE_ROWS_H
#define PROTO_PAGE_ROWS_H

#include "proto/page/header.h"
#include "proto/page/kernels.h"
#include "proto/page/page.h"
#include "proto/page/workspace.h"

#include <stdbool.h>

struct page_layout {
    size_t channels, head_dim, head_bytes; /* head_bytes: from one head to the next */
    enum page_dtype dtype;
};

/* Tokens of a source, in order. */
struct page_source_tokens {
    struct page_layout layout;
    const void *rows[PAGE_TOKENS_MAX]; /* their first heads */
    size_t count;
};

/* The coded tokens of a page, of which only first .. last - 1 are wanted, and have rows. */
struct page_target_tokens {
    struct page_layout layout;
    void *rows[PAGE_TOKENS_MAX];
    size_t first, last;
    bool streaming;
};

struct page_staging {
    void *rows[PAGE_TOKENS_MAX];
    _Alignas(float) uint8_t values[PAGE_TOKENS_MAX * PAGE_BLOCK * sizeof(float)];
};

static inline size_t shape_channels(const struct page_shape *shape) {
    return (size_t)shape->heads * shape->head_dim;
}

/* How many channels a tile from `channel` on has. */
static inline size_t tile_channels(size_t channels, size_t channel) {
    return channels - channel < PAGE_BLOCK ? channels - channel : PAGE_BLOCK;
}

static inline size_t row_bytes(const struct page_layout *layout, size_t channels) {
    return page_row_bytes(layout->dtype, channels);
}

/* How many channels from `channel` on stand side by side, at most `limit`. */
static inline size_t page_layout_run(const struct page_layout *layout, size_t channel,
                                     size_t limit) {
    PAGE_MUST_HOLD(layout->head_dim > 0);
    if (layout->head_bytes == row_bytes(layout, layout->head_dim))
        return limit;
    size_t left = layout->head_dim - channel % layout->head_dim;
    return left < limit ? left : limit;
}

/* Where a channel stands in a token's row, in bytes. */
static inline size_t page_layout_offset(const struct page_layout *layout, size_t channel) {
    PAGE_MUST_HOLD(layout->head_dim > 0);
    return channel / layout->head_dim * layout->head_bytes +
           row_bytes(layout, channel % layout->head_dim);
}

/* The source's tokens that the header does not keep exact, and those that it does. */
void page_coded_source(const struct page_source *source, const struct page_header *header,
                       struct page_source_tokens *tokens);
void page_exact_source(const struct page_source *source, const struct page_header *header,
                       struct page_source_tokens *tokens);

/* `header` is the page's; the target's range is within it. */
void page_coded_target(const struct page_target *target, const struct page_header *header,
                       struct page_target_tokens *tokens);

/* staging may serve one tile at a time. */
struct page_source_rows page_source_tile(const struct page_source_tokens *tokens, size_t channel,
                                         struct page_staging *staging);

/* What kernels have written to the tile is in the target once page_target_tile_end() has been
 * called. */
struct page_target_rows page_target_tile(const struct page_target_tokens *tokens, size_t channel,
                                         struct page_staging *staging);
void page_target_tile_end(const struct page_target_tokens *tokens, size_t channel,
                          const struct page_staging *staging);

/* The same of numbers: compact dtypes are converted, from or to float32. */
struct page_source_rows page_source_numbers(const struct page_source_tokens *tokens, size_t channel,
                                            struct page_staging *staging);
struct page_target_rows page_target_numbers(const struct page_target_tokens *tokens, size_t channel,
                                            struct page_staging *staging);
void page_target_numbers_end(const struct page_target_tokens *tokens, size_t channel,
                             const struct page_staging *staging);

/* The tokens' sums of squares, added in order, values that are not finite left out. */
double page_tokens_energy(const struct page_source_tokens *tokens);

/* A whole token, packed. */
void page_copy_token(const struct page_source_tokens *tokens, size_t token, void *out);

/* A whole token of `dtype`, packed, to a row of a target, as IEEE 754 converts. */
void page_store_row(const struct page_layout *layout, enum page_dtype dtype, const void *values,
                    void *row);

/* The same to the page's token `token`, which the target asks for. */
void page_store_token(const struct page_target *target, uint32_t heads, uint32_t head_dim,
                      size_t token, enum page_dtype dtype, const void *values);

#endif
