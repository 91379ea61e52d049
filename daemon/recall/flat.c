#include "daemon/recall/flat.h"

#include "daemon/recall/kernels.h"

enum { BLOCK = 128 }; /* rows whose scores stand in the first cache */

static void score_block(const struct flat_query *query, const struct flat_rows *rows, size_t first,
                        size_t count, float scores[BLOCK]) {
    const struct vectors_format *format = query->format;
    const uint8_t *vectors = (const uint8_t *)rows->vectors + first * vectors_row_bytes(format);
    recall_kernels()->dots[format->dtype](query->unit, format->dim, vectors, count, scores);
    if (format->metric == KVQ_RETRIEVER_COSINE)
        for (size_t i = 0; i < count; i++)
            scores[i] *= rows->inverse_lengths[first + i];
}

/* Mostly none does: without a branch for each. */
static bool any_reaches(const float *scores, size_t count, float least) {
    unsigned reaching = 0;
    for (size_t i = 0; i < count; i++)
        reaching |= scores[i] >= least;
    return reaching != 0;
}

static void offer_block(const struct flat_query *query, uint64_t first_id, const float *scores,
                        size_t count, struct nearest *nearest) {
    for (size_t i = 0; i < count; i++) {
        struct kvq_retriever_hit hit = {first_id + i, scores[i]};
        if (nearest_would_keep(nearest, hit) &&
            (query->wanted == NULL || query->wanted(query->context, hit.id)))
            nearest_keep(nearest, hit);
    }
}

void flat_scan(const struct flat_query *query, const struct flat_rows *rows, size_t from,
               struct nearest *nearest) {
    float scores[BLOCK];
    for (size_t first = from; first < rows->count; first += BLOCK) {
        size_t count = rows->count - first < BLOCK ? rows->count - first : BLOCK;
        score_block(query, rows, first, count, scores);
        if (any_reaches(scores, count, nearest->least))
            offer_block(query, rows->first_id + first, scores, count, nearest);
    }
}
