/* A chunk: the same tokens over all layers, as an identity whose record may be replaced by a
 * coarser one.
 *
 * Slices of sessions own it, others hold references; whoever reads takes the record and its pin,
 * and holds no lock while decoding. The record may be on disk, too, or there alone: then it is
 * absent, and who wants its bytes asks the disk tier for them. Owners are counted by their level:
 * the finest of them bounds what the keeper may do. Safe from any thread.
 */
#ifndef DAEMON_STORE_CHUNK_H
#define DAEMON_STORE_CHUNK_H

#include <pthread.h>

#include "daemon/store/key_summary.h"
#include "daemon/store/prefix.h"
#include "daemon/store/record.h"
#include "daemon/store/usage.h"

struct disk_tier;

/* What of the chunk is on disk. */
struct chunk_on_disk {
    struct disk_tier *tier; /* NULL: nothing */
    uint64_t serial;        /* of the record that is there */
    uint64_t bytes;
    uint64_t summary_bytes; /* of its keys, in front of the record; 0: it has none there */
    int level;              /* the coarsest of its pages there */
};

struct chunk {
    _Atomic unsigned references;
    uint32_t tokens;
    uint64_t id;           /* never given again, across restarts too */
    uint64_t token_bytes;  /* of its values as they came */
    struct budget *budget; /* of the handle, CHUNK_HANDLE_BYTES */
    struct usage *usage;
    struct key_summary summary; /* does not change once others see the chunk; it may have none */
    pthread_mutex_t lock;       /* of the fields below */
    struct record *record;
    uint32_t owner_count, owners[USAGE_LEVELS]; /* by level - PAGE_LEVEL_MIN */
    struct prefix_offer offer;                  /* the prefix index's */
    struct chunk_on_disk on_disk;
    struct charge disk_charge; /* of that */
    bool writing, loading;
    uint64_t lost_until_ns;   /* what is on disk alone cannot be read: not tried again before */
    _Atomic uint64_t used_ns; /* when it was last loaded, or a fetch began to read it */
};

/* What a chunk takes beside its record's extent and its summary's. */
enum { CHUNK_HANDLE_BYTES = 512 };

/* A chunk without record or owner, with one reference. NULL at the memory limit. */
struct chunk *chunk_new(struct budget *budget, struct usage *usage,
                        const struct geometry *geometry);
void chunk_ref(struct chunk *chunk);
void chunk_unref(struct chunk *chunk);

/* What writing its record takes on disk. */
uint64_t chunk_written_bytes(const struct chunk *chunk, const struct record *record);

/* What of the chunk is in memory whatever becomes of its record's bytes. */
static inline uint64_t chunk_fixed_bytes(const struct chunk *chunk) {
    return CHUNK_HANDLE_BYTES + key_summary_reserved_bytes(&chunk->summary);
}

/* Puts the first record in, taking over the caller's pin; before anybody else sees the chunk. */
void chunk_complete(struct chunk *chunk, struct record *record);

/* One more slice has it, at that level: takes a reference. */
void chunk_own(struct chunk *chunk, int level);

/* The same for a slice that had another, unless by now it has no owner or another record. */
bool chunk_adopt(struct chunk *chunk, const struct record *record, int level)
    __attribute__((warn_unused_result));

/* A slice lets go of it. Bytes that became free: 0 if others have it still. */
uint64_t chunk_disown(struct chunk *chunk, int level);

/* An owner changed its level. */
void chunk_move_owner(struct chunk *chunk, int from, int to);

/* What a chunk is at one moment; the record is pinned and the caller's to unpin. */
struct chunk_view {
    struct record *record;
    uint64_t disk_bytes; /* of what is on disk; 0: nothing */
    bool shared;
    int finest_level; /* of its owners; PAGE_LEVEL_MIN without any */
    uint64_t used_ns;
};
struct chunk_view chunk_view(struct chunk *chunk);

/* The record as it is now, pinned; the caller unpins it. */
struct record *chunk_pin(struct chunk *chunk);

/* It is being read, or about to be. */
void chunk_use(struct chunk *chunk);

/* Puts a new record in place of the old, taking over the caller's pin: the old one's that was the
 * chunk's is the caller's then. False, and nothing is done, if the chunk has another by now, or an
 * owner has come that wants it finer. */
bool chunk_replace(struct chunk *chunk, struct record *old, struct record *record)
    __attribute__((warn_unused_result));

/* The record, pinned, if it is to be written to disk: not if it is there, or being written, or
 * absent. chunk_end_write() follows. */
struct record *chunk_begin_write(struct chunk *chunk);

/* tier NULL: it failed, and what was on disk before is there still. */
void chunk_end_write(struct chunk *chunk, const struct record *record, struct disk_tier *tier);

/* With the chunk locked, or before others see it: what of it is on disk from now on. */
void chunk_put_on_disk(struct chunk *chunk, struct chunk_on_disk on_disk);

/* Whether something of the chunk is on disk. */
bool chunk_is_on_disk(struct chunk *chunk);

/* Whether its bytes were on disk alone and are lost for good. */
bool chunk_is_lost(struct chunk *chunk);

/* Gives up the bytes in memory of what is on disk as it is. How many that frees. */
uint64_t chunk_drop_bytes(struct chunk *chunk);

/* STORE_OK if the bytes are there, STORE_WAIT if they are being loaded, STORE_MISS if they are
 * lost, or STORE_MORE with the absent record, pinned: chunk_end_load() follows. */
int chunk_begin_load(struct chunk *chunk, struct record **absent)
    __attribute__((warn_unused_result));

/* With the record that was loaded, or NULL and how it is: lost for good, or while the device fails.
 */
enum chunk_loss { CHUNK_NOT_LOST, CHUNK_LOST_FOR_NOW, CHUNK_LOST };
void chunk_end_load(struct chunk *chunk, struct record *absent, struct record *record,
                    enum chunk_loss loss);

/* Nobody is to have it, but what is on disk stays there. */
void chunk_leave_on_disk(struct chunk *chunk);

#endif
