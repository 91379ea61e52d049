#include "daemon/store/batches.h"

#include "daemon/store/batch_labels.h"
#include "daemon/store/manifest_hold.h"

/* --- who searches is told --- */

static void tell(const struct store *store, struct session *session, struct attachment *batch,
                 bool is_there) {
    const struct store_batch_listener *listener = &store->batch_listener;
    if (listener->on_batch)
        listener->on_batch(listener->context, session, batch, is_there);
}

void batches_enter(struct store *store, struct session *session) {
    for (struct batch_ref *ref = session->batches; ref; ref = ref->next)
        tell(store, session, ref->batch, true);
}

void batches_leave(struct store *store, struct session *session) {
    for (struct batch_ref *ref = session->batches; ref; ref = ref->next)
        tell(store, session, ref->batch, false);
}

struct batch_ref *batches_take_empty(struct store *store, struct session *session) {
    struct batch_ref *taken = batch_set_take_empty(session);
    for (struct batch_ref *ref = taken; ref; ref = ref->next)
        tell(store, session, ref->batch, false);
    return taken;
}

struct batch_ref *batches_cut(struct store *store, struct session *session, uint64_t tokens) {
    return batch_set_cut(session, tokens) > 0 ? batches_take_empty(store, session) : NULL;
}

void batches_put(struct store *store, struct session *session, struct batch_ref *ref) {
    batch_set_put(session, ref);
    tell(store, session, ref->batch, true);
}

void batches_take(struct store *store, struct session *session, struct batch_ref *ref) {
    batch_set_take(session, ref);
    tell(store, session, ref->batch, false);
}

void batches_hold(struct session *session, const struct batch_ref *taken) {
    for (; taken; taken = taken->next)
        manifest_hold(session, taken->batch);
}

/* --- delete --- */

static bool is_meant(const struct batch_delete_request *request, const struct batch_labels *labels,
                     const struct batch_view *batch, uint32_t row) {
    const struct batch_row *at = &batch->row[row];
    if (request->label_count > 0)
        return batch_labels_have(labels, batch, row);
    return at->first < request->end && batch_row_end(at) > request->first;
}

/* With the session locked. */
static uint64_t drop(struct session *session, const struct batch_delete_request *request,
                     const struct batch_labels *labels) {
    uint64_t dropped = 0;
    for (struct batch_ref *ref = session->batches; ref; ref = ref->next) {
        struct batch_view view = batch_view(ref->batch);
        for (uint32_t i = 0; i < ref->rows; i++)
            if (batch_ref_has(ref, i) && is_meant(request, labels, &view, i)) {
                batch_ref_drop(ref, i);
                dropped++;
            }
    }
    return dropped;
}

static int delete_locked(struct store *store, struct session *session,
                         const struct batch_delete_request *request,
                         const struct batch_labels *labels, struct batch_ref **emptied,
                         struct batch_delete_result *result) {
    if (session->deleted)
        return STORE_MISS;
    if (request->if_version != 0 && request->if_version != session->version)
        return STORE_VERSION_CHANGED;
    result->deleted = drop(session, request, labels);
    if (result->deleted == 0)
        return STORE_OK;
    batch_set_note_dropped(session, result->deleted);
    *emptied = batches_take_empty(store, session);
    batches_hold(session, *emptied);
    session->removed_attachments++;
    session->changes++;
    session_use(session, false);
    return STORE_OK;
}

int batch_delete(struct store *store, struct session *session,
                 const struct batch_delete_request *request, struct batch_delete_result *result) {
    struct batch_ref *emptied = NULL;
    struct batch_labels labels;
    *result = (struct batch_delete_result){0};
    if (batch_labels_init(&labels, request->label_count) < 0)
        return STORE_FULL;
    for (size_t i = 0; i < request->label_count; i++)
        batch_labels_add(&labels, request->labels[i]);
    (void)batch_labels_sort(&labels);
    pthread_mutex_lock(session->lock);
    int status = delete_locked(store, session, request, &labels, &emptied, result);
    result->point = session_point(session);
    result->entries = session->entries;
    pthread_mutex_unlock(session->lock);
    batch_set_free(emptied, session->budget);
    batch_labels_deinit(&labels);
    return status;
}
