#include "daemon/store/batch_set.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/store/error.h"
#include "daemon/store/session.h"

static size_t memory_bytes(uint32_t rows) {
    return sizeof(struct batch_ref) + batch_ref_words(rows) * sizeof(uint64_t);
}

/* With what who searches keeps of each row: its length. */
static uint64_t ref_bytes(uint32_t rows) {
    return memory_bytes(rows) + rows * sizeof(float);
}

static uint64_t end_of(const struct batch_view *batch, const struct batch_ref *ref) {
    uint64_t end = 0;
    for (uint32_t i = 0; i < ref->rows; i++)
        if (batch_ref_has(ref, i) && batch_row_end(&batch->row[i]) > end)
            end = batch_row_end(&batch->row[i]);
    return end;
}

struct batch_ref *batch_ref_new(struct budget *budget, struct attachment *batch) {
    struct batch_view view = batch_view(batch);
    uint64_t bytes = ref_bytes(view.rows);
    if (!budget_reserve(budget, bytes))
        return NULL;
    struct batch_ref *ref = calloc(1, memory_bytes(view.rows));
    if (!ref) {
        budget_release(budget, bytes);
        return NULL;
    }
    ref->batch = batch;
    ref->rows = ref->live = view.rows;
    ref->end = end_of(&view, ref);
    attachment_own(batch);
    return ref;
}

uint64_t batch_ref_free(struct batch_ref *ref, struct budget *budget) {
    uint64_t bytes = ref_bytes(ref->rows);
    uint64_t freed_bytes = bytes + attachment_disown(ref->batch);
    budget_release(budget, bytes);
    free(ref);
    return freed_bytes;
}

uint64_t batch_set_free(struct batch_ref *refs, struct budget *budget) {
    uint64_t freed_bytes = 0;
    while (refs) {
        struct batch_ref *next = refs->next;
        freed_bytes += batch_ref_free(refs, budget);
        refs = next;
    }
    return freed_bytes;
}

void batch_ref_drop(struct batch_ref *ref, uint32_t row) {
    ref->gone[row / 64] |= UINT64_C(1) << row % 64;
    ref->live--;
}

size_t batch_set_count(const struct session *session) {
    size_t count = 0;
    for (const struct batch_ref *ref = session->batches; ref; ref = ref->next)
        count++;
    return count;
}

struct batch_ref *batch_set_find(const struct session *session, const struct attachment *batch) {
    struct batch_ref *ref = session->batches;
    while (ref && ref->batch != batch)
        ref = ref->next;
    return ref;
}

/* Sums wrap around like the counters: subtracting is adding the negative. */
static void count(struct session *session, const struct batch_ref *ref, int sign) {
    uint64_t bytes = (uint64_t)(int64_t)sign * ref_bytes(ref->rows);
    session->batch_refs_bytes += bytes;
    if (session->listed)
        usage_add(session->usage, &session->usage->sessions_bytes, bytes);
}

static void count_entries(struct session *session, uint64_t more) {
    session->entries += more;
    if (session->listed)
        usage_add(session->usage, &session->usage->entries, more);
    session->batch_changes++;
}

void batch_set_note_dropped(struct session *session, uint64_t rows) {
    count_entries(session, -rows);
}

void batch_set_put(struct session *session, struct batch_ref *ref) {
    ref->next = session->batches;
    session->batches = ref;
    count(session, ref, 1);
    count_entries(session, ref->live);
}

void batch_set_take(struct session *session, struct batch_ref *ref) {
    struct batch_ref **link = &session->batches;
    while (*link != ref)
        link = &(*link)->next;
    *link = ref->next;
    ref->next = NULL;
    count(session, ref, -1);
    count_entries(session, -(uint64_t)ref->live);
}

struct batch_ref *batch_set_take_empty(struct session *session) {
    struct batch_ref *taken = NULL, *next;
    for (struct batch_ref *ref = session->batches; ref; ref = next) {
        next = ref->next;
        if (ref->live > 0)
            continue;
        batch_set_take(session, ref);
        ref->next = taken;
        taken = ref;
    }
    return taken;
}

static void cut(struct batch_ref *ref, uint64_t tokens) {
    struct batch_view view = batch_view(ref->batch);
    for (uint32_t i = 0; i < ref->rows; i++)
        if (batch_ref_has(ref, i) && batch_row_end(&view.row[i]) > tokens)
            batch_ref_drop(ref, i);
    ref->end = end_of(&view, ref);
}

uint64_t batch_set_cut(struct session *session, uint64_t tokens) {
    uint64_t gone = 0;
    for (struct batch_ref *ref = session->batches; ref; ref = ref->next) {
        uint64_t before = ref->live;
        if (ref->end > tokens)
            cut(ref, tokens);
        gone += before - ref->live;
    }
    if (gone > 0)
        batch_set_note_dropped(session, gone);
    return gone;
}

static int fork_ref(const struct batch_ref *from, struct session *target, uint64_t tokens) {
    struct batch_ref *ref = batch_ref_new(target->budget, from->batch);
    if (!ref)
        return STORE_FULL;
    memcpy(ref->gone, from->gone, batch_ref_words(ref->rows) * sizeof ref->gone[0]);
    ref->live = from->live;
    ref->end = from->end;
    if (ref->end > tokens)
        cut(ref, tokens);
    if (ref->live > 0)
        batch_set_put(target, ref);
    else
        batch_ref_free(ref, target->budget);
    return STORE_OK;
}

int batch_set_fork(const struct session *source, struct session *target, uint64_t tokens) {
    int status = STORE_OK;
    for (struct batch_ref *ref = source->batches; ref && status == STORE_OK; ref = ref->next)
        status = fork_ref(ref, target, tokens);
    return status;
}

struct batch_ref *batch_set_detach(struct session *session) {
    struct batch_ref *refs = session->batches;
    if (session->listed) {
        usage_sub(session->usage, &session->usage->sessions_bytes, session->batch_refs_bytes);
        usage_sub(session->usage, &session->usage->entries, session->entries);
    }
    session->batches = NULL;
    session->batch_refs_bytes = session->entries = 0;
    session->batch_changes++;
    return refs;
}

struct batch_sums batch_set_sums(const struct session *session) {
    struct batch_sums sums = {.entries = session->entries};
    for (const struct batch_ref *ref = session->batches; ref; ref = ref->next) {
        struct attachment_view view = attachment_view(ref->batch);
        sums.batches++;
        sums.memory_bytes += view.memory_bytes;
        sums.disk_bytes += view.disk_bytes;
        if (view.shared)
            continue;
        sums.unique_bytes += view.memory_bytes;
        sums.unique_disk_bytes += view.disk_bytes;
    }
    return sums;
}
