/* What a pool that outlives its daemon says of itself: a note at its file's end, and an index among
 * its extents from which the next daemon makes the sessions again.
 *
 * Bytes, little-endian. The note:
 *     0  magic "KVQPOOL" 0             8  u32 layout (TAKEOVER_LAYOUT)
 *    12  u32 state                    16  u32 how often taking it over was begun, and not ended
 *    20  u32 0                        24  u64 offset of the index
 *    32  u64 bytes of the index       40  u64 xxh3 of the index
 *    48  u64 memory limit             56  u64 0
 *    64  u64 xxh3 of the 64 bytes before
 * The index:
 *     0  magic "KVQINDEX"              8  u64 index bytes
 *    16  u64 largest version given    24  u64 of a chunk's ids
 *    32  u64 of the sessions' ids     40  u64 of the chains'
 *    48  u32 chunks                   52  u32 attachments
 *    56  u32 tails                    60  u32 sessions
 *    64  the chunks, then attachments, tails and sessions
 * A chunk, ascending by id:
 *     0  u64 id                         8  u64 offset of its extent
 *    16  u64 bytes of it; 0: it is on disk only
 *    24  u64 bytes of the record that is on disk
 *    32  u32 1: that is this one       36  u32 0
 *    40  u64 bytes of exact tokens     48  u32 bytes of each level, from the finest on
 *    80  a summary, as record_disk.h has it
 *   168  u64 offset of its key summary's extent
 *   176  u64 bytes of it             184  u64 bytes of the key summary; 0: it has none
 *   192  u64 bytes of the key summary that is on disk
 * An attachment, ascending by id:
 *     0  u64 id                         8  u64 offset of its extent
 *    16  u64 bytes of it; 0: on disk only
 *    24  u64 1: it is on disk
 * A tail:
 *     0  u64 offset of its extent       8  u64 bytes of it
 *    16  u32 rows                      20  u32 0
 *    24  u64 xxh3 of the rows
 * A session, ascending by id:
 *     0  u32 bytes of its manifest      4  u32 touches
 *     8  u32 pieces                    12  u32 1: a manifest was written
 *    16  what else struct takeover_session has, u64 each, in its order
 *   128  i32 the saved floor
 *   132  its manifest, whose only tail piece is a tail's number from 1 on
 *        its tail's pieces on disk: u64 number, u32 rows each
 * All of it is checked before it is used: who hands a pool over may be anybody.
 */
#ifndef DAEMON_STORE_TAKEOVER_INDEX_H
#define DAEMON_STORE_TAKEOVER_INDEX_H

#include "daemon/store/record.h"

/* Another number for whatever changes in here, or of records, pages and manifests. */
enum { TAKEOVER_LAYOUT = 4 };

enum takeover_state {
    TAKEOVER_IN_USE, /* or it was, when its daemon was killed */
    TAKEOVER_SAVED,  /* the index is whole */
    TAKEOVER_ENDED,  /* nothing is to be taken over */
};

struct takeover_note {
    uint32_t layout;
    enum takeover_state state;
    uint32_t attempts;
    uint64_t limit_bytes;
    struct pool_extent index;
    uint64_t index_hash;
};

enum {
    TAKEOVER_NOTE_BYTES = 72,
    TAKEOVER_HEAD_BYTES = 64,
    TAKEOVER_CHUNK_BYTES = 200,
    TAKEOVER_ATTACHMENT_BYTES = 32,
    TAKEOVER_TAIL_BYTES = 32,
    TAKEOVER_PIECE_BYTES = 12,
    TAKEOVER_SESSION_BYTES = 132,
};

struct takeover_head {
    uint64_t bytes, version_clock, chunk_id_clock, session_ids, chain_ids;
    uint32_t chunks, attachments, tails, sessions;
};

struct takeover_chunk {
    uint64_t id, disk_bytes, disk_summary_bytes;
    bool disk_is_current;
    struct pool_extent extent;
    struct pool_extent summary; /* of its keys */
    uint64_t summary_bytes;
};

struct takeover_attachment {
    uint64_t id;
    struct pool_extent extent;
    bool is_on_disk;
};

struct takeover_tail {
    struct pool_extent extent;
    uint32_t rows;
    uint64_t hash;
};

/* What a manifest does not say. */
struct takeover_session {
    uint32_t manifest_bytes, touches, pieces, any_saved;
    uint64_t changes, cuts, removed_attachments;
    uint64_t created_ns, used_ns, pinned_until_ns;
    struct {
        uint64_t version, changes, tokens, cuts, removed_attachments, used_ns, tail_first;
        uint64_t coded_tail; /* a chunk's id, or 0 */
        int floor;
    } saved;
};

/* With all that belongs to it. */
static inline uint64_t takeover_session_bytes(const struct takeover_session *session) {
    return TAKEOVER_SESSION_BYTES + (uint64_t)session->manifest_bytes +
           (uint64_t)session->pieces * TAKEOVER_PIECE_BYTES;
}

void takeover_write_note(uint8_t *bytes, const struct takeover_note *note);

/* 0, or -1 if this is no note, of whatever layout. */
int takeover_read_note(const uint8_t *bytes, struct takeover_note *note)
    __attribute__((warn_unused_result));

void takeover_write_head(uint8_t *bytes, const struct takeover_head *head);
int takeover_read_head(const uint8_t *bytes, uint64_t count, struct takeover_head *head)
    __attribute__((warn_unused_result));

void takeover_write_chunk(uint8_t *bytes, const struct takeover_chunk *chunk,
                          const struct record *record);
struct takeover_chunk takeover_read_chunk(const uint8_t *bytes);

/* The record that a chunk's entry tells of, with one pin and, where it is in memory, its extent,
 * reserved in the budget. NULL at the memory limit, or if no record is like that. */
struct record *takeover_read_record(const uint8_t *bytes, struct pool *pool, struct budget *budget)
    __attribute__((warn_unused_result));

void takeover_write_attachment(uint8_t *bytes, const struct takeover_attachment *attachment);
struct takeover_attachment takeover_read_attachment(const uint8_t *bytes);

void takeover_write_tail(uint8_t *bytes, const struct takeover_tail *tail);
struct takeover_tail takeover_read_tail(const uint8_t *bytes);

void takeover_write_session(uint8_t *bytes, const struct takeover_session *session);
struct takeover_session takeover_read_session(const uint8_t *bytes);

#endif
