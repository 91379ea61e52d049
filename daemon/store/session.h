/* A session: tokens 0..n of one sequence, as slices of chunks and a tail.
 *
 * Fields under "immutable" are set when the session is made; the rest is read and written with the
 * shard's lock held. A session lives while it is in its shard or somebody holds a reference.
 */
#ifndef DAEMON_STORE_SESSION_H
#define DAEMON_STORE_SESSION_H

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/store/chunk.h"
#include "daemon/store/tail.h"

struct slice {
    struct chunk *chunk;    /* owned reference */
    uint64_t start;         /* the session's token that is the slice's first */
    uint32_t first, tokens; /* within the chunk */
};

struct session {
    /* immutable */
    _Atomic unsigned references;
    struct budget *budget;
    uint64_t id;
    char *name, *model;
    size_t name_bytes, model_bytes;
    struct geometry geometry;
    uint32_t page_tokens;
    int level;
    pthread_mutex_t *lock; /* the shard's */

    struct session *next_in_bucket, *next_by_id, *previous_by_id; /* the store's */
    bool listed;                                                  /* and whether they hold */

    uint64_t version, tokens;
    struct slice *slices;
    size_t slice_count, slice_capacity;
    struct tail *tail; /* owned reference; NULL with no tail tokens */
    uint32_t tail_tokens;
    bool appending, deleted;

    /* the keeper's, under its own lock */
    struct session *next_in_queue;
    bool queued;
};

/* What a session is at one moment. */
struct session_state {
    uint64_t version, tokens;
    uint32_t tail_tokens, page_tokens;
    int level;
    bool created;
    struct geometry geometry;
    char model[256];
    size_t model_bytes;
};

/* With the session locked. */
void session_read_state(const struct session *session, struct session_state *state);

/* What the session takes of the budget beside its chunks and tail. */
uint64_t session_own_bytes(const struct session *session);

/* NULL at the memory limit. The strings are copied. */
struct session *session_new(struct budget *budget, const char *name, size_t name_bytes,
                            const char *model, size_t model_bytes, const struct geometry *geometry);
void session_ref(struct session *session);
void session_unref(struct session *session);

/* Makes room for so many more slices. STORE_OK or STORE_FULL. */
int session_reserve_slices(struct session *session, size_t more)
    __attribute__((warn_unused_result));

/* What a session held, taken out of it. */
struct session_contents {
    struct slice *slices;
    size_t slice_count, slice_capacity;
    struct tail *tail;
};

/* With the session locked: leaves it without slices and tail. */
struct session_contents session_detach(struct session *session);

/* Bytes that no reader has pinned are free at once. No lock is needed. */
void session_drop(struct budget *budget, struct session_contents *contents);

/* The slice that holds a token, or NULL where that is the tail or beyond. */
struct slice *session_find_slice(const struct session *session, uint64_t token);

#endif
