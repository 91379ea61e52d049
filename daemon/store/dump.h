/* A dump: a session part by part as it is kept, coded records among them, for another daemon.
 *
 * The parts, in their order:
 *     the manifest, as manifest.h has it; its only tail piece has the number 0
 *     of each slice a chunk: DUMP_SLICE_BYTES: u64 start, u32 first, u32 tokens, s8 level, zeros;
 *         then the record; and where it has one its keys' summary, a part by itself
 *     a tail that is coded likewise, else its rows
 *     the attachments as they were given, in the manifest's order
 *     the batches likewise
 *
 * It is the session as it was at the beginning, whatever is appended meanwhile. Between two parts
 * nothing is held but references to the tail and the attachments, and of a chunk its record. What
 * is deleted, cut, evicted or found damaged on the way ends it with a miss.
 */
#ifndef DAEMON_STORE_DUMP_H
#define DAEMON_STORE_DUMP_H

#include "daemon/store/manifest.h"
#include "daemon/store/store.h"

enum { DUMP_SLICE_BYTES = 32 };

/* The wire's numbers. */
enum dump_kind {
    DUMP_MANIFEST = 2,
    DUMP_CHUNK,
    DUMP_KEYS,
    DUMP_ROWS,
    DUMP_ATTACHMENT,
    DUMP_BATCH,
};

struct dump {
    struct store *store;
    struct session *session; /* owned reference */
    uint64_t version, cuts, removed_attachments;
    struct manifest manifest;
    uint8_t *manifest_bytes; /* owned, and in the budget, as the room below */
    size_t manifest_count;
    struct tail *tail;               /* owned reference; NULL: there are no rows */
    struct chunk *coded_tail;        /* likewise */
    struct attachment **attachments; /* owned references; the batches behind them */
    size_t attachment_count, attachment_capacity, batch_first;
    uint32_t next_slice;
    size_t next_attachment;
    bool began, has_rows;
    /* the part at hand */
    enum dump_kind kind;
    uint64_t bytes, at;
    struct chunk *chunk;   /* owned reference */
    struct record *record; /* owned pin */
    uint8_t slice[DUMP_SLICE_BYTES];
    struct attachment *attachment;
    uint32_t next_piece;
};

struct dump_request {
    struct store_name session;
    uint64_t if_version; /* 0: any */
};

/* STORE_OK, STORE_MISS, STORE_VERSION_CHANGED or STORE_FULL; end follows in any case. */
int dump_begin(struct store *store, const struct dump_request *request, struct dump *dump)
    __attribute__((warn_unused_result));
void dump_end(struct dump *dump);

/* The next part, once all of the one before was read: STORE_MORE, and kind and bytes are its;
 * STORE_OK when there is no other; STORE_WAIT or STORE_FULL while it is brought from disk;
 * STORE_MISS. */
int dump_next(struct dump *dump) __attribute__((warn_unused_result));

/* What comes next of the part, at most so many bytes, ATTACHMENT_PIECE_BYTES at least; workspace is
 * PAGE_WORKSPACE_BYTES. STORE_OK; or, with nothing read, what dump_next() can come to. */
int dump_read(struct dump *dump, uint8_t *to, size_t room, size_t *bytes, void *workspace)
    __attribute__((warn_unused_result));

#endif
