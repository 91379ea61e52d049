/* What is to be freed in steps: the slices, tail, attachments and
 * batches that a session held, the parts of
 * an append that is dropped. Nobody else sees it any more; whoever has it steps it, or leaves it to
 * the keeper.
 */
#ifndef DAEMON_STORE_DISCARD_H
#define DAEMON_STORE_DISCARD_H

#include "daemon/store/attachment_set.h"
#include "daemon/store/batch_set.h"
#include "daemon/store/chunk.h"
#include "daemon/store/tail.h"

struct discard {
    struct discard *next; /* the keeper's */
    /* Frees a part, in about a millisecond at most; false when that was the last, and the discard
     * itself is gone. */
    bool (*step)(struct discard *discard);
};

/* So many chunks are freed in one step, or fewer where they are large. */
enum { DISCARD_STEP_CHUNKS = 128, DISCARD_STEP_BYTES = 4 << 20 };

/* A part of a session: a range of its tokens that one chunk holds. */
struct slice {
    struct chunk *chunk;
    uint64_t start;         /* the session's token that is the slice's first */
    uint32_t first, tokens; /* within the chunk */
    int level;              /* at which it owns the chunk; only ever coarser */
};

struct disk_promise;

struct session_discard {
    struct discard discard;
    struct budget *budget;
    struct slice *slices; /* `capacity` of them are reserved */
    size_t slice_count, slice_capacity;
    struct tail *tail;
    struct slice coded_tail;              /* without a chunk: none */
    struct attachment_set *attachments;   /* NULL: none */
    struct batch_ref *batches;            /* likewise */
    struct disk_promise *deleted_on_disk; /* NULL: nothing was there */
    uint64_t freed_bytes;                 /* so far: what others have too is not in it */
};

/* Empty, to be freed by its steps. NULL at the memory limit. */
struct session_discard *session_discard_new(struct budget *budget);

/* Makes room for so many slices in an empty one. STORE_OK or STORE_FULL. */
int session_discard_reserve(struct session_discard *discard, size_t slices)
    __attribute__((warn_unused_result));

/* Its step, for who wants to know what came of it: true while there is more. It stays. */
bool session_discard_step(struct session_discard *discard);

/* After the last step. */
void session_discard_free(struct session_discard *discard);

#endif
