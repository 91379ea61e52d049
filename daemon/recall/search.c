#include "daemon/recall/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/array.h"
#include "daemon/store/error.h"
#include "daemon/store/info.h"
#include "daemon/store/session.h"

static int compare_sessions(const void *a, const void *b) {
    const struct session *left = *(struct session *const *)a, *right = *(struct session *const *)b;
    return (left > right) - (left < right);
}

static void let_go(struct session **sessions, size_t count) {
    for (size_t i = 0; i < count; i++)
        session_unref(sessions[i]);
    free(sessions);
}

struct recall_search *search_new(const struct recall_query *query) {
    struct recall_search *search = calloc(1, sizeof *search);
    float *vector = malloc(query->dim * sizeof *vector);
    struct recall_hit *hits = calloc(query->k, sizeof *hits);
    if (!search || !vector || !hits) {
        free(search);
        free(vector);
        free(hits);
        let_go(query->sessions, query->session_count);
        return NULL;
    }
    search->query = *query;
    search->hits = hits;
    search->vector = vector;
    memcpy(vector, query->vector, query->dim * sizeof *vector);
    memcpy(search->model, query->model.text, query->model.bytes);
    if (query->label.bytes > 0)
        memcpy(search->label, query->label.text, query->label.bytes);
    search->query.vector = vector;
    search->query.model.text = search->model;
    search->query.label.text = search->label;
    if (query->session_count > 0)
        qsort(query->sessions, query->session_count, sizeof(struct session *), compare_sessions);
    return search;
}

static void free_hit(struct recall_hit *hit) {
    session_unref(hit->session);
    free(hit->label);
}

void search_free(struct recall_search *search) {
    for (size_t i = 0; i < search->hit_count; i++)
        free_hit(&search->hits[i]);
    let_go(search->query.sessions, search->query.session_count);
    free(search->hits);
    free(search->vector);
    free(search);
}

/* --- what the retriever asks --- */

/* A row that a retriever may answer with, and the session that it would stand for. */
struct candidate {
    uint64_t id;
    struct session *session;  /* owned reference */
    struct attachment *batch; /* owned reference */
    uint32_t row;
    float score;
};

struct scan {
    const struct recall_query *query;
    struct catalogue *catalogue;
    struct candidate *candidates; /* all that were wanted: those that are kept are among them */
    size_t count, capacity;
    bool no_memory;
};

static bool is_in_scope(const struct recall_query *query, struct session *session) {
    return !query->sessions || bsearch(&session, query->sessions, query->session_count,
                                       sizeof(struct session *), compare_sessions) != NULL;
}

static bool batch_wanted(void *context, void *batch) {
    const struct scan *scan = context;
    const struct catalogue_batch *known = batch;
    bool wanted = false;
    pthread_mutex_lock(scan->catalogue->lock);
    for (size_t i = 0; i < known->owner_count && !wanted; i++)
        wanted = is_in_scope(scan->query, known->owners[i]);
    pthread_mutex_unlock(scan->catalogue->lock);
    return wanted;
}

static bool passes(const struct recall_query *query, const struct batch_view *batch, uint32_t row) {
    const struct batch_row *at = &batch->row[row];
    struct batch_text label = batch_label(batch, row);
    if (query->label.bytes > 0 && (query->label.bytes != label.bytes ||
                                   memcmp(query->label.text, label.text, label.bytes) != 0))
        return false;
    return at->first < query->end && batch_row_end(at) > query->first &&
           at->put_us >= query->least_put_us;
}

static bool has_row(struct session *session, const struct attachment *batch, uint32_t row) {
    pthread_mutex_lock(session->lock);
    const struct batch_ref *ref = session->deleted ? NULL : batch_set_find(session, batch);
    bool has = ref && batch_ref_has(ref, row);
    pthread_mutex_unlock(session->lock);
    return has;
}

/* The i-th of those in scope that have the batch: a reference, or NULL behind the last. */
static struct session *owner_at(const struct scan *scan, const struct catalogue_batch *known,
                                size_t *i) {
    struct session *owner = NULL;
    pthread_mutex_lock(scan->catalogue->lock);
    for (; *i < known->owner_count && !owner; ++*i)
        if (is_in_scope(scan->query, known->owners[*i]))
            owner = known->owners[*i];
    if (owner)
        session_ref(owner);
    pthread_mutex_unlock(scan->catalogue->lock);
    return owner;
}

