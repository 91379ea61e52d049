/* Making one batch of what a client gives and of the small ones that its session has: outside of
 * the session's lock, in steps of about a millisecond. */
#ifndef DAEMON_STORE_BATCH_MERGE_H
#define DAEMON_STORE_BATCH_MERGE_H

#include "daemon/store/batch_labels.h"
#include "daemon/store/batch_set.h"

/* A batch of the session's as it was at one moment; of one that is to be merged the rows that go
 * into the new one. */
struct batch_source {
    struct attachment *batch; /* owned reference */
    uint32_t rows, live;
    uint64_t estimate_bytes, string_bytes; /* of the live rows */
    uint64_t *gone;                        /* NULL: it stays what it is */
};

struct batch_merge {
    const struct batch_given *given;
    const struct batch_labels *labels; /* of what is given */
    struct batch_source *sources;      /* those to be merged first, smallest first */
    size_t source_count, merged_count;
    uint64_t changes;         /* the session's batch_changes then */
    struct attachment *batch; /* the new one: owned reference, NULL before it has room */
    uint32_t rows, next_row, next_piece;
    uint64_t string_bytes, next_string;
    size_t next_source; /* merged_count: what is given */
    uint32_t source_row;
    uint64_t given_string;
};

/* With the session locked: what it has, to be merged with what is given. STORE_OK or STORE_FULL. */
int batch_merge_begin(struct batch_merge *merge, const struct session *session,
                      const struct batch_given *given, const struct batch_labels *labels)
    __attribute__((warn_unused_result));

/* STORE_MORE, STORE_OK when the batch is complete, or STORE_FULL: to be repeated. */
int batch_merge_step(struct batch_merge *merge, const struct attachment_home *home)
    __attribute__((warn_unused_result));

/* Frees what it has, the batch too where that is nobody else's. */
void batch_merge_end(struct batch_merge *merge);

#endif
