/* A summary of a page of K: for each block of its tokens and each channel the least and the largest
 * value, at eight bits. Who has a query finds from it which blocks the query attends to, without
 * the page. SUMMARY.md has the bytes.
 */
#ifndef PROTO_PAGE_SUMMARY_H
#define PROTO_PAGE_SUMMARY_H

#include "proto/page/page.h"

enum {
    SUMMARY_BLOCK_TOKENS = 32, /* from the page's first token on; the last block may have fewer */
    SUMMARY_ALIGNMENT = 64,    /* that a summary's memory is to have for speed; its length has it */
};

/* Of a head of a page: a code c stands for base + c * step. A block is the least values of its
 * channels, then the largest. */
struct summary_head {
    float base, step;
    const uint8_t *codes; /* [blocks][2][head_dim] */
};

uint32_t page_summary_blocks(uint32_t tokens);

/* 0 for a shape that no page has. */
size_t page_summary_bytes(const struct page_shape *shape);

/* Writes page_summary_bytes() of the source's values, its sinks left out; level and decibels do not
 * count. Values that are not finite, and what stands beside them in a head, may have any codes.
 * workspace: PAGE_WORKSPACE_BYTES. PAGE_OK or PAGE_ARGUMENT. */
int page_summarise(const struct page_source *source, void *workspace, uint8_t *summary)
    __attribute__((warn_unused_result));

struct summary_head page_summary_head(const struct page_shape *shape, const uint8_t *summary,
                                      uint32_t head);

#endif
