#include "daemon/store/coarsening.h"

#include "daemon/base/clock.h"

enum { LOOK_SLICES = 256 }; /* so many are looked at under one lock */

static bool may_be_coarser(struct chunk *chunk, int *level) {
    struct chunk_view view = chunk_view(chunk);
    bool may = !record_is_absent(view.record) &&
               atomic_load(&view.record->level_asked) < view.finest_level;
    *level = view.finest_level;
    record_unpin(view.record);
    return may;
}

/* Looks at some slices. False when there are no more of them. */
static bool look_locked(struct coarsening *coarsening) {
    struct session *session = coarsening->session;
    struct slice *slice = session->deleted ? NULL : session_find_slice(session, coarsening->from);
    const struct slice *end = slice ? session->slices + session->slice_count : NULL;
    uint64_t now = clock_now_ns();
    for (int i = 0; slice && slice < end && i < LOOK_SLICES && !coarsening->chunk; i++, slice++) {
        coarsening->from = slice->start + slice->tokens;
        session_age_slice(slice, session_slice_level(session, slice, now));
        if (!may_be_coarser(slice->chunk, &coarsening->level))
            continue;
        coarsening->chunk = slice->chunk;
        chunk_ref(slice->chunk);
    }
    return slice && slice < end;
}

bool coarsening_find(struct coarsening *coarsening) {
    bool more = true;
    coarsening->chunk = NULL;
    while (more && !coarsening->chunk) {
        pthread_mutex_lock(coarsening->session->lock);
        more = look_locked(coarsening);
        pthread_mutex_unlock(coarsening->session->lock);
    }
    return coarsening->chunk != NULL;
}
