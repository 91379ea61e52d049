/* Side rows: what both entropy-coded codings write about their channels and tokens, beside values.
 */
#ifndef PROTO_PAGE_SIDE_ROWS_H
#define PROTO_PAGE_SIDE_ROWS_H

#include "proto/page/header.h"
#include "proto/page/rans.h"
#include "proto/page/workspace.h"

/* Memory for a row, with the room that kernels want behind it, and how much that is. */
size_t side_row_piece(size_t count);
int16_t *side_row_take(struct workspace *workspace, size_t count);

/* Differences to the values' mean, rounded, which is returned. There is a value at least. */
uint8_t side_row_centre(const uint8_t *values, size_t count, int16_t *offsets);

/* Chooses the row's class, notes it in the header and encodes; false if there is no room. */
bool side_row_write(struct page_header *header, struct rans_encoder *encoder, int row,
                    const int16_t *values, size_t count) __attribute__((warn_unused_result));

#endif
