/* A retriever's batches, by first id, and how they stay in place while they are read. */
#ifndef DAEMON_RECALL_RETRIEVER_BATCHES_H
#define DAEMON_RECALL_RETRIEVER_BATCHES_H

#include <pthread.h>

#include "daemon/recall/flat.h"
#include "daemon/recall/plugin_index.h"
#include "daemon/recall/retriever.h"

struct retriever_batch {
    struct retriever *retriever;
    void *batch; /* the caller's */
    struct flat_rows rows;
    struct plugin_rows given;
    size_t references; /* of the retriever's list, the plugin, and searches; with the lock */
    float inverse_lengths[];
};

struct retriever {
    struct retriever_options options;
    struct plugin_index *plugin_index; /* NULL: none */
    pthread_mutex_t lock;              /* a leaf: of what follows */
    struct retriever_batch **batches;
    size_t count, capacity;
    struct retriever_usage usage;
};

/* Lets go of a reference. */
void retriever_unref(struct retriever_batch *batch);

#endif
