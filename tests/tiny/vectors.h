/* Values and what the host's codec makes of them, as a file that the target reads front to back.
 *
 * A vector is its header, then the values, the page, what ageing makes of that, and the values that
 * the last of the two pages decodes to. Host and target are little-endian, and lay it out alike.
 */
#ifndef TESTS_TINY_VECTORS_H
#define TESTS_TINY_VECTORS_H

#include <stdint.h>

enum {
    VECTOR_NAME_BYTES = 64,
    VECTOR_VALUE_BYTES_MAX = 1 << 16,
    VECTOR_PAGE_BYTES_MAX = (1 << 16) + 256, /* page_bound_bytes() of so many values */
};

struct vector {
    char name[VECTOR_NAME_BYTES];
    uint32_t tokens, heads, head_dim, dtype, part, sink_tokens;
    int32_t level, aged_level; /* of page_age(), where aged_bytes is not 0 */
    uint32_t value_bytes, page_bytes, aged_bytes;
};

#endif
