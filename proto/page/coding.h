/* What the codings have in common: each turns the tokens after the sinks into a payload and back.
 *
 * An encoder fills in its fields of the header (loss too: error, and energy of the coded tokens
 * added to what is there) and returns the payload's length, or 0 if this page is not for it: a
 * number that is not finite, or a payload of `out_bytes` or more. A decoder has a checked header
 * and writes the target's tokens from `first` to `last` - 1, all of them behind the sinks.
 */
#ifndef PROTO_PAGE_CODING_H
#define PROTO_PAGE_CODING_H

#include "proto/page/header.h"
#include "proto/page/page.h"
#include "proto/page/workspace.h"

#include <stdbool.h>

struct payload {
    const uint8_t *bytes;
    size_t length;
};

struct loss_sums {
    double error, energy;
};

size_t quantise_encode(const struct page_source *source, struct workspace workspace,
                       struct page_header *header, struct loss_sums *loss, uint8_t *out,
                       size_t out_bytes);
bool quantise_decode(const struct page_header *header, struct payload payload,
                     const struct page_target *target, size_t first, size_t last,
                     struct workspace workspace);

size_t fast8_encode(const struct page_source *source, struct workspace workspace,
                    struct page_header *header, struct loss_sums *loss, uint8_t *out,
                    size_t out_bytes);
bool fast8_decode(const struct page_header *header, struct payload payload,
                  const struct page_target *target, size_t first, size_t last,
                  struct workspace workspace);

size_t exact_encode(const struct page_source *source, struct workspace workspace,
                    struct page_header *header, uint8_t *out, size_t out_bytes);
/* Whether exact_encode() would certainly take as many bytes; costs far less than trying. */
bool exact_takes(const struct page_source *source, struct workspace workspace, size_t bytes);

bool exact_decode(const struct page_header *header, struct payload payload,
                  const struct page_target *target, size_t first, size_t last,
                  struct workspace workspace);

#endif
