/* Coding 1, bit for bit: what its encoder and decoder share.
 *
 * An exponent is a drop below its channel's largest, in rows of the entropy coder, with its sign
 * where that is nearly known; mantissas (the rest) stand plain. See FORMAT.md, "Coding 1".
 */
#ifndef PROTO_PAGE_EXACT_H
#define PROTO_PAGE_EXACT_H

#include "proto/page/coding.h"
#include "proto/page/rans.h"

/* All of a page but values and rest: C channels, n coded tokens. */
struct exact_page {
    size_t channels, tokens;
    int16_t *largest_offset;    /* [C], of the largest exponent or the mean to centre 0 */
    int16_t *class_offset;      /* [C], to centre 1 */
    uint8_t *largest;           /* [C], exponents; of integers, means plus 128 */
    uint8_t *channel_class;     /* [C] */
    struct rans_class *classes; /* [C], what these are for the entropy coder */
    struct page_codes *codes;   /* [C / PAGE_BLOCK], rounded up */
};

void exact_page_init(struct exact_page *page, const struct page_header *header,
                     struct workspace *workspace);

/* Whether values are integers, with a mean for each channel where floats have a largest exponent.
 */
bool exact_is_integer(enum page_dtype dtype);

/* Tells entropy coder and kernels what the channels of the tile from `channel` on are like. */
void exact_set_tile(struct exact_page *page, enum page_dtype dtype, size_t channel);

/* How many classes there are, and what a largest exponent (or a mean) is at most. */
int exact_classes(enum page_dtype dtype);
int exact_largest(enum page_dtype dtype);

/* A token's mantissas (of blocks, their scales). Tile after tile, those of the tile from `channel`
 * on begin tokens * exact_rest_bytes(dtype, channel) from the first. */
size_t exact_rest_bytes(enum page_dtype dtype, size_t channels);

/* ---- reading ---- */

struct exact_reader {
    struct rans_decoder decoder;
    const struct page_header *header;
    struct exact_page page;
    const uint8_t *rest;
    void *tile; /* of decoded values, [PAGE_BLOCK][RANS_ROW_VALUES] of the page's width */
};

/* What decoding takes. */
size_t exact_decode_workspace_bytes(size_t channels);

/* Reads the side rows; false if the payload is damaged. Keeps what it takes of the workspace. */
bool exact_open(struct exact_reader *reader, const struct page_header *header,
                struct payload payload, struct workspace *workspace)
    __attribute__((warn_unused_result));

/* A page by itself, from its payload to its target. */
bool exact_decode_page(const struct page_header *header, struct payload payload,
                       const struct page_target_tokens *target, struct workspace workspace)
    __attribute__((warn_unused_result));

/* Reads one or two pages of the same width and channels into their targets. */
bool exact_decode(struct exact_reader *const readers[],
                  const struct page_target_tokens *const targets[], size_t count,
                  struct workspace workspace) __attribute__((warn_unused_result));

#endif
