/* The entropy coder: rows of integers over 64 interleaved rANS states. See FORMAT.md, "Rows".
 *
 * The decoder reads rows first to last, the encoder writes them last to first. Both work within the
 * memory they are given; neither outlives the call that made it. The loops over values are kernels
 * (kernels.h) that advance these structures.
 */
#ifndef PROTO_PAGE_RANS_H
#define PROTO_PAGE_RANS_H

#include "proto/page/tables.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RANS_LANES = 64,
    RANS_ROW_VALUES = 128, /* from one row of a job to the next */
    RANS_STATE_MIN = 256,
    RANS_ESCAPE = 0,
    RANS_SYMBOL_ZERO = 16,
    RANS_STREAM_HEADER_BYTES = 2 * RANS_LANES + 8, /* states, bytes of refill, bytes of escapes */
    RANS_SLACK_BYTES = 64, /* that an encoding kernel may overwrite below what it has written */
    RANS_NARROW_BITS = 7,  /* the most low bits of a class for int8 values */
    RANS_WIDE_BITS = 15,   /* and for int16 values */
};

/* What a class means: a table and a number of low bits that bypass it. */
struct rans_class {
    uint8_t table, low_bits;
};

/* A table laid out by the state's low byte, for kernels that look up slots one by one: symbol << 16
 * | frequency << 8 | rank. */
struct rans_decode_model {
    uint32_t slot[256];
};

enum { RANS_BUILT_WORDS = (PAGE_TABLES + 63) / 64 };

struct rans_decoder {
    _Alignas(64) uint16_t state[RANS_LANES];
    const uint8_t *refill, *refill_end, *plane, *plane_end;
    const uint8_t *escape, *escape_end; /* the stream ends here: nothing from here on may be read */
    struct rans_decode_model *models;   /* [PAGE_TABLES], of which rans_decode_model_of() has
                                           filled those in `built` */
    uint64_t built[RANS_BUILT_WORDS];
};

/* Sections fill from their ends down. Kernels do not look for room: rans_encoder_has_room() does.
 */
struct rans_encoder {
    _Alignas(64) uint16_t state[RANS_LANES];
    uint8_t *begin, *plane, *plane_end, *escape, *escape_end, *refill, *refill_end;
};

struct rans_class rans_level_class(unsigned k);

/* The class for values of this mean magnitude, given as a sum over `count` values. */
unsigned rans_class_of_magnitude(uint64_t sum, size_t count);

/* The same for many rows of one count, up to 128. An octave has at most four limits. */
enum { CLASSES_PER_OCTAVE = 4 };
struct rans_classes {
    uint32_t limit[PAGE_CLASSES + CLASSES_PER_OCTAVE]; /* of the sum, up to which class k serves */
    uint8_t first[33];                     /* by how many bits a sum has: the least class for it */
    struct rans_class level[PAGE_CLASSES]; /* rans_level_class() */
};

void rans_classes_init(struct rans_classes *classes, size_t count);

static inline unsigned rans_class_of_sum(const struct rans_classes *classes, uint32_t sum) {
    unsigned first = classes->first[63 - __builtin_clzll(2 * (uint64_t)sum + 1)], k = first;
    for (unsigned i = 0; i < CLASSES_PER_OCTAVE; i++)
        k += sum > classes->limit[first + i]; /* no branch: nothing to foresee */
    return k;
}

/* The class that codes a side row in the fewest bits, or nearly. */
unsigned rans_choose_class(const int16_t *values, size_t count);

/* A plane of a row of `count` values; a row has low_bits of them. */
static inline size_t rans_plane_bytes(size_t count) {
    return (count + 7) / 8;
}

const struct rans_decode_model *rans_build_decode_model(struct rans_decoder *decoder,
                                                        unsigned table);
/* A table in a kernel's own form, laid out when it is first asked for. */
static inline const struct rans_decode_model *rans_decode_model_of(struct rans_decoder *decoder,
                                                                   unsigned table) {
    return decoder->built[table / 64] >> table % 64 & 1 ? &decoder->models[table]
                                                        : rans_build_decode_model(decoder, table);
}

/* Checks the stream's header. models has PAGE_TABLES entries. */
bool rans_decoder_init(struct rans_decoder *decoder, const uint8_t *stream, size_t bytes,
                       struct rans_decode_model *models) __attribute__((warn_unused_result));

/* A side row: int16 values side by side, room for `count` rounded up to a multiple of 64. */
bool rans_decode_side_row(struct rans_decoder *decoder, struct rans_class class, int16_t *values,
                          size_t count) __attribute__((warn_unused_result));

/* Whether the stream has come out even. */
bool rans_decoder_done(const struct rans_decoder *decoder) __attribute__((warn_unused_result));

/* What a stream is at most. */
struct rans_bounds {
    size_t bytes;       /* a longer one is of no use */
    size_t rows, count; /* of values, and in each */
    bool wide;          /* rows of int16 */
    size_t side_values;
};

size_t rans_encoder_memory_bytes(const struct rans_bounds *bounds);

/* memory is 64-byte aligned. */
void rans_encoder_init(struct rans_encoder *encoder, uint8_t *memory,
                       const struct rans_bounds *bounds);

/* Whether rows of `count` values each can be encoded, whatever the values are. If not, the stream
 * is longer than its limit, or its side rows nearly as long. */
bool rans_encoder_has_room(const struct rans_encoder *encoder, const struct rans_class *classes,
                           size_t rows, size_t count, bool wide)
    __attribute__((warn_unused_result));

/* False if there is no room. */
bool rans_encode_side_row(struct rans_encoder *encoder, struct rans_class class,
                          const int16_t *values, size_t count) __attribute__((warn_unused_result));

/* The stream's length, and the stream itself. */
size_t rans_encoder_bytes(const struct rans_encoder *encoder);
void rans_encoder_write(const struct rans_encoder *encoder, uint8_t *out);

#endif
