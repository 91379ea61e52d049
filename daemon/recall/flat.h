/* The exact index: every row of a batch is scored where it lies. */
#ifndef DAEMON_RECALL_FLAT_H
#define DAEMON_RECALL_FLAT_H

#include "daemon/recall/nearest.h"
#include "daemon/recall/vectors.h"

struct flat_rows {
    uint64_t first_id;
    const void *vectors;
    size_t count;
    const float *inverse_lengths; /* [count], under cosine */
};

struct flat_query {
    const struct vectors_format *format;
    const float *unit; /* as vectors_prepare_query() makes it */
    bool (*wanted)(void *context, uint64_t id);
    void *context;
};

/* Offers the rows from `from` on to nearest; `wanted` is asked of those that would be kept. */
void flat_scan(const struct flat_query *query, const struct flat_rows *rows, size_t from,
               struct nearest *nearest);

#endif
