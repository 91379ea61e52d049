/* The integers of the page format: rANS tables, class limits. tables.c is made by make_tables.py.
 */
#ifndef PROTO_PAGE_TABLES_H
#define PROTO_PAGE_TABLES_H

#include <stdint.h>

enum {
    PAGE_SYMBOLS = 32,       /* symbol 0 is the escape, symbol 16 + h stands for h */
    PAGE_BUCKET_SLOTS = 8,   /* of the 256 slots of a state's low byte */
    PAGE_CLASSES = 64,       /* of deviation, in quarter octaves of the step */
    PAGE_TABLE_CLASSES = 32, /* those with a table of their own */
    PAGE_DROP_TABLE = 32,    /* tables 0..31 serve quantised values, 32..63 exponents */
    PAGE_UNSIGNED_TABLES =
        16, /* of the latter: the first are of drops alone, the others of signs too */
    PAGE_DROP_TABLES = 32,
    PAGE_TABLES = 64,
    PAGE_DROP_CELLS = 64,
    PAGE_FLIP_CELLS = 16,
};

/* A slot belongs to bucket slot / 8, and there to the first own[bucket] slots or to those behind.
 * These runs of slots are numbered: e = bucket, or bucket + 32 behind. A slot of run e is the one
 * of symbol[e], of frequency[e], with rank slot + offset[e] (modulo 256) among that symbol's. */
struct page_table {
    _Alignas(64) uint8_t symbol[2 * PAGE_SYMBOLS];
    uint8_t frequency[2 * PAGE_SYMBOLS], offset[2 * PAGE_SYMBOLS];
    uint8_t own[2 * PAGE_SYMBOLS];          /* twice: kernels look it up by six bits */
    uint8_t symbol_frequency[PAGE_SYMBOLS]; /* sum to 256; 0 for a symbol that the table lacks */
    uint8_t start[PAGE_SYMBOLS];            /* sum of the frequencies before the symbol's */
};

/* The same for an encoder. */
struct page_encode_table {
    _Alignas(64) uint8_t slot[256];    /* by a symbol's start plus rank */
    uint16_t reciprocal[PAGE_SYMBOLS]; /* 65536 / frequency, rounded down; 65535 for 0 and 1 */
    int16_t low, high;                 /* high parts from low to high have a symbol of their own */
};

extern const struct page_table page_tables[PAGE_TABLES];
extern const struct page_encode_table page_encode_tables[PAGE_TABLES];

/* Low bits that a value of the class keeps out of the entropy coder. */
extern const uint8_t page_low_bits[PAGE_TABLE_CLASSES];

/* 256 times the mean magnitude up to which class k serves; the last class has no limit. */
extern const uint32_t page_magnitude_limits[PAGE_CLASSES - 1];

/* The table, less PAGE_DROP_TABLE, for exponents of a channel whose mean drop and share of flipped
 * signs fall into a cell; see FORMAT.md, "Coding 1". */
extern const uint8_t page_exact_table[PAGE_DROP_CELLS][PAGE_FLIP_CELLS];

/* 256 times the bits that a symbol of frequency f takes. */
extern const uint16_t page_code_length[256];

#endif
