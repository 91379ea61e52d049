/* An attachment: a small named blob of a session's, kept exactly, in pieces that are compressed
 * where that helps and checked each by itself.
 *
 * Its record is one self-describing stretch of bytes, the same in the pool and on disk. Bytes,
 * little-endian, offsets from the record's start:
 *     0  magic "KVQATTCH"             8  u32 format (1)
 *    12  u32 header bytes            16  u64 record bytes
 *    24  u64 number                  32  u64 bytes as given
 *    40  u64 tokens                  48  u16 name bytes   50  6 bytes 0
 *    56  u64 xxh3 of the header with this field 0
 *    64  name, then zeros to a multiple of 8
 *        directory: for each piece of 256 KiB, the last what is left, 16 bytes:
 *            u32 offset, u32 bytes: fewer than the piece has where they are zstd's; u64 xxh3
 *        the pieces, one behind the other
 *
 * A batch of embeddings (batch.h) is one without a name whose pieces are as given: behind the
 * directory there are zeros to a multiple of 64, so that it is read where it lies.
 *
 * struct attachment is the handle. Sessions own it, a fork with its source; it never changes, but
 * for where its bytes are: in memory, on disk, or both. Who reads pins the bytes in memory. Safe
 * from any thread.
 */
#ifndef DAEMON_STORE_ATTACHMENT_H
#define DAEMON_STORE_ATTACHMENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "daemon/store/pool.h"
#include "daemon/store/usage.h"

struct disk_tier;

enum {
    ATTACHMENT_BYTES_MAX = 16 << 20,
    ATTACHMENT_PIECE_BYTES = 256 << 10,
    ATTACHMENT_NAME_BYTES_MAX = 255,
};

/* What is known of one without its record. */
struct attachment_spec {
    uint64_t id;           /* never given again, across restarts too */
    uint64_t bytes;        /* as given */
    uint64_t record_bytes; /* 0: not known yet */
    uint64_t tokens;       /* that the session had when it was put */
    const char *name;
    size_t name_bytes;
    bool is_batch;
};

/* What all attachments have in common. */
struct attachment_home {
    struct pool *pool;
    struct budget *budget;
    struct usage *usage;
};

struct attachment {
    _Atomic unsigned references;
    struct attachment_home home;
    struct charge disk_charge;
    struct attachment_spec spec; /* the name is the handle's own */
    pthread_mutex_t lock;        /* of the fields below */
    unsigned owners, pins;
    struct pool_extent extent; /* all of it reserved; without bytes: on disk only */
    struct disk_tier *disk;    /* where it is too; NULL: nowhere */
    bool writing, loading;
    uint64_t lost_until_ns; /* what is on disk alone cannot be read: not tried again before */
    char name[];
};

/* A handle without bytes in memory, with one reference. NULL at the memory limit. */
struct attachment *attachment_new(const struct attachment_home *home,
                                  const struct attachment_spec *spec);
void attachment_ref(struct attachment *attachment);
void attachment_unref(struct attachment *attachment);

/* One session more has it: takes a reference. */
void attachment_own(struct attachment *attachment);

/* A session lets go of it. Bytes that became free: 0 if others have it still. */
uint64_t attachment_disown(struct attachment *attachment);

/* What an attachment is at one moment. */
struct attachment_view {
    uint64_t memory_bytes; /* that it takes of the budget */
    bool in_memory;        /* else these are its handle alone */
    uint64_t disk_bytes;   /* 0: it is not on disk */
    bool shared;
};
struct attachment_view attachment_view(struct attachment *attachment);

/* --- making one, which nobody else sees yet --- */

/* Makes room for the record with all bytes as given. STORE_OK or STORE_FULL. */
int attachment_provide(struct attachment *attachment) __attribute__((warn_unused_result));

/* How many pieces there are, and what the one of this number has. */
uint32_t attachment_pieces(const struct attachment *attachment);
size_t attachment_piece_bytes(const struct attachment *attachment, uint32_t piece);

/* Writes the next piece; workspace is PAGE_WORKSPACE_BYTES. */
void attachment_write_piece(struct attachment *attachment, uint32_t piece, const void *bytes,
                            void *workspace);

/* Of a batch: where its bytes are; they are written there, and then each piece is noted. */
uint8_t *attachment_memory(const struct attachment *attachment);
void attachment_note_piece(struct attachment *attachment, uint32_t piece);

/* After the last piece: the record is complete, and what is behind it is given back. */
void attachment_seal(struct attachment *attachment);

/* --- reading --- */

/* False if its bytes are not in memory. */
bool attachment_pin(struct attachment *attachment) __attribute__((warn_unused_result));
void attachment_unpin(struct attachment *attachment);

/* A part of the record: its header with the directory, or from 1 on its pieces. False if the
 * directory cannot be. */
bool attachment_find_part(const struct attachment *attachment, uint32_t part, const uint8_t **start,
                          size_t *bytes);

/* Whether each piece of a batch is as it was noted; its bytes are in memory. Logged if not. */
bool attachment_is_whole(const struct attachment *attachment);

/* The piece as it was given; pinned. 0, or -1, logged, if it is damaged. */
int attachment_read_piece(const struct attachment *attachment, uint32_t piece, void *to,
                          void *workspace) __attribute__((warn_unused_result));

/* --- between memory and disk, for attachment_disk.c --- */

/* True, pinned, if it is to be written: not if it is there, or being written. end follows; disk
 * NULL: it failed. */
bool attachment_begin_write(struct attachment *attachment) __attribute__((warn_unused_result));
void attachment_end_write(struct attachment *attachment, struct disk_tier *disk);

/* With the attachment locked, or before others see it: where it is from now on, too; NULL:
 * nowhere. */
void attachment_put_on_disk(struct attachment *attachment, struct disk_tier *disk);

/* Whether its bytes are on disk, be they damaged. */
bool attachment_is_on_disk(struct attachment *attachment);

/* Gives up the bytes in memory of one that is on disk. How many that frees. */
uint64_t attachment_drop_bytes(struct attachment *attachment);

/* STORE_OK if the bytes are in memory, STORE_WAIT if they are being loaded, STORE_MISS if they are
 * lost, STORE_FULL at the memory limit, or STORE_MORE with room for them: end follows. */
int attachment_begin_load(struct attachment *attachment, struct pool_extent *room)
    __attribute__((warn_unused_result));

/* With what was read into the room, or what went wrong. False if it is not this attachment's
 * record, which is lost then, or if the device failed. */
enum attachment_reading { ATTACHMENT_READ, ATTACHMENT_NOT_READ, ATTACHMENT_DEVICE_FAILED };
bool attachment_end_load(struct attachment *attachment, struct pool_extent *room,
                         enum attachment_reading reading);

/* Nobody is to have it, but what is on disk stays there. */
void attachment_leave_on_disk(struct attachment *attachment);

#endif
