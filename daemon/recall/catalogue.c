#include "daemon/recall/catalogue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/array.h"
#include "daemon/base/log.h"
#include "daemon/store/session.h"

enum { FIRST_BUCKETS = 64, ALIGNMENT_BITS = 4 };

int catalogue_init(struct catalogue *catalogue, pthread_mutex_t *lock, struct plugin *plugin) {
    *catalogue = (struct catalogue){.lock = lock, .plugin = plugin, .bucket_count = FIRST_BUCKETS};
    catalogue->buckets = calloc(FIRST_BUCKETS, sizeof(struct catalogue_batch *));
    return catalogue->buckets ? 0 : -1;
}

/* --- which there are --- */

static struct catalogue_batch **bucket_of(const struct catalogue *catalogue,
                                          const struct attachment *batch) {
    return &catalogue->buckets[((uintptr_t)batch >> ALIGNMENT_BITS) % catalogue->bucket_count];
}

/* The link that points to it, or to the NULL where it would stand. */
static struct catalogue_batch **find_link(const struct catalogue *catalogue,
                                          const struct attachment *batch) {
    struct catalogue_batch **link = bucket_of(catalogue, batch);
    while (*link && (*link)->batch != batch)
        link = &(*link)->next;
    return link;
}

/* Twice the buckets once there is a batch for each; without memory the chains grow instead. */
static void grow(struct catalogue *catalogue) {
    size_t old_count = catalogue->bucket_count;
    struct catalogue_batch **old = catalogue->buckets, *next;
    struct catalogue_batch **buckets = calloc(2 * old_count, sizeof(struct catalogue_batch *));
    if (!buckets)
        return;
    catalogue->buckets = buckets;
    catalogue->bucket_count = 2 * old_count;
    for (size_t i = 0; i < old_count; i++)
        for (struct catalogue_batch *batch = old[i]; batch; batch = next) {
            struct catalogue_batch **bucket = bucket_of(catalogue, batch->batch);
            next = batch->next;
            batch->next = *bucket;
            *bucket = batch;
        }
    free(old);
}

static struct catalogue_batch *insert(struct catalogue *catalogue, struct attachment *batch) {
    struct catalogue_batch *known = calloc(1, sizeof *known);
    if (!known)
        return NULL;
    if (catalogue->batch_count >= catalogue->bucket_count)
        grow(catalogue);
    attachment_ref(batch);
    known->batch = batch;
    struct catalogue_batch **bucket = bucket_of(catalogue, batch);
    known->next = *bucket;
    *bucket = known;
    catalogue->batch_count++;
    return known;
}

static void take_out(struct catalogue *catalogue, struct catalogue_batch *known) {
    *find_link(catalogue, known->batch) = known->next;
    catalogue->batch_count--;
}

static void free_batch(struct catalogue_batch *known) {
    for (size_t i = 0; i < known->owner_count; i++)
        session_unref(known->owners[i]);
    free(known->owners);
    attachment_unref(known->batch);
    free(known);
}

/* --- what the store tells --- */

static void note_changed(struct catalogue *catalogue, struct catalogue_batch *known) {
    if (known->is_changed)
        return;
    known->is_changed = true;
    known->next_changed = catalogue->changed;
    catalogue->changed = known;
}

/* Without memory for it the session's entries are not found. */
static bool add_owner(struct catalogue *catalogue, struct session *session,
                      struct attachment *batch) {
    struct catalogue_batch *known = *find_link(catalogue, batch);
    if (!known)
        known = insert(catalogue, batch);
    struct session **grown = known ? array_grow(known->owners, known->owner_count,
                                                &known->owner_capacity, sizeof(struct session *))
                                   : NULL;
    if (!grown) {
        log_error("no memory to index entries: they will not be recalled");
        return false;
    }
    known->owners = grown;
    session_ref(session);
    known->owners[known->owner_count++] = session;
    if (known->owner_count > 1)
        return false;
    note_changed(catalogue, known);
    return true;
}

static bool remove_owner(struct catalogue *catalogue, struct session *session,
                         const struct attachment *batch) {
    struct catalogue_batch *known = *find_link(catalogue, batch);
    size_t i = 0;
    while (known && i < known->owner_count && known->owners[i] != session)
        i++;
    if (!known || i == known->owner_count)
        return false;
    memmove(&known->owners[i], &known->owners[i + 1],
            (--known->owner_count - i) * sizeof(struct session *));
    session_unref(session); /* not the last: its caller has one */
    if (known->owner_count > 0)
        return false;
    note_changed(catalogue, known);
    return true;
}

bool catalogue_note(struct catalogue *catalogue, struct session *session, struct attachment *batch,
                    bool is_there) {
    if (catalogue->is_closed)
        return false;
    return is_there ? add_owner(catalogue, session, batch)
                    : remove_owner(catalogue, session, batch);
}

/* --- indexes --- */

