/* The entropy coder: rows of integers over 64 interleaved rANS states. See FORMAT.md, "Rows".
 *
 * The decoder reads rows first to last, the encoder writes them last to first. Both work within the
 * memory they are given; neither outlives the call that made it.
 */
#ifndef PROTO_PAGE_RANS_H
#define PROTO_PAGE_RANS_H

#include "proto/page/tables.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RANS_LANES = 64,
    RANS_STATE_MIN = 256,
    RANS_ESCAPE = 0,
    RANS_SYMBOL_ZERO = 16,
    RANS_STREAM_HEADER_BYTES = 2 * RANS_LANES + 8, /* states, bytes of refill, bytes of escapes */
};

/* What a class means: a table and a number of low bits that bypass it. */
struct rans_class {
    uint8_t table, low_bits;
};

/* A table laid out for decoding, by the state's low byte; step is frequency << 8 | rank. */
struct rans_decode_model {
    uint16_t step[256];
    uint8_t symbol[256];
};

/* A table laid out for encoding. start is frequency << 8 | first rank, slot is by rank. */
struct rans_encode_model {
    uint16_t start[PAGE_SYMBOLS], reciprocal[PAGE_SYMBOLS];
    uint8_t slot[256];
    int16_t low, high; /* the values with a symbol of their own */
};

struct rans_decoder {
    uint16_t state[RANS_LANES];
    const uint8_t *refill, *refill_end, *plane, *plane_end, *escape, *escape_end;
    bool wide_escapes;
    uint64_t built; /* models laid out so far, a bit each */
    struct rans_decode_model *models;
};

struct rans_encoder {
    uint16_t state[RANS_LANES];
    uint8_t *begin; /* planes, then escapes, then refill; all filled from their ends down */
    uint8_t *plane, *plane_end, *escape, *escape_end, *refill, *end;
    bool wide_escapes;
    bool escape_too_wide; /* an escape needs int16 */
    bool full;            /* the memory did not do */
    uint64_t built;
    struct rans_encode_model *models;
};

struct rans_class rans_level_class(unsigned k);
struct rans_class rans_drop_class(unsigned k);

/* The class for values of this mean magnitude, given as a sum over `count` values. */
unsigned rans_class_of_magnitude(uint64_t sum, size_t count);

/* The class that codes these values in the fewest bits, or nearly. */
unsigned rans_choose_class(const int16_t *values, size_t count);

size_t rans_plane_bytes(struct rans_class class, size_t count);

/* Checks the stream's header. models has PAGE_TABLES entries. */
bool rans_decoder_init(struct rans_decoder *decoder, const uint8_t *stream, size_t bytes,
                       bool wide_escapes, struct rans_decode_model *models)
    __attribute__((warn_unused_result));

bool rans_decode_row(struct rans_decoder *decoder, struct rans_class class, int16_t *values,
                     size_t count) __attribute__((warn_unused_result));

/* Whether the stream has come out even. */
bool rans_decoder_done(const struct rans_decoder *decoder) __attribute__((warn_unused_result));

/* plane_bytes: the sum of rans_plane_bytes() over all rows to come. */
void rans_encoder_init(struct rans_encoder *encoder, uint8_t *memory, size_t bytes,
                       size_t plane_bytes, bool wide_escapes, struct rans_encode_model *models);

/* On failure sets encoder->full or ->escape_too_wide, after which rows are ignored. */
void rans_encode_row(struct rans_encoder *encoder, struct rans_class class, const int16_t *values,
                     size_t count);

/* The stream's length, and the stream itself. */
size_t rans_encoder_bytes(const struct rans_encoder *encoder);
void rans_encoder_write(const struct rans_encoder *encoder, uint8_t *out);

#endif
