/* The tail: a session's newest tokens as they came, a row a token, until they fill a page.
 *
 * A buffer to which rows are only ever added behind its mark; reference-counted, so that a reader
 * may copy rows that it may see while a writer adds others. Forks own it together, each with as
 * many of its rows as it has tokens; who appends at the mark claims what lies behind, the others
 * begin a tail of their own. Memory is mapped whole but reserved in the budget, and touched, only
 * as far as the rows reach. Safe from any thread.
 */
#ifndef DAEMON_STORE_TAIL_H
#define DAEMON_STORE_TAIL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "daemon/base/budget.h"
#include "daemon/store/geometry.h"
#include "daemon/store/record.h"
#include "daemon/store/usage.h"

struct chunk;

struct tail {
    _Atomic unsigned references;
    struct budget *budget;
    struct usage *usage;
    struct geometry geometry;
    size_t token_bytes, mapped_bytes, own_bytes;
    char *rows;
    int level;            /* that rows were coded at before: see tail_inherit() */
    pthread_mutex_t lock; /* of the fields below */
    uint32_t mark;        /* rows that are taken, by sessions or by an append under way */
    uint32_t owners;      /* sessions */
    uint64_t charged_bytes;
    struct chunk *coded; /* a reference to what has its first rows, for all that have the tail */
    int coded_level;
    struct loss losses[]; /* with `level`; by layer and part */
};

/* Without owner, its rows up to the mark the caller's, who has one reference. STORE_OK or
 * STORE_FULL. */
int tail_new(struct budget *budget, struct usage *usage, const struct geometry *geometry,
             uint32_t mark, struct tail **tail) __attribute__((warn_unused_result));
void tail_ref(struct tail *tail);
void tail_unref(struct tail *tail);

/* A session has it: takes a reference. */
void tail_own(struct tail *tail);

/* A session lets go of it. Bytes that became free: 0 if others have it still. */
uint64_t tail_disown(struct tail *tail);

/* For who appends behind so many rows: true if nobody else has taken what lies behind, which is
 * then the caller's up to `end`. */
bool tail_claim(struct tail *tail, uint32_t rows, uint32_t end) __attribute__((warn_unused_result));

/* Gives back what lies behind so many rows; for who has claimed it, or has the only reference. */
void tail_cut(struct tail *tail, uint32_t rows);

/* Makes room for rows up to a page's tokens. STORE_OK or STORE_FULL. Only for who claimed them. */
int tail_extend(struct tail *tail, uint32_t rows) __attribute__((warn_unused_result));

/* For a session that is about to let go of it, under the session's lock, and who has the only other
 * reference: so many of the bytes that the rows have in the budget are the caller's from now on.
 * False, and nothing is done, if anybody else has the tail or reads it. */
bool tail_yield(struct tail *tail, uint64_t bytes) __attribute__((warn_unused_result));

/* The bytes it takes, and whether several sessions have it. */
uint64_t tail_bytes(struct tail *tail, bool *shared);

/* Where (row, layer, part) stands, and the strides in values from there. */
char *tail_at(const struct tail *tail, uint32_t row, uint32_t layer, enum page_part part);
struct page_strides tail_strides(const struct tail *tail, enum page_part part);

/* Some of its rows come from a record, at that level: what they have lost, of a layer and part.
 * Only for who has the only reference. */
void tail_inherit(struct tail *tail, uint32_t layer, enum page_part part, int level,
                  const struct loss *loss);
const struct loss *tail_loss(const struct tail *tail, uint32_t layer, enum page_part part);

/* A chunk, as a reference of the caller's, that has at least so many of its rows no coarser than
 * this, if one was noted; else NULL. */
struct chunk *tail_find_coded(struct tail *tail, uint32_t rows, int level)
    __attribute__((warn_unused_result));

/* Notes a chunk of its first rows. */
void tail_note_coded(struct tail *tail, struct chunk *chunk, int level);

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
