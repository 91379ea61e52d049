/* Recall: which entries of a model's sessions are nearest to a query.
 *
 * A catalogue has all batches that sessions have, by model, dimension, type and metric, and a
 * retriever for each of these; the store tells of batches as they come and go. Searches are made on
 * a thread of recall's own, one behind the other, and what the retriever answers is looked at again
 * in the session before it is a hit: so an entry that is gone, or another model's, is none. What
 * was put is found by every search that is asked for later.
 */
#ifndef DAEMON_RECALL_RECALL_H
#define DAEMON_RECALL_RECALL_H

#include "daemon/store/batch_set.h"
#include "daemon/store/store.h"

struct plugin;
struct recall;
struct recall_search;

enum { RECALL_K_MAX = 512 };

struct recall_options {
    struct plugin *plugin;          /* NULL: none */
    void (*on_done)(void *context); /* a search has ended; from recall's thread */
    void *context;
};

/* NULL without memory or threads. */
struct recall *recall_new(const struct recall_options *options);

/* The store's, to be told of batches. */
struct store_batch_listener recall_listener(struct recall *recall);

/* Ends its thread and lets go of all sessions and batches; what it is told later it does not heed.
 * No search is under way. */
void recall_stop(struct recall *recall);
void recall_free(struct recall *recall);

/* Since the start. */
struct recall_stats {
    uint64_t recalls, hits, total_us, max_us;
};
struct recall_stats recall_stats(struct recall *recall);

/* All that is given must hold of an entry. */
struct recall_query {
    struct store_name model;
    struct session **sessions; /* references, the search's from then on; NULL: the model's all */
    size_t session_count;
    const float *vector; /* [dim] */
    uint32_t dim;
    enum batch_metric metric;
    size_t k;        /* 1 .. RECALL_K_MAX */
    float min_score; /* -INFINITY: none */
    struct store_name label;
    uint64_t first, end;   /* a token of it is among these */
    uint64_t least_put_us; /* since 1970 */
    bool merge; /* ranges of a session that overlap or touch are one, with the best's score */
};

/* A range of a session's tokens. */
struct recall_hit {
    struct session *session; /* owned reference */
    uint64_t version, first, tokens, put_us;
    uint64_t cuts; /* the session's then: while it has no more, the tokens are the same */
    float score;
    int level; /* the coarsest of its tokens' levels */
    uint64_t bytes;
    char *label; /* owned; the metadata is behind it */
    size_t label_bytes, metadata_bytes;
};

/* What is wrong with the query's vector, or NULL. */
const char *recall_vector_fault(const struct recall_query *query);

/* Asks for a search. What is the caller's of the query is copied; the sessions are taken in any
 * case. NULL without memory. */
struct recall_search *recall_begin(struct recall *recall, const struct recall_query *query);

/* STORE_WAIT until on_done; STORE_OK with hits, best first, the search's; STORE_INVALID if there
 * are entries in scope, but all of another dimension or metric; STORE_FULL without memory. */
int recall_result(struct recall_search *search, const struct recall_hit **hits, size_t *count);

/* Whether it has ended or not. */
void recall_end(struct recall_search *search);

#endif
