/* The disk tier: chunks, sessions and tails on their way to the disk and back, by its threads.
 *
 * Nobody waits here: a write or a load is begun, and when it has ended the store's on_progress is
 * called. What is on disk is known by keys: a chunk's id, a session's, and for rows of a tail an id
 * of their own out of the chunks'.
 */
#ifndef DAEMON_STORE_DISK_TIER_H
#define DAEMON_STORE_DISK_TIER_H

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/store/chunk.h"
#include "daemon/store/disk/disk.h"

enum disk_kind { DISK_CHUNK = 1, DISK_SESSION = 2, DISK_ATTACHMENT = 3, DISK_TAIL = 4 };

/* What found the disk full, as bits. */
enum disk_shortage { DISK_NOT_SHORT, DISK_SHORT_FOR_SPILLING, DISK_SHORT_FOR_SAVING };

/* Since the start. */
struct disk_tier_counts {
    _Atomic uint64_t written_chunks, written_chunk_bytes;
    _Atomic uint64_t failed_writes, broken_writes;  /* of values; those not for want of room */
    _Atomic uint64_t spilled_chunks, spilled_bytes; /* whose memory was given back */
    _Atomic uint64_t loaded_chunks, loaded_bytes, failed_loads;
    _Atomic uint64_t saves, failed_saves; /* of sessions */
    _Atomic uint64_t evicted_bytes;       /* of a full disk */
    _Atomic uint64_t spilling_bytes;      /* now: that will be free when they are written */
};

enum { DISK_TIER_DELETES = 256 };

struct keeper;
struct session_names;

struct disk_tier {
    _Atomic(struct disk *) disk; /* NULL: there is none, or not yet */
    void (*on_progress)(void *context);
    void *context;
    _Atomic(struct keeper *) keeper; /* is woken when the disk is full; NULL: it has ended */
    _Atomic int shortage;            /* enum disk_shortage: that nobody has seen to yet */
    _Atomic bool unrelieved;         /* it is full, and nothing there was to be evicted */
    _Atomic uint64_t chain_deletes;  /* of chains of blocks, that are not kept yet: nobody waits */
    _Atomic bool ending;             /* what goes away now is only freed, not forgotten */
    struct disk_tier_counts counts;
    pthread_mutex_t lock; /* for who waits: of recovery, and of jobs that are waited for */
    pthread_cond_t changed;
    uint64_t progress;       /* how often something ended */
    _Atomic bool recovering; /* what was there is not known yet: no session is looked up */
    uint64_t *left_out;      /* hashes of names, ascending: of sessions that were not taken */
    size_t left_out_count;
    struct disk_promise *deletes[DISK_TIER_DELETES]; /* that are not kept yet, by names' hashes */
};

/* Without a disk. */
void disk_tier_init(struct disk_tier *tier, struct keeper *keeper,
                    void (*on_progress)(void *context), void *context);
void disk_tier_deinit(struct disk_tier *tier);

static inline bool disk_tier_is_on(const struct disk_tier *tier) {
    return tier->disk != NULL;
}

/* Begins to write the chunk's record, unless it is on disk or on its way; with `drop` its memory is
 * given back then. Bytes that will be free, or are. */
uint64_t disk_tier_write_chunk(struct disk_tier *tier, struct chunk *chunk, bool drop);

/* Begins to load an absent chunk: STORE_WAIT until on_progress, STORE_OK if it is there by now,
 * STORE_FULL at the memory limit, STORE_MISS if it is lost. */
int disk_tier_load_chunk(struct disk_tier *tier, struct chunk *chunk,
                         const struct geometry *geometry) __attribute__((warn_unused_result));

/* Nobody has the chunk any more. */
void disk_tier_forget_chunk(struct disk_tier *tier, const struct chunk *chunk);

void disk_tier_forget(struct disk_tier *tier, enum disk_kind kind, uint64_t id);

/* Takes the array over: of sessions that recovery had no room for, and that are still on disk. */
void disk_tier_leave_out(struct disk_tier *tier, uint64_t *name_hashes, size_t count);

/* Whether a session of this name may be made anew, in memory alone: not while an older one could
 * come back in its place. STORE_OK; STORE_WAIT until on_progress, while its delete is on its way to
 * the disk; STORE_BUSY where that failed, which is tried again now; STORE_FULL if recovery had no
 * room for it. */
int disk_tier_admit(struct disk_tier *tier, const struct session_names *names)
    __attribute__((warn_unused_result));
/* A hash of the tenant's and the session's names. */
uint64_t disk_tier_hash_name(const struct disk_metadata *of);

/* A delete on its way to the disk, for who acknowledges it. */
struct disk_promise;

/* Begins the delete of a session, which is durable when the promise is kept; nobody is admitted to
 * its name before. NULL without memory. */
struct disk_promise *disk_tier_delete(struct disk_tier *tier, uint64_t session_id,
                                      uint64_t name_hash);

/* The same of all deletes that were begun before. */
struct disk_promise *disk_tier_sync(struct disk_tier *tier);

/* STORE_WAIT until on_progress, STORE_OK or STORE_DISK. */
int disk_promise_status(const struct disk_promise *promise);
void disk_promise_release(struct disk_promise *promise);

/* Gives a job to the disk, whose done() is called in any case. */
void disk_tier_submit(struct disk_tier *tier, struct disk_job *job);

/* Does a job at once: for threads that may wait. Its done and context are used for that. */
void disk_tier_do(struct disk_tier *tier, struct disk_job *job);

/* Something that was begun has ended. */
void disk_tier_tell_progress(struct disk_tier *tier);

/* For a thread that may wait: until something ends after `since`, which disk_tier_progress() gave
 * before it was begun. */
uint64_t disk_tier_progress(struct disk_tier *tier);
void disk_tier_await_progress(struct disk_tier *tier, uint64_t since, uint64_t most_ns);

/* A write found the disk full. */
void disk_tier_tell_shortage(struct disk_tier *tier, enum disk_shortage shortage);

/* A write of a chunk or attachment failed, with this status; it was to spill it, else save it. */
void disk_tier_tell_failure(struct disk_tier *tier, enum disk_status status, bool spilling);

#endif