/* The first of the sessions in scope that has the row still: what forks share is found once. */
static struct session *owner_of(const struct scan *scan, const struct catalogue_batch *known,
                                uint32_t row) {
    struct session *owner;
    size_t i = 0;
    while ((owner = owner_at(scan, known, &i))) {
        if (has_row(owner, known->batch, row))
            return owner;
        session_unref(owner);
    }
    return NULL;
}

static bool row_wanted(void *context, void *batch, size_t row) {
    struct scan *scan = context;
    struct catalogue_batch *known = batch;
    struct batch_view view = batch_view(known->batch);
    if (!passes(scan->query, &view, (uint32_t)row))
        return false;
    struct session *owner = owner_of(scan, known, (uint32_t)row);
    if (!owner)
        return false;
    struct candidate *grown =
        array_grow(scan->candidates, scan->count, &scan->capacity, sizeof *grown);
    scan->no_memory |= !grown;
    if (!grown) {
        session_unref(owner);
        return false;
    }
    attachment_ref(known->batch);
    scan->candidates = grown;
    scan->candidates[scan->count++] = (struct candidate){.id = view.first_id + row,
                                                         .session = owner,
                                                         .batch = known->batch,
                                                         .row = (uint32_t)row,
                                                         .score = -INFINITY};
    return true;
}

/* --- searching --- */

static int compare_ids(const void *a, const void *b) {
    const struct candidate *left = a, *right = b;
    return (left->id > right->id) - (left->id < right->id);
}

/* Those that were found have scores then. */
static void put_scores(const struct scan *scan, const struct kvq_retriever_hit *hits,
                       ptrdiff_t count) {
    for (ptrdiff_t i = 0; i < count; i++) {
        struct candidate key = {.id = hits[i].id};
        struct candidate *found =
            bsearch(&key, scan->candidates, scan->count, sizeof key, compare_ids);
        if (found)
            found->score = hits[i].score;
    }
}

static void search_index(const struct recall_query *query, struct catalogue_index *index,
                         struct scan *scan) {
    struct kvq_retriever_hit *hits = calloc(query->k, sizeof *hits);
    struct retriever_query wanted = {.vector = query->vector,
                                     .k = query->k,
                                     .min_score = query->min_score,
                                     .batch_wanted = batch_wanted,
                                     .row_wanted = row_wanted,
                                     .context = scan};
    ptrdiff_t count = hits ? retriever_search(index->retriever, &wanted, hits) : -1;
    scan->no_memory |= count < 0;
    if (scan->count > 0)
        qsort(scan->candidates, scan->count, sizeof *scan->candidates, compare_ids);
    put_scores(scan, hits, count);
    free(hits);
}

static bool is_of_model(const struct catalogue_index *index, const struct recall_query *query) {
    return tenant_is(index->tenant, query->model.tenant) &&
           index->model_bytes == query->model.bytes &&
           memcmp(index->model, query->model.text, index->model_bytes) == 0;
}

/* Whether sessions in scope have any entries. */
static bool has_any(const struct recall_query *query, bool model_has) {
    bool any = !query->sessions && model_has;
    for (size_t i = 0; query->sessions && i < query->session_count && !any; i++) {
        pthread_mutex_lock(query->sessions[i]->lock);
        any = query->sessions[i]->entries > 0;
        pthread_mutex_unlock(query->sessions[i]->lock);
    }
    return any;
}

/* Whether a batch of this kind is in scope. */
static bool has_kind(const struct recall_query *query, const struct batch_kind *kind) {
    bool any = !query->sessions;
    for (size_t i = 0; query->sessions && i < query->session_count && !any; i++) {
        pthread_mutex_lock(query->sessions[i]->lock);
        for (struct batch_ref *ref = query->sessions[i]->batches; ref && !any; ref = ref->next) {
            struct batch_view view = batch_view(ref->batch);
            any = batch_kind_equal(&view.kind, kind);
        }
        pthread_mutex_unlock(query->sessions[i]->lock);
    }
    return any;
}

static int scan_all(const struct recall_query *query, struct scan *scan) {
    bool model_has = false, any = false;
    for (struct catalogue_index *index = scan->catalogue->indexes; index; index = index->next) {
        if (!is_of_model(index, query))
            continue;
        model_has = true;
        if (index->kind.dim != query->dim || index->kind.metric != query->metric ||
            !has_kind(query, &index->kind))
            continue;
        any = true;
        search_index(query, index, scan);
    }
    if (scan->no_memory)
        return STORE_FULL;
    return any || !has_any(query, model_has) ? STORE_OK : STORE_INVALID;
}

