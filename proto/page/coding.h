/* What the codings have in common: each turns the coded tokens into a payload and back.
 *
 * An encoder fills in its fields of the header (loss too: error, and energy of all tokens), writes
 * the exact tokens' values and the payload behind the header's place, and returns the whole page's
 * length; or 0 if this page is not for it: a number that is not finite, or a page as long as a raw
 * one. A decoder has a checked header and writes the target's coded tokens; there is one at least.
 */
#ifndef PROTO_PAGE_CODING_H
#define PROTO_PAGE_CODING_H

#include "proto/page/header.h"
#include "proto/page/page.h"
#include "proto/page/rows.h"
#include "proto/page/workspace.h"

#include <stdbool.h>

struct payload {
    const uint8_t *bytes;
    size_t length;
};

struct loss_sums {
    double error, energy;
};

/* Writes the exact tokens' values to where they stand in the page, and adds their energy; returns
 * where the payload begins. */
uint8_t *page_write_exact_tokens(const struct page_source *source, const struct page_header *header,
                                 uint8_t *page, double *energy);

/* To the header; false if they are too large for it. */
bool page_set_loss(struct page_header *header, const struct loss_sums *loss)
    __attribute__((warn_unused_result));

/* Adds outlying tokens to the header's exact ones. */
size_t quantise_encode(const struct page_source *source, struct workspace workspace,
                       struct page_header *header, uint8_t *page);

size_t fast8_encode(const struct page_source *source, struct workspace workspace,
                    struct page_header *header, uint8_t *page);
bool fast8_decode(const struct page_header *header, struct payload payload,
                  const struct page_target_tokens *target, struct workspace workspace);

size_t exact_encode(const struct page_source *source, struct workspace workspace,
                    struct page_header *header, uint8_t *page);
/* Whether exact_encode() with this header would certainly write as many bytes; costs far less than
 * trying. */
bool exact_takes(const struct page_source *source, const struct page_header *header,
                 struct workspace workspace, size_t page_bytes);

#endif
