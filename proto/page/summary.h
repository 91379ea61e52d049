/* A summary of a page of K: for each block of four tokens the mean of each channel, at three bits.
 * Who has a query finds from it which blocks the query attends to, without the page. SUMMARY.md has
 * the bytes.
 */
#ifndef PROTO_PAGE_SUMMARY_H
#define PROTO_PAGE_SUMMARY_H

#include "proto/page/page.h"

enum {
    SUMMARY_BLOCK_TOKENS = 4,  /* from the page's first token on; the last block may have fewer */
    SUMMARY_LANES = 16,        /* blocks that stand side by side */
    SUMMARY_VECTOR_BYTES = 64, /* codes of four channels of those blocks, when they are bytes */
    SUMMARY_UNIT_VECTORS = 8,
    SUMMARY_UNIT_BYTES = 192, /* that so many vectors take, at three bits a code */
    SUMMARY_CODE_MAX = 7,
    SUMMARY_ALIGNMENT = 64, /* that a summary's memory is to have for speed; its length has it */
};

/* How the codes of a head stand, and where the parts of the first head are: its centres, its steps
 * and its units. */
struct summary_layout {
    uint32_t blocks;
    uint32_t groups;  /* of SUMMARY_LANES blocks */
    uint32_t vectors; /* a multiple of SUMMARY_UNIT_VECTORS: of four channels after the other, a
                       * vector for each group; what is behind the last channel is 0 */
    uint32_t sharing; /* so many channels side by side have one step */
    size_t centres, steps, units;
    size_t head_bytes; /* from one head to the next */
    size_t bytes;      /* all of it */
};

/* Of a head: code u of channel c stands for centre_scale * centres[c] + (u - 3.5) * step_scale *
 * steps[c / sharing]. */
struct summary_head {
    float centre_scale, step_scale;
    const int8_t *centres;
    const uint8_t *steps;
    const uint8_t *units; /* [vectors / SUMMARY_UNIT_VECTORS][SUMMARY_UNIT_BYTES] */
};

/* False for a shape that no page of K with a summary has: one that has more than 4096 values a
 * token, or none at all. */
bool page_summary_layout(const struct page_shape *shape, struct summary_layout *layout);

/* 0 for such a shape. */
size_t page_summary_bytes(const struct page_shape *shape);

/* Writes page_summary_bytes() of the source's values; level, decibels and sinks do not count. Of a
 * head with values that are not finite the codes mean nothing. workspace: PAGE_WORKSPACE_BYTES.
 * PAGE_OK or PAGE_ARGUMENT. */
int page_summarise(const struct page_source *source, void *workspace, uint8_t *summary)
    __attribute__((warn_unused_result));

struct summary_head page_summary_head(const struct summary_layout *layout, const uint8_t *summary,
                                      uint32_t head);

/* What codes are packed as: the first bytes of three vectors have six codes and their upper two
 * bits the other two. codes: [SUMMARY_UNIT_VECTORS][SUMMARY_VECTOR_BYTES]. */
void page_summary_unpack(const uint8_t unit[SUMMARY_UNIT_BYTES], uint8_t *codes);

#endif
