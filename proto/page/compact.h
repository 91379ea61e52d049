/* The dtypes that engines keep caches in to save memory: 8-bit floats, integers and GGML's blocks.
 *
 * Arithmetic goes through float32, which holds all of their values; exact pages take them apart as
 * they stand.
 */
#ifndef PROTO_PAGE_COMPACT_H
#define PROTO_PAGE_COMPACT_H

#include "proto/page/page.h"

#include <stdbool.h>

enum {
    BLOCK_VALUES = 32, /* of Q8_0 and Q4_0: a float16 d, then the integers */
    Q8_0_BLOCK_BYTES = 2 + BLOCK_VALUES,
    Q4_0_BLOCK_BYTES = 2 + BLOCK_VALUES / 2,
};

static inline bool page_is_compact(enum page_dtype dtype) {
    return dtype >= PAGE_F8E4M3;
}

/* Values of a number of bits each, whose largest is `count` of them: of a multiple of this many. */
static inline unsigned page_block_values(enum page_dtype dtype) {
    return dtype == PAGE_Q8_0 || dtype == PAGE_Q4_0 ? BLOCK_VALUES : 1;
}

/* What arithmetic on values of the dtype is done on. */
static inline enum page_dtype page_number_dtype(enum page_dtype dtype) {
    return page_is_compact(dtype) ? PAGE_F32 : dtype;
}

/* count is a multiple of the dtype's block. */
void page_compact_load(enum page_dtype dtype, const void *values, size_t count, float *numbers);

/* Rounds to nearest, and to the largest finite value what lies beyond; blocks as GGML makes them.
 */
void page_compact_store(enum page_dtype dtype, const float *numbers, size_t count, void *values);

#endif