/* --- from rows to ranges --- */

/* Higher scores first, of equal ones what was put earlier. */
static int compare_scores(const void *a, const void *b) {
    const struct candidate *left = a, *right = b;
    int order = (left->score < right->score) - (left->score > right->score);
    return order != 0 ? order : compare_ids(a, b);
}

static bool copy_strings(struct recall_hit *hit, const struct batch_view *view, uint32_t row) {
    struct batch_text label = batch_label(view, row), metadata = batch_metadata(view, row);
    hit->label = malloc(label.bytes + metadata.bytes + 1);
    if (!hit->label)
        return false;
    memcpy(hit->label, label.text, label.bytes + metadata.bytes);
    hit->label_bytes = label.bytes;
    hit->metadata_bytes = metadata.bytes;
    return true;
}

/* With the session locked. */
static bool fill(struct recall_hit *hit, const struct candidate *candidate) {
    struct session *session = candidate->session;
    struct batch_view view = batch_view(candidate->batch);
    const struct batch_row *row = &view.row[candidate->row];
    const struct batch_ref *ref =
        session->deleted ? NULL : batch_set_find(session, candidate->batch);
    if (!ref || !batch_ref_has(ref, candidate->row) || batch_row_end(row) > session->tokens ||
        !copy_strings(hit, &view, candidate->row))
        return false;
    hit->version = session->version;
    hit->cuts = session->cuts.count;
    hit->first = row->first;
    hit->tokens = row->tokens;
    hit->put_us = row->put_us;
    hit->score = candidate->score;
    return true;
}

static void add_hit(struct recall_search *search, const struct candidate *candidate) {
    struct recall_hit hit = {.session = candidate->session};
    pthread_mutex_lock(hit.session->lock);
    bool is_hit = fill(&hit, candidate);
    pthread_mutex_unlock(hit.session->lock);
    if (!is_hit)
        return;
    session_ref(hit.session);
    search->hits[search->hit_count++] = hit;
}

static bool touch(const struct recall_hit *left, const struct recall_hit *right) {
    return left->session == right->session && left->first <= right->first + right->tokens &&
           right->first <= left->first + left->tokens;
}

/* Into the first, which is the better one. */
static void unite(struct recall_hit *into, const struct recall_hit *from) {
    uint64_t end = into->first + into->tokens, other_end = from->first + from->tokens;
    into->first = into->first < from->first ? into->first : from->first;
    into->tokens = (end > other_end ? end : other_end) - into->first;
}

static void drop_hit(struct recall_search *search, size_t i) {
    free_hit(&search->hits[i]);
    memmove(&search->hits[i], &search->hits[i + 1],
            (--search->hit_count - i) * sizeof search->hits[0]);
}

/* A range that grew may touch others then. */
static void merge(struct recall_search *search) {
    for (size_t i = 0; i < search->hit_count; i++)
        for (size_t j = i + 1; j < search->hit_count; j++)
            if (touch(&search->hits[i], &search->hits[j])) {
                unite(&search->hits[i], &search->hits[j]);
                drop_hit(search, j);
                j = i;
            }
}

static void put_costs(struct recall_search *search) {
    for (size_t i = 0; i < search->hit_count; i++) {
        struct recall_hit *hit = &search->hits[i];
        struct info_range range = info_range(hit->session, hit->first, hit->first + hit->tokens);
        hit->level = range.level;
        hit->bytes = range.bytes;
    }
}

void search_run(struct recall_search *search, struct catalogue *catalogue) {
    struct scan scan = {.query = &search->query, .catalogue = catalogue};
    search->status = scan_all(&search->query, &scan);
    if (scan.count > 0)
        qsort(scan.candidates, scan.count, sizeof *scan.candidates, compare_scores);
    for (size_t i = 0; i < scan.count && search->hit_count < search->query.k &&
                       scan.candidates[i].score > -INFINITY;
         i++)
        add_hit(search, &scan.candidates[i]);
    if (search->query.merge)
        merge(search);
    put_costs(search);
    for (size_t i = 0; i < scan.count; i++) {
        session_unref(scan.candidates[i].session);
        attachment_unref(scan.candidates[i].batch);
    }
    free(scan.candidates);
}
