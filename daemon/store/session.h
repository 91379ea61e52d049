/* A session: tokens 0..n of one sequence, as slices of chunks and a tail.
 *
 * Fields under "immutable" are set when the session is made; the rest is read and written with the
 * shard's lock held. A session lives while it is in its shard or somebody holds a reference.
 */
#ifndef DAEMON_STORE_SESSION_H
#define DAEMON_STORE_SESSION_H

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/store/attachment_set.h"
#include "daemon/store/batch_set.h"
#include "daemon/store/chunk.h"
#include "daemon/store/coldness.h"
#include "daemon/store/discard.h"
#include "daemon/store/due.h"
#include "daemon/store/list.h"
#include "daemon/store/session_point.h"
#include "daemon/store/session_policy.h"
#include "daemon/store/tenant.h"

struct disk_metadata;
struct manifest_hold;
struct known_model;

/* Whether a session takes chunks of others for its own, of the same token ids, and offers it them:
 * as soon as they are the same tokens, or only where the coded bytes are the same, too. What is
 * exact is shared by its bytes in any case. */
enum session_sharing { SESSION_SHARES_NOTHING, SESSION_SHARES_IDS, SESSION_SHARES_BYTES };

/* What truncations and evictions did, for fetches under way: how many, to how many tokens the last
 * of them, and to how many at least. */
struct session_cuts {
    uint64_t count, last_tokens, least_tokens;
};

/* When an append or a delete is acknowledged. */
enum session_durability {
    SESSION_IN_MEMORY,
    SESSION_ON_DISK, /* when it would outlast a loss of power, too */
};

/* Rows of a tail that are a value of their own on disk, behind those of the piece before. */
struct tail_piece {
    uint64_t id;
    uint32_t rows;
};

/* What of the session is on disk. */
struct session_saved {
    bool under_way;
    bool any;                     /* a manifest was written, if in vain: it may be in a file */
    int floor;                    /* the finest that such a manifest has */
    struct session_point point;   /* of the manifest that is there; 0: none */
    uint64_t tokens;              /* that it has */
    uint64_t cuts;                /* how many that manifest knows of */
    uint64_t removed_attachments; /* likewise */
    uint64_t used_ns;             /* when it was last used, by that manifest */
    struct session_point failed;  /* that could not be saved */
    struct manifest_hold *holds;  /* owned: what that manifest names and the session has no more */
    uint64_t trying_since_ns;     /* while the disk was full; 0: it was not */
    uint64_t tail_first;          /* the session's token at which the pieces begin */
    struct tail_piece *pieces;
    size_t piece_count;
    struct chunk *coded_tail; /* a reference to what it has the tail in, if it does: the session may
                               * have another by now */
};

struct session {
    /* immutable */
    _Atomic unsigned references;
    struct budget *budget;
    struct usage *usage;
    struct tenant *tenant;
    struct charge charge; /* of one session; a chain has none */
    uint64_t id, created_ns;
    char *name, *model;
    size_t name_bytes, model_bytes;
    struct geometry geometry;
    uint32_t page_tokens;
    enum session_sharing sharing;
    bool key_summaries;      /* its chunks have one each */
    uint64_t first_position; /* of its first token in the sequence: from 0 on there are sinks */
    pthread_mutex_t *lock;   /* the shard's */

    struct session *next_in_bucket;     /* the store's */
    struct list_link by_id[LIST_LANES]; /* the lists', as are the next */
    struct list_link by_tenant[LIST_LANES];
    bool listed;
    struct coldness_link coldness[COLDNESS_LANES]; /* the orders' */
    struct known_model *known_model;               /* its place among the store's, or NULL */

    struct session_policy policy;
    uint64_t version, tokens;
    uint64_t changes;     /* as session_point() has them */
    uint64_t lost_tokens; /* behind those, evicted since it was last appended to */
    struct slice *slices;
    size_t slice_count, slice_capacity;
    struct tail *tail; /* owned by the session, too; NULL with no tail tokens, or coded ones */
    struct slice coded_tail; /* what has the tail's tokens in its place; without a chunk: nothing */
    uint32_t tail_tokens;
    uint32_t counted_tail_tokens;       /* in the store's sums: those that are not coded */
    struct attachment_set *attachments; /* owned; NULL: none */
    uint64_t removed_attachments;       /* times that some were deleted or replaced, or entries */
    struct batch_ref *batches;          /* owned; embeddings of its tokens */
    uint64_t entries, batch_refs_bytes; /* of these: rows, and what having them takes */
    uint64_t batch_changes;             /* how often they were others than before */
    struct prefix_place prefix;
    struct block *newest_block; /* of a chain, in the block index */
    bool appending, deleted;
    unsigned indexing;    /* puts of entries under way: they hold it as an append does */
    struct append *joint; /* the append under way, while others may join it */
    uint64_t used_ns, pinned_until_ns;
    uint64_t aged_ns;       /* idle steps up to then were taken */
    uint64_t tail_retry_ns; /* its tail, as it is, is not coded before */
    struct session_cuts cuts;
    int aged_to; /* no slice is finer than this floor: pressure has seen to it */
    enum session_durability durability;
    struct session_saved saved;
    struct session_discard *discard; /* takes what it holds when it is deleted */

