/* The k best hits of all that are offered. */
#ifndef DAEMON_RECALL_NEAREST_H
#define DAEMON_RECALL_NEAREST_H

#include "daemon/recall/kvq_retriever.h"

/* A heap whose root is the worst of those kept. Hits are the caller's, room for k. */
struct nearest {
    struct kvq_retriever_hit *hits;
    size_t k, count;
    float least; /* what a score must reach: at first the least that is asked for */
};

/* Better is the higher score, or, of equal scores, the lower id. */
static inline bool nearest_is_better(struct kvq_retriever_hit a, struct kvq_retriever_hit b) {
    return a.score > b.score || (a.score == b.score && a.id < b.id);
}

/* Whether the hit would be kept: to be known before more is asked about it. */
static inline bool nearest_would_keep(const struct nearest *nearest, struct kvq_retriever_hit hit) {
    return hit.score >= nearest->least &&
           (nearest->count < nearest->k || nearest_is_better(hit, nearest->hits[0]));
}

/* Keeps a hit that nearest_would_keep(). */
void nearest_keep(struct nearest *nearest, struct kvq_retriever_hit hit);

/* Best first. Nothing is kept after that. */
void nearest_sort(struct nearest *nearest);

#endif
