/* All embeddings of one model, dimension, type and metric: found by a plugin where there is one
 * that answers well, else by the exact index.
 *
 * Rows come in batches: vectors side by side that stay in place, with consecutive ids that are
 * never given again. The exact index knows all of them at all times, and copies none; a plugin is
 * given them in the background, a few at a time, and until it has a row that is looked at exactly.
 * So what was added is found, and what was removed is not, from the moment the call returns.
 *
 * Safe from any thread. retriever_add() and retriever_remove() do not wait for a search or a
 * plugin; retriever_search() takes as long as it takes to read all vectors in scope: not for a
 * reactor.
 */
#ifndef DAEMON_RECALL_RETRIEVER_H
#define DAEMON_RECALL_RETRIEVER_H

#include "daemon/recall/vectors.h"

struct retriever;
struct plugin;

enum { RETRIEVER_K_MOST = 4096 };

struct retriever_options {
    struct vectors_format format;
    struct plugin *plugin; /* plugin.h; NULL: none */
    const char *name;      /* for the plugin: whose embeddings they are, from run to run */
    size_t name_bytes;
    /* The batch's vectors are not read any more: after retriever_remove(), in that call or later,
     * on another thread. Must not call the retriever. */
    void (*released)(void *context, void *batch);
    void *context;
};

/* NULL without memory. */
struct retriever *retriever_new(const struct retriever_options *options);

/* Removes what is left. No other call may be under way. */
void retriever_free(struct retriever *retriever);

/* What the retriever itself takes for a batch of so many rows. */
size_t retriever_batch_bytes(const struct vectors_format *format, size_t count);

/* A batch with ids first_id .. first_id + count - 1; `batch` is the caller's name for it, and
 * pinned by him until it is released. -1 without memory. */
int retriever_add(struct retriever *retriever, void *batch, uint64_t first_id, const void *vectors,
                  size_t count) __attribute__((warn_unused_result));

/* The whole batch with that first id; nothing if there is none. */
void retriever_remove(struct retriever *retriever, uint64_t first_id);

struct retriever_query {
    const float *vector; /* [dim], as vectors_check_query() accepts it */
    size_t k;            /* 1 .. RETRIEVER_K_MOST */
    float min_score;     /* -INFINITY: none */
    /* Which batches are in scope (NULL: all): the others are not read at all. */
    bool (*batch_wanted)(void *context, void *batch);
    /* Whether a row of a batch in scope may be a hit (NULL: all): asked of those that would be.
     * Both are called while the batch is pinned, on any thread but one at a time, and not after
     * the search has returned. */
    bool (*row_wanted)(void *context, void *batch, size_t row);
    void *context;
};

/* Writes the best k to hits[k], best first, of equal scores the lower id, and returns how many. A
 * hit may be removed by others before the caller looks at it. -1 without memory. */
ptrdiff_t retriever_search(struct retriever *retriever, const struct retriever_query *query,
                           struct kvq_retriever_hit *hits) __attribute__((warn_unused_result));

struct retriever_usage {
    uint64_t rows, bytes; /* bytes: the retriever's own, without the vectors */
    uint64_t plugin_rows, plugin_bytes;
};

struct retriever_usage retriever_usage(struct retriever *retriever);

#endif
