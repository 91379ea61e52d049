/* Everything a writer can do with values, whatever they are, each buffer between guards. */
#ifndef TESTS_FUZZ_PAGE_VALUES_H
#define TESTS_FUZZ_PAGE_VALUES_H

#include "proto/page/page.h"
#include "tests/fuzz/guarded.h"

struct page_writer {
    struct guarded_room source, page, again, target, workspace;
};

/* What is written, and how it lies in memory. */
struct page_values {
    struct page_shape shape;
    enum page_part part;
    int level;
    double snr_db;
    uint32_t sink_tokens, layer, layers;
    bool by_heads;      /* [heads, tokens, head_dim], else [tokens, heads, head_dim] */
    size_t gap;         /* values left out behind each head's part of a token; whole blocks */
    size_t off_bytes;   /* that the buffers are off alignment, 0..63 */
    bool at_end;        /* of the rooms; then the guard decides the alignment */
    const void *values; /* [tokens, heads, head_dim] without gaps */
};

struct page_writer page_writer_new(void);
void page_writer_free(struct page_writer *writer);

/* Encodes with the kernels in use and decodes again; aborts where what page.h says does not hold:
 * bounds, the loss (but of compact dtypes), exactness, gaps left alone. Returns a digest of the
 * page and of the values decoded: the same for every table of kernels. */
uint64_t page_writer_try(struct page_writer *writer, const struct page_values *values);

#endif