static struct vectors_format format_of(const struct batch_kind *kind) {
    return (struct vectors_format){
        .dim = kind->dim,
        .dtype = kind->dtype == BATCH_F32 ? KVQ_RETRIEVER_F32 : KVQ_RETRIEVER_F16,
        .metric =
            kind->metric == BATCH_COSINE ? KVQ_RETRIEVER_COSINE : KVQ_RETRIEVER_INNER_PRODUCT};
}

static void on_released(void *context, void *batch) {
    (void)context;
    free_batch(batch);
}

static struct catalogue_index *new_index(struct catalogue *catalogue, const struct session *session,
                                         const struct batch_kind *kind) {
    struct catalogue_index *index = calloc(1, sizeof *index + session->model_bytes);
    if (!index)
        return NULL;
    char name[TENANT_NAME_BYTES_MAX + 1 + 256];
    int name_bytes = snprintf(name, sizeof name, "%s/%s", session->tenant->name, session->model);
    struct retriever_options options = {.format = format_of(kind),
                                        .plugin = catalogue->plugin,
                                        .name = name,
                                        .name_bytes = (size_t)name_bytes,
                                        .released = on_released};
    index->retriever = retriever_new(&options);
    if (!index->retriever) {
        free(index);
        return NULL;
    }
    index->kind = *kind;
    index->tenant = session->tenant;
    index->model_bytes = session->model_bytes;
    memcpy(index->model, session->model, session->model_bytes);
    index->next = catalogue->indexes;
    catalogue->indexes = index;
    return index;
}

static struct catalogue_index *find_index(struct catalogue *catalogue,
                                          const struct session *session,
                                          const struct batch_kind *kind) {
    struct catalogue_index *index = catalogue->indexes;
    while (index && (!batch_kind_equal(&index->kind, kind) || index->tenant != session->tenant ||
                     index->model_bytes != session->model_bytes ||
                     memcmp(index->model, session->model, session->model_bytes) != 0))
        index = index->next;
    return index ? index : new_index(catalogue, session, kind);
}

static void free_index(struct catalogue_index *index) {
    retriever_free(index->retriever);
    free(index);
}

static void unlink_index(struct catalogue *catalogue, const struct catalogue_index *index) {
    struct catalogue_index **link = &catalogue->indexes;
    while (*link != index)
        link = &(*link)->next;
    *link = index->next;
}

/* The session is an owner's, and lives as long as the caller has it. */
static void add(struct catalogue *catalogue, struct catalogue_batch *known,
                const struct session *session) {
    struct batch_view view = batch_view(known->batch);
    struct catalogue_index *index = find_index(catalogue, session, &view.kind);
    if (!index ||
        retriever_add(index->retriever, known, view.first_id, view.vectors, view.rows) < 0) {
        log_error("no memory to index %u entries: they will not be recalled", view.rows);
        return;
    }
    known->index = index;
    index->batches++;
}

/* It is released, then or later. */
static void remove_from(struct catalogue *catalogue, struct catalogue_batch *known) {
    struct catalogue_index *index = known->index;
    if (!index) {
        free_batch(known);
        return;
    }
    retriever_remove(index->retriever, known->batch->spec.id);
    if (--index->batches > 0)
        return;
    unlink_index(catalogue, index);
    free_index(index);
}

bool catalogue_apply(struct catalogue *catalogue) {
    struct catalogue_batch *known = catalogue->changed;
    if (!known)
        return false;
    catalogue->changed = known->next_changed;
    known->is_changed = false;
    struct session *session = known->owner_count > 0 ? known->owners[0] : NULL;
    if (session)
        session_ref(session);
    else
        take_out(catalogue, known);
    pthread_mutex_unlock(catalogue->lock);
    if (!session)
        remove_from(catalogue, known);
    else if (!known->index)
        add(catalogue, known, session);
    if (session)
        session_unref(session);
    pthread_mutex_lock(catalogue->lock);
    return true;
}

/* --- the end --- */

/* The others go with their indexes. */
static void drop_unindexed(struct catalogue_batch *known) {
    while (known) {
        struct catalogue_batch *next = known->next;
        if (!known->index)
            free_batch(known);
        known = next;
    }
}

void catalogue_close(struct catalogue *catalogue) {
    pthread_mutex_lock(catalogue->lock);
    catalogue->is_closed = true;
    catalogue->changed = NULL;
    pthread_mutex_unlock(catalogue->lock);
    for (size_t i = 0; i < catalogue->bucket_count; i++)
        drop_unindexed(catalogue->buckets[i]);
    memset(catalogue->buckets, 0, catalogue->bucket_count * sizeof(struct catalogue_batch *));
    while (catalogue->indexes) {
        struct catalogue_index *index = catalogue->indexes;
        catalogue->indexes = index->next;
        free_index(index);
    }
}

void catalogue_deinit(struct catalogue *catalogue) {
    free(catalogue->buckets);
}
