/* The recovery's own: what its parts share, and what each of them does. */
#ifndef DAEMON_STORE_RECOVERY_STATE_H
#define DAEMON_STORE_RECOVERY_STATE_H

#include "daemon/store/recovery.h"
#include "daemon/store/store.h"

/* A value that the scan has found, by kind and id. */
struct found {
    uint64_t id, bytes;
    uint64_t owner;     /* a hash of its tenant and model */
    uint64_t name_hash; /* of its session's */
    uint8_t kind;
    bool doubtful, used;
    struct chunk *chunk;           /* once a session has it: a reference of the recovery's */
    struct attachment *attachment; /* likewise */
};

struct recovery {
    struct store *store;
    struct takeover *takeover; /* or NULL */
    bool may_begin;            /* to make sessions; with the disk tier's lock */
    struct found *found;
    size_t count, capacity;
    bool is_incomplete; /* there was no memory for all that is there, or the device failed */
    bool for_now;       /* what the session at hand lacks is there another time: there is no memory
                         * for it, or the device fails */
    uint64_t *left_out; /* hashes of the names of sessions that were not taken for that: nothing is
                         * forgotten */
    size_t left_out_count, left_out_capacity;
    /* what came of it */
    uint64_t sessions, tokens, bytes, damaged, cut_sessions;
};

/* --- what the scan found: recovery_found.c --- */

/* All is found: by kind and id from here on. No number of what there is is given again. */
void recovery_order_found(struct recovery *recovery);

/* What the session has under that id: not if it is another tenant's or model's. */
struct found *recovery_find(struct recovery *recovery, const struct session *session,
                            enum disk_kind kind, uint64_t id);

/* Reads so many parts of a value from the first on into memory. 0 or -1. */
int recovery_read(struct recovery *recovery, const struct found *found, uint32_t parts,
                  void *memory, size_t capacity, size_t *bytes) __attribute__((warn_unused_result));

/* The chunk of that id, if it is on disk. */
struct chunk *recovery_chunk_of(struct recovery *recovery, const struct session *session,
                                uint64_t id);

/* Without its bytes, which are loaded when somebody wants them. NULL at the memory limit. */
struct attachment *recovery_attachment_of(struct recovery *recovery, const struct session *session,
                                          struct found *found, const struct attachment_spec *spec);

/* The batch of that number, its bytes in memory. NULL if it is not there, is damaged, or, for now,
 * there is no memory for it. */
struct attachment *recovery_batch_of(struct recovery *recovery, const struct session *session,
                                     const struct attachment_spec *spec);

/* What no session has is of no use to anybody, unless that session was not taken. */
void recovery_forget_rest(struct recovery *recovery);

/* --- what came out of a pool: recovery_taken.c --- */

/* What the pool says of the disk holds where that was found. */
void recovery_settle_taken(struct recovery *recovery);

#endif
