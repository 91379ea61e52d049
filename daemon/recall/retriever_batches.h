/* A retriever's batches, by first id, and how they stay in place while they are read. */
#ifndef DAEMON_RECALL_RETRIEVER_BATCHES_H
#define DAEMON_RECALL_RETRIEVER_BATCHES_H

#include <pthread.h>

#include "daemon/recall/flat.h"
#include "daemon/recall/retriever.h"

struct retriever_batch {
    struct retriever *retriever;
    void *batch; /* the caller's */
    struct flat_rows rows;
    size_t references; /* of the retriever's list, and of who reads it; with the lock */
    float inverse_lengths[];
};

struct retriever {
    struct retriever_options options;
    pthread_mutex_t lock; /* a leaf: of what follows */
    struct retriever_batch **batches;
    size_t count, capacity;
    struct retriever_usage usage;
};

/* Lets go of a reference. */
void retriever_unref(struct retriever_batch *batch);

/* The place of the first batch whose rows do not all have lower ids. */
size_t retriever_place(struct retriever_batch *const *batches, size_t count, uint64_t id);

#endif
