/* Putting entries. Where the session's others change meanwhile, all but what came is done anew. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/store/batch_merge.h"
#include "daemon/store/batches.h"

enum { CHECK_BYTES = 512 << 10 }; /* of vectors, in a step */

struct batch_put {
    struct store *store;
    struct session *session; /* owned reference */
    uint64_t if_version;
    struct attachment *came; /* owned reference: what the client gives, in pieces */
    uint32_t next_piece, next_row;
    struct batch_given given;
    struct batch_labels labels;
    struct batch_merge merge;
    bool read, merging, merged;
    char fault[160];
};

static struct attachment_home home_of(const struct batch_put *put) {
    struct store *store = put->store;
    return (struct attachment_home){store->pool, put->session->budget, put->session->usage};
}

/* With the session locked. */
static int check(const struct batch_put *put) {
    const struct session *session = put->session;
    if (session->deleted)
        return STORE_MISS;
    return put->if_version != 0 && put->if_version != session->version ? STORE_VERSION_CHANGED
                                                                       : STORE_OK;
}

static int begin(struct batch_put *put) {
    pthread_mutex_lock(put->session->lock);
    int status = check(put);
    put->session->indexing += status == STORE_OK;
    pthread_mutex_unlock(put->session->lock);
    return status;
}

int batch_put_begin(struct store *store, const struct batch_put_request *request,
                    struct batch_put **begun) {
    struct attachment_spec spec = {.bytes = request->bytes, .is_batch = true};
    struct batch_put *put = calloc(1, sizeof *put);
    if (!put)
        return STORE_FULL;
    put->store = store;
    put->if_version = request->if_version;
    put->given = (struct batch_given){.kind = request->kind, .rows = request->rows};
    put->session = store_find(store, request->session);
    if (put->session) {
        struct attachment_home home = home_of(put);
        put->came = attachment_new(&home, &spec);
    }
    int status = !put->session ? STORE_MISS : put->came ? begin(put) : STORE_FULL;
    if (status == STORE_OK) {
        *begun = put;
        return STORE_OK;
    }
    if (put->session)
        session_unref(put->session);
    if (put->came)
        attachment_unref(put->came);
    free(put);
    return status;
}

int batch_put_piece(struct batch_put *put, uint64_t offset, const void *bytes, size_t count) {
    struct attachment *came = put->came;
    if (put->next_piece == attachment_pieces(came) ||
        offset != (uint64_t)put->next_piece * ATTACHMENT_PIECE_BYTES ||
        count != attachment_piece_bytes(came, put->next_piece))
        return STORE_INVALID;
    int status = came->extent.bytes > 0 ? STORE_OK : attachment_provide(came);
    if (status != STORE_OK)
        return status;
    memcpy(attachment_memory(came) + offset, bytes, count);
    put->next_piece++;
    return STORE_OK;
}

/* --- what came --- */

static int fail(struct batch_put *put, int status, const char *sentence) {
    snprintf(put->fault, sizeof put->fault, "%s", sentence);
    return status;
}

static int read_labels(struct batch_put *put) {
    const struct batch_given *given = &put->given;
    const char *at = (const char *)given->strings;
    if (batch_labels_init(&put->labels, given->rows) < 0)
        return STORE_FULL;
    for (uint32_t i = 0; i < given->rows; i++) {
        struct batch_entry entry = batch_entry(given, i);
        batch_labels_add(&put->labels, (struct batch_text){at, entry.label_bytes});
        at += entry.label_bytes + entry.metadata_bytes;
    }
    return batch_labels_sort(&put->labels) ? STORE_MORE
                                           : fail(put, STORE_INVALID, "two entries have one label");
}

static int read_given(struct batch_put *put) {
    struct attachment *came = put->came;
    if (came->spec.bytes == 0 || put->next_piece < attachment_pieces(came))
        return STORE_INCOMPLETE;
    const char *fault = batch_read_given(&put->given, attachment_memory(came), came->spec.bytes);
    if (fault)
        return fail(put, STORE_INVALID, fault);
    uint64_t bytes = batch_bytes(&put->given.kind, put->given.rows, put->given.string_bytes);
    if (bytes > ATTACHMENT_BYTES_MAX)
        return fail(put, STORE_INVALID, "entries take more than 16 MiB: send fewer at a time");
    int status = read_labels(put);
    put->read = status == STORE_MORE;
    return status;
}

static int check_vectors(struct batch_put *put) {
    const struct batch_given *given = &put->given;
    size_t vector_bytes = batch_vector_bytes(&given->kind);
    for (size_t bytes = 0; bytes < CHECK_BYTES && put->next_row < given->rows;
         bytes += vector_bytes, put->next_row++) {
        const char *fault =
            batch_vector_fault(&given->kind, given->vectors + put->next_row * vector_bytes);
        if (!fault)
            continue;
        snprintf(put->fault, sizeof put->fault, "the vector of entry %u %s", put->next_row, fault);
        return STORE_INVALID;
    }
    return STORE_MORE;
}

