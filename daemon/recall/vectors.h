/* Embeddings side by side: what is accepted, and how near two are. */
#ifndef DAEMON_RECALL_VECTORS_H
#define DAEMON_RECALL_VECTORS_H

#include "daemon/recall/kvq_retriever.h"

enum { VECTORS_DIM_MOST = 4096 };

struct vectors_format {
    uint32_t dim;
    enum kvq_retriever_dtype dtype;
    enum kvq_retriever_metric metric;
};

static inline size_t vectors_row_bytes(const struct vectors_format *format) {
    return (size_t)format->dim * (format->dtype == KVQ_RETRIEVER_F32 ? 4 : 2);
}

enum vectors_fault {
    VECTORS_FINE,
    VECTORS_WRONG_FORMAT, /* no such dimension, type or metric */
    VECTORS_NOT_FINITE,   /* a NaN or an infinity */
    VECTORS_TOO_LONG,     /* of length 2^60 or more: scores would be infinite */
    VECTORS_ZERO,         /* under cosine: of length 0, or below 2^-60 */
};

/* A sentence's end: "holds a NaN or an infinity". */
const char *vectors_fault_text(enum vectors_fault fault);

/* Of a query: float32, whatever the rows are. */
enum vectors_fault vectors_check_query(const struct vectors_format *format, const float *query);

/* A query as scores take it: under cosine scaled to length 1. unit[dim] may be query. */
void vectors_prepare_query(const struct vectors_format *format, const float *query, float *unit);

/* Of each row 1 / its length: what a dot product is multiplied with under cosine. */
void vectors_inverse_lengths(const struct vectors_format *format, const void *vectors, size_t count,
                             float *inverse_lengths);

/* How near a row is to a prepared query. The same bits as the exact index finds, as long as both
 * use the same kernels (kernels.h says how far these may differ). */
float vectors_score(const struct vectors_format *format, const float *unit, const void *row);

#endif
