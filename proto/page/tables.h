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
    PAGE_TABLES = 64,
};

/* Frequencies sum to 256. Bucket b's first own[b] slots are symbol b's, the others other[b]'s. */
struct page_table {
    uint8_t frequency[PAGE_SYMBOLS], own[PAGE_SYMBOLS], other[PAGE_SYMBOLS];
};

extern const struct page_table page_tables[PAGE_TABLES];

/* Low bits that a value of the class keeps out of the entropy coder. */
extern const uint8_t page_low_bits[PAGE_TABLE_CLASSES];

/* 256 times the mean magnitude up to which class k serves; the last class has no limit. */
extern const uint32_t page_magnitude_limits[PAGE_CLASSES - 1];

/* 256 times the mean drop of an exponent at which class k + 1 begins. */
extern const uint32_t page_drop_limits[PAGE_TABLE_CLASSES - 1];

/* 256 times the bits that a symbol of frequency f takes. */
extern const uint16_t page_code_length[256];

#endif