    struct due_link due; /* ageing's, under a lock of its own */

    /* the keeper's, under its own lock */
    struct session *next_in_queue;
    bool queued;
    uint64_t asked, done; /* how often the keeper was asked to look at it, and up to which it has */
};

/* A chain of blocks is a session that no client can name: see block.h. */
enum { SESSION_CHAIN_MARK = 1 };

static inline bool session_is_chain(const struct session *session) {
    return session->name[0] == SESSION_CHAIN_MARK;
}

/* What a session is at one moment. */
struct session_state {
    uint64_t version, tokens, lost_tokens;
    uint32_t tail_tokens, page_tokens;
    struct session_policy policy;
    enum session_sharing sharing;
    enum session_durability durability;
    bool key_summaries, created;
    struct geometry geometry;
    char model[256];
    size_t model_bytes;
};

/* With the session locked. */
static inline struct session_point session_point(const struct session *session) {
    return (struct session_point){session->version, session->changes};
}

/* With the session locked. */
void session_read_state(const struct session *session, struct session_state *state);

/* With the session locked: neither tokens nor attachments. */
static inline bool session_is_empty(const struct session *session) {
    return session->tokens == 0 && attachment_set_count(session->attachments) == 0;
}

/* What the session takes of the budget beside its chunks and tail. */
uint64_t session_own_bytes(const struct session *session);

struct session_names {
    struct tenant *tenant;
    const char *session, *model;
    size_t session_bytes, model_bytes;
};

/* A session without tokens, in no shard. NULL at the memory limit. The strings are copied. */
struct session *session_new(struct budget *budget, struct usage *usage,
                            const struct session_names *names, const struct geometry *geometry,
                            const struct session_policy *policy);
void session_ref(struct session *session);
void session_unref(struct session *session);

/* Makes room for so many more slices. STORE_OK or STORE_FULL. */
int session_reserve_slices(struct session *session, size_t more)
    __attribute__((warn_unused_result));

/* With the session locked: counts it among the store's, or with -1 no longer. */
void session_count(struct session *session, int sign);

/* With the session locked: its length is now this, in the store's sums, too. */
void session_set_length(struct session *session, uint64_t tokens, uint32_t tail_tokens);

/* With the session locked: what is behind so many tokens is gone, which fetches under way heed. */
void session_note_cut(struct session *session, uint64_t tokens);

/* With the session locked: it was used just now, to be read (again) or to be written. */
void session_use(struct session *session, bool to_read);

/* With the session locked: an append to it goes on, ends or waits for room, which however long it
 * takes is no pause of its client's. */
void session_stay_in_use(struct session *session);

/* With the session locked: its tail was coded, or is no longer: counts it so. */
void session_count_tail(struct session *session);

/* With the session locked: it is deleted; all that it holds is handed out, the caller's to free. */
struct session_discard *session_detach(struct session *session) __attribute__((warn_unused_result));

/* What records of this session's chunks say of themselves. */
struct record_spec session_spec(const struct session *session, uint64_t first_token,
                                uint32_t tokens, int level);

/* What other values of it on disk say of themselves. */
struct disk_metadata session_metadata(const struct session *session, uint64_t tokens);

/* Where a page of its tokens is coded from: all but the values, the level and the layer. */
struct page_source session_source(const struct session *session, uint64_t first_token,
                                  uint32_t tokens, enum page_part part);

/* With the session locked: no slice may become coarser than this, its policy's floor, until a
 * manifest on disk has a floor as coarse. */
int session_coarsest_level(const struct session *session);

/* With the session locked: the level that its policy has for a slice at this time. */
int session_slice_level(const struct session *session, const struct slice *slice, uint64_t now_ns);

/* With the session locked: its slice is at this level from now on, unless it is coarser already. */
void session_age_slice(struct slice *slice, int level);

/* The slice that holds a token, or NULL where that is the tail or beyond. */
struct slice *session_find_slice(const struct session *session, uint64_t token);

#endif
