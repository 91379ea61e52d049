/* A search: what is in scope is pinned, looked at, and let go. */
#include "daemon/recall/retriever_batches.h"

#include <stdlib.h>
#include <string.h>

struct scope {
    const struct retriever_query *query;
    struct retriever_batch **batches; /* by first id, a reference to each */
    size_t count;
};

static bool pin_all(struct retriever *retriever, struct scope *scope) {
    pthread_mutex_lock(&retriever->lock);
    scope->count = retriever->count;
    scope->batches = malloc((scope->count + 1) * sizeof(void *));
    if (scope->batches && scope->count > 0)
        memcpy(scope->batches, retriever->batches, scope->count * sizeof(void *));
    for (size_t i = 0; scope->batches && i < scope->count; i++)
        scope->batches[i]->references++;
    pthread_mutex_unlock(&retriever->lock);
    return scope->batches != NULL;
}

/* Lets go of what nobody asked for. */
static void narrow(struct scope *scope) {
    const struct retriever_query *query = scope->query;
    size_t kept = 0;
    for (size_t i = 0; i < scope->count; i++) {
        struct retriever_batch *batch = scope->batches[i];
        if (!query->batch_wanted || query->batch_wanted(query->context, batch->batch))
            scope->batches[kept++] = batch;
        else
            retriever_unref(batch);
    }
    scope->count = kept;
}

static void unpin(struct scope *scope) {
    for (size_t i = 0; i < scope->count; i++)
        retriever_unref(scope->batches[i]);
    free(scope->batches);
}

static bool row_wanted(void *context, uint64_t id) {
    const struct scope *scope = context;
    const struct retriever_query *query = scope->query;
    const struct retriever_batch *batch =
        scope->batches[retriever_place(scope->batches, scope->count, id)];
    return !query->row_wanted ||
           query->row_wanted(query->context, batch->batch, (size_t)(id - batch->rows.first_id));
}

ptrdiff_t retriever_search(struct retriever *retriever, const struct retriever_query *query,
                           struct kvq_retriever_hit *hits) {
    const struct vectors_format *format = &retriever->options.format;
    float unit[VECTORS_DIM_MOST];
    struct scope scope = {.query = query};
    struct flat_query exact = {format, unit, row_wanted, &scope};
    struct nearest nearest = {.hits = hits, .k = query->k, .least = query->min_score};
    if (!pin_all(retriever, &scope))
        return -1;
    narrow(&scope);
    vectors_prepare_query(format, query->vector, unit);
    for (size_t i = 0; i < scope.count; i++)
        flat_scan(&exact, &scope.batches[i]->rows, 0, &nearest);
    unpin(&scope);
    nearest_sort(&nearest);
    return (ptrdiff_t)nearest.count;
}
