/* A search: what is in scope is pinned, looked at, and let go. */
#include "daemon/recall/retriever_batches.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The exact index takes as long as the plugin for about so many bytes of vectors; and a plugin that
 * is asked for a small part of its rows finds little or takes long. */
enum { PLUGIN_BYTES_LEAST = 4 << 20, PLUGIN_SHARE_LEAST = 8 };

struct pinned {
    struct retriever_batch *batch; /* with a reference */
    size_t known;                  /* so many of its rows the plugin has */
};

struct scope {
    const struct retriever *retriever;
    const struct retriever_query *query;
    const float *unit;
    struct pinned *pinned; /* by first id */
    size_t count, all_rows;
};

static bool pin_all(struct retriever *retriever, struct scope *scope) {
    pthread_mutex_lock(&retriever->lock);
    scope->count = retriever->count;
    scope->all_rows = retriever->usage.rows;
    scope->pinned = calloc(scope->count + 1, sizeof *scope->pinned);
    for (size_t i = 0; scope->pinned && i < scope->count; i++) {
        scope->pinned[i].batch = retriever->batches[i];
        retriever->batches[i]->references++;
    }
    pthread_mutex_unlock(&retriever->lock);
    return scope->pinned != NULL;
}

/* Lets go of what nobody asked for. */
static void narrow(struct scope *scope) {
    const struct retriever_query *query = scope->query;
    size_t kept = 0;
    for (size_t i = 0; i < scope->count; i++) {
        struct retriever_batch *batch = scope->pinned[i].batch;
        if (!query->batch_wanted || query->batch_wanted(query->context, batch->batch))
            scope->pinned[kept++].batch = batch;
        else
            retriever_unref(batch);
    }
    scope->count = kept;
}

static void unpin(struct scope *scope) {
    for (size_t i = 0; i < scope->count; i++)
        retriever_unref(scope->pinned[i].batch);
    free(scope->pinned);
}

/* The batch in scope that has the id, or NULL. */
static const struct pinned *find(const struct scope *scope, uint64_t id) {
    size_t low = 0, high = scope->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct flat_rows *rows = &scope->pinned[middle].batch->rows;
        if (id < rows->first_id)
            high = middle;
        else if (id - rows->first_id < rows->count)
            return &scope->pinned[middle];
        else
            low = middle + 1;
    }
    return NULL;
}

static bool row_wanted(void *context, uint64_t id) {
    const struct scope *scope = context;
    const struct retriever_query *query = scope->query;
    const struct retriever_batch *batch = find(scope, id)->batch;
    return !query->row_wanted ||
           query->row_wanted(query->context, batch->batch, (size_t)(id - batch->rows.first_id));
}

static void scan(struct scope *scope, struct nearest *nearest) {
    struct flat_query exact = {&scope->retriever->options.format, scope->unit, row_wanted, scope};
    for (size_t i = 0; i < scope->count; i++)
        flat_scan(&exact, &scope->pinned[i].batch->rows, scope->pinned[i].known, nearest);
}

/* --- with a plugin --- */

static bool row_known_and_wanted(void *context, uint64_t id) {
    const struct pinned *pinned = find(context, id);
    return pinned && id - pinned->batch->rows.first_id < pinned->known && row_wanted(context, id);
}

/* Whether the plugin is to be asked. */
static bool note_known(struct scope *scope) {
    const struct vectors_format *format = &scope->retriever->options.format;
    size_t known = 0;
    for (size_t i = 0; i < scope->count; i++) {
        struct pinned *pinned = &scope->pinned[i];
        pinned->known = plugin_index_known(scope->retriever->plugin_index, &pinned->batch->given);
        known += pinned->known;
    }
    return known * vectors_row_bytes(format) >= PLUGIN_BYTES_LEAST &&
           known >= scope->all_rows / PLUGIN_SHARE_LEAST;
}

static void forget_known(struct scope *scope) {
    for (size_t i = 0; i < scope->count; i++)
        scope->pinned[i].known = 0;
}

static float score(const struct scope *scope, uint64_t id) {
    const struct vectors_format *format = &scope->retriever->options.format;
    const struct flat_rows *rows = &find(scope, id)->batch->rows;
    size_t offset = (size_t)(id - rows->first_id) * vectors_row_bytes(format);
    return vectors_score(format, scope->unit, (const char *)rows->vectors + offset);
}

/* Keeps those of the hits that may be, with their true scores. */
static void keep_true(struct scope *scope, struct nearest *answer, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct kvq_retriever_hit hit = answer->hits[i];
        if (isnan(hit.score) || !row_known_and_wanted(scope, hit.id))
            continue;
        hit.score = score(scope, hit.id);
        answer->hits[answer->count++] = hit;
    }
}

/* Keeps each of sorted hits once: those that are the same stand side by side. */
static void keep_once(struct nearest *answer) {
    size_t kept = 0;
    for (size_t i = 0; i < answer->count; i++)
        if (kept == 0 || answer->hits[i].id != answer->hits[kept - 1].id)
            answer->hits[kept++] = answer->hits[i];
    answer->count = kept;
}

static void offer(struct nearest *nearest, const struct nearest *answer) {
    for (size_t i = 0; i < answer->count; i++)
        if (nearest_would_keep(nearest, answer->hits[i]))
            nearest_keep(nearest, answer->hits[i]);
}

/* Offers the plugin's answer to nearest; false if there is none, or if it has faults. */
static bool ask_plugin(struct scope *scope, struct nearest *nearest) {
    struct plugin_index *index = scope->retriever->plugin_index;
    struct kvq_retriever_query query = {.size = sizeof query,
                                        .vector = scope->unit,
                                        .k = nearest->k,
                                        .wanted = row_known_and_wanted,
                                        .context = scope};
    struct nearest answer = {.hits = calloc(nearest->k, sizeof *answer.hits), .k = nearest->k};
    ptrdiff_t count = answer.hits ? plugin_index_search(index, &query, answer.hits) : -1;
    bool good = count >= 0;
    if (good) {
        keep_true(scope, &answer, (size_t)count < answer.k ? (size_t)count : answer.k);
        nearest_sort(&answer);
        keep_once(&answer);
        good = answer.count == (size_t)count;
        plugin_index_judge(index, (size_t)count - answer.count);
    }
    if (good)
        offer(nearest, &answer);
    free(answer.hits);
    return good;
}

ptrdiff_t retriever_search(struct retriever *retriever, const struct retriever_query *query,
                           struct kvq_retriever_hit *hits) {
    float unit[VECTORS_DIM_MOST];
    struct scope scope = {.retriever = retriever, .query = query, .unit = unit};
    struct nearest nearest = {.hits = hits, .k = query->k, .least = query->min_score};
    if (!pin_all(retriever, &scope))
        return -1;
    narrow(&scope);
    vectors_prepare_query(&retriever->options.format, query->vector, unit);
    if (retriever->plugin_index && !(note_known(&scope) && ask_plugin(&scope, &nearest)))
        forget_known(&scope);
    scan(&scope, &nearest);
    unpin(&scope);
    nearest_sort(&nearest);
    return (ptrdiff_t)nearest.count;
}
