/* The store: all sessions, by name, in shards that are each guarded by one mutex.
 *
 * Locks are held for look-ups and pointer swaps only, never while coding. Lock order: a shard
 * (never two), then the list of all sessions, their order, the models, the prefix index, the
 * blocks' or what is due, then the keeper's queue or the disk tier, then a chunk, a tail or an
 * attachment, then the pool, which the budget asks at the limit. All functions are safe from any
 * thread.
 */
#ifndef DAEMON_STORE_STORE_H
#define DAEMON_STORE_STORE_H

#include "daemon/store/ageing.h"
#include "daemon/store/block.h"
#include "daemon/store/disk_tier.h"
#include "daemon/store/error.h"
#include "daemon/store/keeper.h"
#include "daemon/store/models.h"
#include "daemon/store/pressure.h"
#include "daemon/store/session.h"
#include "daemon/store/takeover.h"

enum {
    STORE_SHARDS = 16,
    STORE_RAW_CHUNK_SHARE = 8, /* a raw chunk may be this part of the limit, no more */
};

/* Ids of chains are above those of all sessions. */
#define STORE_CHAIN_IDS (UINT64_C(1) << 63)

struct shard {
    pthread_mutex_t lock;
    struct session **buckets;
    size_t bucket_count, sessions;
};

struct store_disk_options {
    const char *directory; /* NULL: no disk */
    uint64_t limit_bytes;
    const char *key_file;     /* NULL: not encrypted */
    const struct disk_io *io; /* NULL: the system's */
};

/* Who searches batches of embeddings hears of each that a session has from now on, or no longer:
 * with the session locked, so it does not call back. */
struct store_batch_listener {
    void (*on_batch)(void *context, struct session *session, struct attachment *batch,
                     bool is_there);
    void *context;
};

struct store_options {
    uint64_t memory_bytes;
    uint64_t fixed_bytes; /* what the rest of the daemon holds: reserved first */
    int landing_level;    /* of pages that the keeper will bring to a coarser level later */
    size_t codec_threads; /* that the keeper codes with, at least 1 */
    uint32_t memory_high_percent, memory_low_percent; /* pressure.h */
    struct store_disk_options disk;
    int pool_file; /* of a pool to take over, that stays the caller's; 0: none */
    void (*on_progress)(void *context); /* memory was freed or the keeper got on; any thread */
    void *context;
    struct store_batch_listener batch_listener; /* or nothing */
};

struct store {
    struct budget budget;
    struct pool *pool;
    struct shard shards[STORE_SHARDS];
    _Atomic int landing_level;      /* may change at any time */
    _Atomic uint64_t version_clock; /* of all sessions: no version comes twice */

    struct list list;
    struct list chains; /* of blocks: sessions, but in no list of these */
    struct prefix_index prefixes;
    struct block_index blocks;
    struct coldness coldness;
    uint64_t coldness_ghosts[COLDNESS_GHOSTS];
    struct tenants tenants;
    struct usage usage;
    _Atomic uint64_t fixed_bytes; /* reserved for no session in particular */
    struct pressure pressure;     /* with marks that may change at any time */
    struct keeper keeper;
    struct ageing ageing;
    struct disk_tier disk;
    struct store_batch_listener batch_listener;
    struct takeover_report taken; /* once the store is there it does not change */
};

/* 0, or -1, logged. What is on disk becomes sessions again in the background: until then
 * store_is_recovering(), and none is to be looked up. deinit, also after a failed init, expects
 * that no call is under way. */
int store_init(struct store *store, const struct store_options *options)
    __attribute__((warn_unused_result));
void store_deinit(struct store *store);

/* Before store_deinit(), of a store that is there: leaves what is in memory ready in the pool, for
 * another daemon to take over. 0 or -1, logged. */
int store_hand_over(struct store *store);

bool store_is_recovering(struct store *store);

enum store_open_mode { STORE_OPEN_OR_CREATE, STORE_OPEN_EXISTING, STORE_OPEN_NEW };

/* Of a session or a model; of both together with whose they are. */
struct store_name {
    const char *text;
    size_t bytes;
    struct tenant *tenant; /* NULL: the default */
};

