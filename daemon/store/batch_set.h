/* The batches of embeddings that a session has, and which of their rows are its own still. A batch
 * may be several sessions'; what of it is gone is each session's own. All functions expect the
 * session to be locked, or seen by nobody else.
 */
#ifndef DAEMON_STORE_BATCH_SET_H
#define DAEMON_STORE_BATCH_SET_H

#include "daemon/store/batch.h"

struct session;

struct batch_ref {
    struct batch_ref *next;
    struct attachment *batch; /* owned */
    uint32_t rows, live;
    uint64_t end;    /* no live row is of tokens behind it */
    uint64_t gone[]; /* a bit a row */
};

static inline bool batch_ref_has(const struct batch_ref *ref, uint32_t row) {
    return !(ref->gone[row / 64] >> row % 64 & 1);
}

static inline size_t batch_ref_words(uint32_t rows) {
    return (rows + 63) / 64;
}

/* With all of its rows; counts the batch as owned. NULL at the memory limit. */
struct batch_ref *batch_ref_new(struct budget *budget, struct attachment *batch);

/* Lets go of it, or of all that are linked. Bytes that became free. */
uint64_t batch_ref_free(struct batch_ref *ref, struct budget *budget);
uint64_t batch_set_free(struct batch_ref *refs, struct budget *budget);

/* A row that is there goes; of a session's that is noted behind the last of them. */
void batch_ref_drop(struct batch_ref *ref, uint32_t row);
void batch_set_note_dropped(struct session *session, uint64_t rows);

size_t batch_set_count(const struct session *session);

/* The session's of that batch, or NULL. */
struct batch_ref *batch_set_find(const struct session *session, const struct attachment *batch);

/* Has one more. Of a session that others see batch_tell() follows. */
void batch_set_put(struct session *session, struct batch_ref *ref);

/* Takes one out: the caller's to free. */
void batch_set_take(struct session *session, struct batch_ref *ref);

/* Takes out all that have no row left: linked, the caller's to free. */
struct batch_ref *batch_set_take_empty(struct session *session);

/* What is of tokens behind so many is gone. How many entries that are. */
uint64_t batch_set_cut(struct session *session, uint64_t tokens);

/* A new session of the source's first tokens has the entries of these. STORE_OK or STORE_FULL. */
int batch_set_fork(const struct session *source, struct session *target, uint64_t tokens)
    __attribute__((warn_unused_result));

/* The session has none any more: the caller's to free. */
struct batch_ref *batch_set_detach(struct session *session);

/* What all of them take. */
struct batch_sums {
    uint64_t batches, entries;
    uint64_t memory_bytes, disk_bytes;
    uint64_t unique_bytes, unique_disk_bytes; /* without what other sessions have, too */
};
struct batch_sums batch_set_sums(const struct session *session);

#endif
