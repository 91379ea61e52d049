/* Levels 0 to 5: what encoder, decoder and ageing share. */
#ifndef PROTO_PAGE_QUANTISE_H
#define PROTO_PAGE_QUANTISE_H

#include "proto/page/coding.h"
#include "proto/page/convert.h"
#include "proto/page/rans.h"

enum {
    SCALE_MAX = 32, /* quarter octaves that a token's step lies from the page's, either way */
    MEAN_BITS = 4,  /* binary digits of a step in a channel's mean, at mean_shift 0 */
};

/* What a page of quantised values consists of but for the values: C channels, n tokens. */
struct quantised {
    size_t channels, tokens;
    int16_t *scale;             /* [n] */
    int16_t *class_offset;      /* [C], to the header's centre */
    int16_t *mean_units;        /* [C] */
    float *mean;                /* [C] */
    struct rans_class *classes; /* [C] */
    float step[PAGE_TOKENS_MAX];
};

void quantised_init(struct quantised *page, const struct page_header *header,
                    struct workspace *workspace);

/* The step of a token of this scale: eight significant bits. */
float quantised_step(uint16_t step_upper_half, int scale);

/* What a mean's integer counts. */
float quantised_mean_unit(const struct page_header *header);

/* ---- reading ---- */

struct quantise_reader {
    const struct page_header *header;
    struct quantised page;
    struct rans_decoder decoder;
    void *tile;  /* of decoded values, [PAGE_BLOCK][RANS_ROW_VALUES] of the page's width */
    void *spare; /* of int8: room for one more */
};

/* What decoding a page of at most so many coded tokens takes: more than fast8's does. */
size_t quantise_decode_workspace_bytes(size_t tokens, size_t channels);

/* Reads the side rows; false if the payload is damaged. Keeps what it takes of the workspace. */
bool quantise_open(struct quantise_reader *reader, const struct page_header *header,
                   struct payload payload, struct workspace *workspace)
    __attribute__((warn_unused_result));

/* Reads the next tile, of channels from `channel` on, of each of one or two pages of the same width
 * and channels. */
bool quantise_read_tiles(struct quantise_reader *const readers[], size_t count, size_t channel)
    __attribute__((warn_unused_result));

/* Reads all tiles into the targets. */
bool quantise_decode(struct quantise_reader *const readers[],
                     const struct page_target_tokens *const targets[], size_t count,
                     struct workspace workspace) __attribute__((warn_unused_result));

/* A page by itself, from its payload to its target. */
bool quantise_decode_page(const struct page_header *header, struct payload payload,
                          const struct page_target_tokens *target, struct workspace workspace)
    __attribute__((warn_unused_result));

/* ---- writing ---- */

/* Tiles come last to first; then the stream is closed. */
struct quantise_writer {
    struct rans_encoder encoder;
    struct page_header *header;
    struct quantised *page;
    struct rans_classes classes;
    uint8_t *channel_class; /* [C] */
    bool full;              /* the stream has grown beyond its limit */
};

void quantise_writer_init(struct quantise_writer *writer, struct page_header *header,
                          struct quantised *page, size_t limit, struct workspace *workspace);

/* A tile of a page: values of its channels, and the sum of their magnitudes by channel. */
struct quantise_tile {
    const void *values;
    const uint32_t *magnitude;
};

/* The tile of the channels from `channel` on, of each of one or two pages of the same width and
 * channels. A writer that is full, or that gets full, takes nothing. */
void quantise_write_tiles(struct quantise_writer *const writers[],
                          const struct quantise_tile tiles[], size_t count, size_t channel);

/* Writes the side rows; returns the stream's length, 0 if there is no room. */
size_t quantise_writer_end(struct quantise_writer *writer);

#endif
