#include "daemon/recall/nearest.h"

#include <stdlib.h>

static void rise(struct kvq_retriever_hit *hits, size_t at) {
    while (at > 0 && nearest_is_better(hits[(at - 1) / 2], hits[at])) {
        struct kvq_retriever_hit parent = hits[(at - 1) / 2];
        hits[(at - 1) / 2] = hits[at];
        hits[at] = parent;
        at = (at - 1) / 2;
    }
}

static size_t worse_child(const struct kvq_retriever_hit *hits, size_t count, size_t at) {
    size_t child = 2 * at + 1;
    if (child + 1 < count && nearest_is_better(hits[child], hits[child + 1]))
        child++;
    return child;
}

/* Puts the hit where the root was, and down to its place. */
static void replace_root(struct kvq_retriever_hit *hits, size_t count,
                         struct kvq_retriever_hit hit) {
    size_t at = 0, child;
    while ((child = worse_child(hits, count, at)) < count && nearest_is_better(hit, hits[child])) {
        hits[at] = hits[child];
        at = child;
    }
    hits[at] = hit;
}

void nearest_keep(struct nearest *nearest, struct kvq_retriever_hit hit) {
    if (nearest->count < nearest->k) {
        nearest->hits[nearest->count] = hit;
        rise(nearest->hits, nearest->count++);
    } else {
        replace_root(nearest->hits, nearest->count, hit);
    }
    if (nearest->count == nearest->k)
        nearest->least = nearest->hits[0].score;
}

static int best_first(const void *a, const void *b) {
    struct kvq_retriever_hit x = *(const struct kvq_retriever_hit *)a;
    struct kvq_retriever_hit y = *(const struct kvq_retriever_hit *)b;
    return nearest_is_better(y, x) - nearest_is_better(x, y);
}

void nearest_sort(struct nearest *nearest) {
    qsort(nearest->hits, nearest->count, sizeof *nearest->hits, best_first);
}
