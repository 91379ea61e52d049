/* The tail: a session's newest tokens as they came, a row a token, until they fill a page.
 *
 * A buffer to which rows are only ever added, with a mark behind the last; reference-counted, so
 * that a reader may copy rows below the mark it saw while a writer adds others. Memory is mapped
 * whole but reserved in the budget, and touched, only as far as the rows reach.
 */
#ifndef DAEMON_STORE_TAIL_H
#define DAEMON_STORE_TAIL_H

#include <stdatomic.h>

#include "daemon/base/budget.h"
#include "daemon/store/geometry.h"

struct tail {
    _Atomic unsigned references;
    struct budget *budget;
    struct geometry geometry;
    size_t token_bytes, mapped_bytes;
    _Atomic uint64_t charged_bytes;
    char *rows;
};

/* STORE_OK or STORE_FULL. */
int tail_new(struct budget *budget, const struct geometry *geometry, struct tail **tail)
    __attribute__((warn_unused_result));
void tail_ref(struct tail *tail);
void tail_unref(struct tail *tail);

/* Makes room for rows up to a page's tokens. STORE_OK or STORE_FULL. Only the session's one writer.
 */
int tail_extend(struct tail *tail, uint32_t tokens) __attribute__((warn_unused_result));

/* Gives back what lies behind so many rows: those of an append that was dropped. Only the writer.
 */
void tail_shrink(struct tail *tail, uint32_t tokens);

/* Where (row, layer, part) stands, and the strides in values from there. */
char *tail_at(const struct tail *tail, uint32_t row, uint32_t layer, enum page_part part);
struct page_strides tail_strides(const struct tail *tail, enum page_part part);

/* One part of one layer in rows first .. first + tokens - 1. */
struct tail_block {
    uint32_t first, tokens, layer;
    enum page_part part;
};

/* Copies values in. */
void tail_write(struct tail *tail, const struct tail_block *block, const void *values,
                struct page_strides strides);

/* Copies values out, as dtype. */
void tail_read(const struct tail *tail, const struct tail_block *block, enum page_dtype dtype,
               void *values, struct page_strides strides);

#endif
