#include "daemon/store/discard.h"

#include <stdlib.h>

#include "daemon/store/disk_tier.h"
#include "daemon/store/error.h"

static bool step(struct discard *base) {
    struct session_discard *discard = (struct session_discard *)base;
    if (session_discard_step(discard))
        return true;
    session_discard_free(discard);
    return false;
}

struct session_discard *session_discard_new(struct budget *budget) {
    if (!budget_reserve(budget, sizeof(struct session_discard)))
        return NULL;
    struct session_discard *discard = calloc(1, sizeof *discard);
    if (!discard) {
        budget_release(budget, sizeof *discard);
        return NULL;
    }
    discard->discard.step = step;
    discard->budget = budget;
    return discard;
}

int session_discard_reserve(struct session_discard *discard, size_t slices) {
    uint64_t bytes = slices * sizeof *discard->slices;
    if (!budget_reserve(discard->budget, bytes))
        return STORE_FULL;
    discard->slices = malloc(bytes);
    if (!discard->slices) {
        budget_release(discard->budget, bytes);
        return STORE_FULL;
    }
    discard->slice_capacity = slices;
    return STORE_OK;
}

static void drop_last(struct session_discard *discard) {
    const struct slice *slice = &discard->slices[--discard->slice_count];
    discard->freed_bytes += chunk_disown(slice->chunk, slice->level);
}

/* The slices' own memory goes back with the last of them. */
static void drop_rest(struct session_discard *discard) {
    uint64_t bytes = discard->slice_capacity * sizeof *discard->slices;
    free(discard->slices);
    discard->slices = NULL;
    discard->slice_capacity = 0;
    discard->freed_bytes += bytes;
    budget_release(discard->budget, bytes);
    if (discard->tail)
        discard->freed_bytes += tail_disown(discard->tail);
    discard->tail = NULL;
    if (discard->coded_tail.chunk)
        discard->freed_bytes += chunk_disown(discard->coded_tail.chunk, discard->coded_tail.level);
    discard->coded_tail.chunk = NULL;
    discard->freed_bytes += attachment_set_free(discard->attachments, discard->budget);
    discard->attachments = NULL;
}

/* False if there is none. */
static bool drop_batch(struct session_discard *discard) {
    struct batch_ref *ref = discard->batches;
    if (!ref)
        return false;
    discard->batches = ref->next;
    discard->freed_bytes += batch_ref_free(ref, discard->budget);
    return true;
}

bool session_discard_step(struct session_discard *discard) {
    uint64_t before = discard->freed_bytes;
    for (int i = 0; i < DISCARD_STEP_CHUNKS && discard->slice_count > 0 &&
                    discard->freed_bytes - before < DISCARD_STEP_BYTES;
         i++)
        drop_last(discard);
    while (attachment_set_count(discard->attachments) > 0 &&
           discard->freed_bytes - before < DISCARD_STEP_BYTES)
        discard->freed_bytes += attachment_set_drop_last(discard->attachments);
    while (discard->freed_bytes - before < DISCARD_STEP_BYTES && drop_batch(discard))
        ;
    if (discard->batches || discard->slice_count > 0 ||
        attachment_set_count(discard->attachments) > 0)
        return true;
    drop_rest(discard);
    return false;
}

void session_discard_free(struct session_discard *discard) {
    if (discard->deleted_on_disk)
        disk_promise_release(discard->deleted_on_disk);
    budget_release(discard->budget, sizeof *discard);
    free(discard);
}