struct store_open {
    struct store_name session, model; /* an empty model is not compared */
    const struct geometry *geometry;  /* NULL: that of the session, which must exist */
    struct session_policy policy;
    enum session_sharing sharing;              /* of a session that is created */
    bool key_summaries;                        /* likewise */
    uint64_t first_position;                   /* likewise */
    const enum session_durability *durability; /* NULL: as it is, or in memory */
    enum store_open_mode mode;
};

static inline struct store_name store_name_of(const struct session *session) {
    return (struct store_name){session->name, session->name_bytes, session->tenant};
}

/* STORE_OK, STORE_FULL, STORE_TOO_MANY, STORE_MISS, STORE_EXISTS, STORE_MODEL_MISMATCH or
 * STORE_UNSUPPORTED;
 * STORE_DISK if durability on disk is asked for and there is none. Of a new session what
 * disk_tier_admit() says of its name, too. */
int store_open(struct store *store, const struct store_open *request, struct session_state *state)
    __attribute__((warn_unused_result));

/* A reference to the session, the caller's, or NULL. */
struct session *store_find(struct store *store, struct store_name name)
    __attribute__((warn_unused_result));

/* STORE_OK, STORE_MISS, or STORE_FULL, with nothing done. When it returns STORE_OK, no fetch finds
 * a byte of the session; what it held is handed out, the caller's to free. */
int store_delete(struct store *store, struct store_name name, struct session_discard **discard)
    __attribute__((warn_unused_result));

/* Which sessions a deletion in bulk is about: all conditions hold. */
struct session_filter {
    struct store_name prefix, model; /* empty: any */
    uint64_t idle_ms, age_ms;        /* at least */
    bool pinned_too;
};

/* The same for a session that was found, if the filter (NULL: any) lets it through; else, or if
 * somebody else has deleted it, STORE_MISS. */
int store_delete_session(struct store *store, struct session *session,
                         const struct session_filter *filter, struct session_discard **discard)
    __attribute__((warn_unused_result));

/* The same for a session that is of this version, neither pinned nor appended to. */
int store_evict_session(struct store *store, struct session *session, uint64_t version,
                        struct session_discard **discard) __attribute__((warn_unused_result));

/* With the session locked: whether the filter lets it through. */
bool store_filter_passes(const struct session_filter *filter, const struct session *session);

/* STORE_OK, STORE_UNSUPPORTED if sessions of this shape and names do not fit the limit, or
 * STORE_FULL. */
int store_admit(struct store *store, const struct session_names *names,
                const struct geometry *geometry) __attribute__((warn_unused_result));

/* Puts a new session in, taking over the caller's reference and calling nobody: STORE_OK,
 * STORE_EXISTS, STORE_TOO_MANY, or, of one that is not on disk itself, what disk_tier_admit() says
 * of its name. state, as it then is, may be NULL. */
int store_insert(struct store *store, struct session *session, struct session_state *state)
    __attribute__((warn_unused_result));

/* The same in the place of a session of its name, if there is one: what that held is handed out,
 * as a delete does; else *replaced is NULL. STORE_FULL, too, with nothing done. */
int store_replace(struct store *store, struct session *session, struct session_state *state,
                  struct session_discard **replaced) __attribute__((warn_unused_result));

/* What is in use of the memory limit: what is reserved, without free memory that is kept warm. */
uint64_t store_used_bytes(struct store *store);

/* Between which the limit can be set while the store is in use. */
struct store_limits {
    uint64_t least_bytes, most_bytes;
};
struct store_limits store_limits(struct store *store);

/* The memory limit from now on; where more is in use, room is made. 0, or -1 if it is not
 * within store_limits(). */
int store_set_limit(struct store *store, uint64_t bytes) __attribute__((warn_unused_result));

/* What a store takes of it before there is a session. */
uint64_t store_empty_bytes(size_t codec_threads);

/* What the daemon itself takes of it, with the keeper's working space. */
uint64_t store_fixed_bytes(struct store *store);

/* The next version; called with the session's shard locked. */
uint64_t store_next_version(struct store *store);

#endif