/* With the session locked. */
static int check_ranges(struct batch_put *put) {
    uint64_t tokens = put->session->tokens;
    for (uint32_t i = 0; i < put->given.rows; i++) {
        struct batch_entry entry = batch_entry(&put->given, i);
        if (entry.first + entry.tokens <= tokens)
            continue;
        snprintf(put->fault, sizeof put->fault,
                 "entry %u is of tokens %llu to %llu, and the session has %llu", i,
                 (unsigned long long)entry.first, (unsigned long long)entry.first + entry.tokens,
                 (unsigned long long)tokens);
        return STORE_MISS;
    }
    return STORE_OK;
}

/* --- what becomes of it --- */

static int begin_merge(struct batch_put *put) {
    pthread_mutex_lock(put->session->lock);
    int status = check(put);
    if (status == STORE_OK)
        status = check_ranges(put);
    if (status == STORE_OK)
        status = batch_merge_begin(&put->merge, put->session, &put->given, &put->labels);
    if (status == STORE_OK)
        session_stay_in_use(put->session);
    pthread_mutex_unlock(put->session->lock);
    put->merging = status == STORE_OK;
    if (!put->merging)
        batch_merge_end(&put->merge);
    return put->merging ? STORE_MORE : status;
}

static uint64_t drop_labelled(struct batch_ref *ref, const struct batch_labels *labels) {
    struct batch_view view = batch_view(ref->batch);
    uint32_t before = ref->live;
    for (uint32_t i = 0; i < ref->rows; i++)
        if (batch_ref_has(ref, i) && batch_labels_have(labels, &view, i))
            batch_ref_drop(ref, i);
    return before - ref->live;
}

/* With the session locked: takes out what is merged and what is replaced. */
static struct batch_ref *take_out(struct batch_put *put, struct batch_put_result *result) {
    struct session *session = put->session;
    struct batch_ref *taken = NULL, *last;
    uint64_t merged = 0, replaced = 0;
    for (size_t i = 0; i < put->merge.merged_count; i++) {
        struct batch_ref *ref = batch_set_find(session, put->merge.sources[i].batch);
        merged += ref->live - put->merge.sources[i].live;
        batches_take(put->store, session, ref);
        ref->next = taken;
        taken = ref;
    }
    for (struct batch_ref *ref = session->batches; ref && put->labels.count > 0; ref = ref->next)
        replaced += drop_labelled(ref, &put->labels);
    batch_set_note_dropped(session, replaced);
    result->replaced = merged + replaced;
    if (replaced == 0)
        return taken;
    last = batches_take_empty(put->store, session);
    struct batch_ref **end = &last;
    while (*end)
        end = &(*end)->next;
    *end = taken;
    return last;
}

/* With the session locked. */
static int enter(struct batch_put *put, struct batch_ref *ref, struct batch_ref **taken,
                 struct batch_put_result *result) {
    struct session *session = put->session;
    int status = check(put);
    if (status == STORE_OK)
        status = check_ranges(put);
    if (status != STORE_OK)
        return status;
    if (session->batch_changes != put->merge.changes)
        return STORE_BUSY;
    *taken = take_out(put, result);
    batches_hold(session, *taken);
    batches_put(put->store, session, ref);
    session->removed_attachments += result->replaced > 0;
    session->changes++;
    session_use(session, false);
    result->point = session_point(session);
    result->version = session->version;
    result->entries = session->entries;
    result->put = put->given.rows;
    result->first_id = put->merge.batch->spec.id;
    return STORE_OK;
}

static int finish(struct batch_put *put, struct batch_put_result *result) {
    struct budget *budget = put->session->budget;
    struct batch_ref *ref = batch_ref_new(budget, put->merge.batch), *taken = NULL;
    if (!ref)
        return STORE_FULL;
    pthread_mutex_lock(put->session->lock);
    int status = enter(put, ref, &taken, result);
    pthread_mutex_unlock(put->session->lock);
    batch_set_free(taken, budget);
    if (status == STORE_OK)
        return STORE_OK;
    batch_ref_free(ref, budget);
    if (status != STORE_BUSY)
        return status;
    batch_merge_end(&put->merge);
    put->merging = put->merged = false;
    return STORE_MORE;
}

int batch_put_step(struct batch_put *put, struct batch_put_result *result) {
    struct attachment_home home = home_of(put);
    if (!put->read)
        return read_given(put);
    if (put->next_row < put->given.rows)
        return check_vectors(put);
    if (!put->merging)
        return begin_merge(put);
    if (put->merged)
        return finish(put, result);
    int status = batch_merge_step(&put->merge, &home);
    put->merged = status == STORE_OK;
    return put->merged ? STORE_MORE : status;
}

const char *batch_put_fault(const struct batch_put *put) {
    return put->fault;
}

struct session *batch_put_session(const struct batch_put *put) {
    return put->session;
}

void batch_put_end(struct batch_put *put) {
    batch_merge_end(&put->merge);
    batch_labels_deinit(&put->labels);
    pthread_mutex_lock(put->session->lock);
    put->session->indexing--;
    pthread_mutex_unlock(put->session->lock);
    attachment_unref(put->came);
    session_unref(put->session);
    free(put);
}
