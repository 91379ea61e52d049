/* Pages to measure the codec with: their values, what they are coded to at each level, and room for
 * what comes back. Owns all of it. */
#ifndef TESTS_BENCH_CODEC_PAGES_H
#define TESTS_BENCH_CODEC_PAGES_H

#include "proto/page/page.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CODEC_LEVELS = PAGE_LEVEL_MAX - PAGE_LEVEL_MIN + 1 };

/* Pages coded at one level, packed as a pool packs them, each at a multiple of 64 bytes. */
struct coded_pages {
    uint8_t *memory;
    struct page_bytes *page; /* [count] */
};

struct codec_pages {
    struct page_shape shape;
    struct page_strides strides;
    size_t count; /* even: K and V in turn */
    size_t page_bytes, coded_bytes_max;
    uint32_t sequence_pages; /* every so many, K and V of a sequence's begin: with sinks */
    uint8_t *source, *target;
    struct coded_pages coded[CODEC_LEVELS];
    uint8_t *aged; /* coded_bytes_max */
    void *workspace;
};

/* What the pages are made of: a file of pages [tokens, heads, head_dim], K and V in turn, or, if
 * file is NULL, values as kv_values.h makes them (float16). */
struct codec_data {
    const char *file;
    struct page_shape shape; /* tokens: PAGE_TOKENS_MAX */
    uint32_t sequence_pages;
    size_t distinct; /* so many pages over and over; 0: as many as there are */
};

/* About `bytes` of values, at least K and V of one page. */
struct codec_pages codec_pages_new(const struct codec_data *data, size_t bytes);
void codec_pages_free(struct codec_pages *pages);

static inline size_t codec_pages_bytes(const struct codec_pages *pages) {
    return pages->count * pages->page_bytes;
}

static inline uint32_t codec_pages_sinks(const struct codec_pages *pages, size_t page) {
    return page / 2 % pages->sequence_pages == 0 ? PAGE_SINK_TOKENS : 0;
}

#endif
