/* The batches that sessions have, and a retriever for each kind of them.
 *
 * The listener may be on any thread, with a session locked: it only notes what changed. All else is
 * the thread's that searches, but for what says so.
 */
#ifndef DAEMON_RECALL_CATALOGUE_H
#define DAEMON_RECALL_CATALOGUE_H

#include <pthread.h>

#include "daemon/recall/retriever.h"
#include "daemon/store/batch_set.h"
#include "daemon/store/store.h"

struct catalogue_index {
    struct catalogue_index *next;
    struct batch_kind kind;
    struct retriever *retriever;
    size_t batches;
    const struct tenant *tenant;
    size_t model_bytes;
    char model[];
};

struct catalogue_batch {
    struct catalogue_batch *next, *next_changed;
    struct attachment *batch; /* owned reference */
    struct session **owners;  /* owned references */
    size_t owner_count, owner_capacity;
    bool is_changed;
    struct catalogue_index *index; /* that has it, or NULL; the searching thread's */
};

struct catalogue {
    pthread_mutex_t *lock; /* of the fields up to indexes; a leaf: nothing is locked under it */
    struct catalogue_batch **buckets;
    size_t bucket_count, batch_count;
    struct catalogue_batch *changed;
    bool is_closed;
    struct plugin *plugin;
    struct catalogue_index *indexes;
};

/* 0, or -1 without memory. */
int catalogue_init(struct catalogue *catalogue, pthread_mutex_t *lock, struct plugin *plugin)
    __attribute__((warn_unused_result));

/* The store tells of a batch. With the lock held; true if there is something to be applied. */
bool catalogue_note(struct catalogue *catalogue, struct session *session, struct attachment *batch,
                    bool is_there);

/* Brings a batch that was noted to the indexes, or out of them. With the lock held, which it lets
 * go of meanwhile; false if none is left. */
bool catalogue_apply(struct catalogue *catalogue);

/* Lets go of everything; what is noted from then on is not heeded. Any thread; no search is under
 * way. */
void catalogue_close(struct catalogue *catalogue);
void catalogue_deinit(struct catalogue *catalogue);

#endif
