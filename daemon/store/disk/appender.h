/* Writes records behind one another into segments, a new one when the last is full, and makes them
 * durable. One thread's.
 *
 * After a failed write or fdatasync, or a restart, a segment is never written to again: a place in
 * a file is used once.
 */
#ifndef DAEMON_STORE_DISK_APPENDER_H
#define DAEMON_STORE_DISK_APPENDER_H

#include "daemon/store/disk/segment.h"

/* A record's sequence number: that of the segment it was first written to, then its turn in there.
 */
enum { SEQUENCE_SHIFT = 32 };

enum { APPENDER_PENDING = 1024 };

struct appender {
    struct segment_place place;
    struct budget *budget; /* or NULL */
    uint64_t segment_bytes;
    uint64_t next_number;
    struct segment *segment; /* that is written to, the disk's; or NULL */
    struct mark mark;        /* its */
    uint64_t next_sequence;  /* of records that begin in it */
    bool dirty;              /* there is something that fdatasync has not reached */
    uint8_t *head;           /* of HEAD_BYTES_MAX */
    uint8_t *buffer;         /* for one part at least */
    size_t buffer_bytes;
    struct iovec pending[APPENDER_PENDING]; /* parts that are written with one call */
    size_t pending_count, pending_bytes;
    uint64_t pending_offset;
};

/* Where the parts of a record come from: the part's memory, or NULL with errno. */
struct part_source {
    const void *(*get)(void *context, uint32_t part);
    uint64_t (*bytes)(void *context, uint32_t part);
    void *context;
    bool passes; /* a part's memory is the appender's buffer, until the next is asked for */
};

int appender_init(struct appender *appender) __attribute__((warn_unused_result));
void appender_free(struct appender *appender);

/* Makes the buffer that large. 0, or -1 at the memory limit. */
int appender_provide(struct appender *appender, size_t bytes) __attribute__((warn_unused_result));

/* Whether a record of so many bytes needs a new segment. */
bool appender_needs_segment(const struct appender *appender, uint64_t record_bytes);

/* Begins a segment; the one before must have been closed. 0, or -1 with errno. */
int appender_begin(struct appender *appender) __attribute__((warn_unused_result));

/* Writes a record whose head is filled in but for layout and history; a sequence number of 0 is
 * given the next one. Fills in where it stands. 0, or -1 with errno: then the segment must be
 * closed. */
int appender_write(struct appender *appender, struct head *head, const struct part_source *source,
                   uint64_t *offset) __attribute__((warn_unused_result));

/* fdatasync. 0, or -1 with errno: then the segment is unsafe, for the caller to note and to close.
 */
int appender_sync(struct appender *appender) __attribute__((warn_unused_result));

/* Ends the segment: cuts off what was not written whole, syncs, and says so in its mark. 0, or -1
 * with errno: then it is unsafe. */
int appender_close(struct appender *appender) __attribute__((warn_unused_result));

#endif
