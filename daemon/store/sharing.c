#include "daemon/store/sharing.h"

enum { LOOK_SLICES = 256, RIVALS_MOST = 8 };

/* A slice, and the chunks of others that it may take. */
struct candidate {
    uint64_t from; /* the session's token to look on at */
    uint64_t start;
    int level;
    struct chunk *chunk; /* owned reference, or NULL */
    struct chunk *rivals[RIVALS_MOST];
    size_t rival_count;
};

/* Looks at some slices for one with rivals. False when there are no more of them. */
static bool look(struct store *store, struct session *session, struct candidate *candidate) {
    pthread_mutex_lock(session->lock);
    const struct slice *slice =
        session->deleted ? NULL : session_find_slice(session, candidate->from);
    const struct slice *end = slice ? session->slices + session->slice_count : NULL;
    for (int i = 0; slice && slice < end && i < LOOK_SLICES && !candidate->chunk; i++, slice++) {
        candidate->from = slice->start + slice->tokens;
        candidate->rival_count =
            prefix_rivals(&store->prefixes, slice->chunk, candidate->rivals, RIVALS_MOST);
        if (candidate->rival_count == 0)
            continue;
        candidate->start = slice->start;
        candidate->level = slice->level;
        candidate->chunk = slice->chunk;
        chunk_ref(slice->chunk);
    }
    pthread_mutex_unlock(session->lock);
    return slice && slice < end;
}

static bool find_candidate(struct store *store, struct session *session,
                           struct candidate *candidate) {
    candidate->chunk = NULL;
    while (look(store, session, candidate) && !candidate->chunk)
        ;
    return candidate->chunk != NULL;
}

static bool is_as_good(const struct session *session, const struct candidate *candidate,
                       const struct record *own, const struct record *other) {
    struct record_spec spec;
    if (record_is_absent(own) || record_is_absent(other))
        return false;
    record_read_spec(other, &spec);
    if (other->level > candidate->level ||
        (session->policy.min_snr_db > 0 && spec.min_snr_db < session->policy.min_snr_db))
        return false;
    bool by_ids = session->sharing == SESSION_SHARES_IDS && candidate->level > PAGE_EXACT;
    return by_ids || record_has_same_pages(own, other);
}

/* If both are still what they were. A chunk that the session's manifest on disk names, which has
 * none behind where its tail begins, stays. */
static bool swap(struct session *session, const struct candidate *candidate, struct chunk *other,
                 const struct record *record) {
    pthread_mutex_lock(session->lock);
    struct slice *slice = session->deleted ? NULL : session_find_slice(session, candidate->start);
    bool swaps = slice && !session->saved.under_way && slice->start >= session->saved.tail_first &&
                 slice->chunk == candidate->chunk && slice->level == candidate->level &&
                 chunk_adopt(other, record, slice->level);
    if (swaps)
        slice->chunk = other;
    pthread_mutex_unlock(session->lock);
    return swaps;
}

/* Recall finds what has one. */
static bool keeps_summary(const struct chunk *own, const struct chunk *other) {
    return own->summary.bytes == 0 || other->summary.bytes > 0;
}

/* Takes the first that is as good. */
static void share_one(struct store *store, struct session *session,
                      const struct candidate *candidate) {
    struct chunk_view own = chunk_view(candidate->chunk);
    bool done = false;
    for (size_t i = 0; i < candidate->rival_count; i++) {
        struct record *record = done ? NULL : chunk_pin(candidate->rivals[i]);
        done = done || (is_as_good(session, candidate, own.record, record) &&
                        keeps_summary(candidate->chunk, candidate->rivals[i]) &&
                        swap(session, candidate, candidate->rivals[i], record));
        if (record)
            record_unpin(record);
        chunk_unref(candidate->rivals[i]);
    }
    record_unpin(own.record);
    if (!done)
        return;
    atomic_fetch_add(&store->usage.shared_chunks, 1);
    atomic_fetch_add(&store->usage.shared_bytes, chunk_disown(candidate->chunk, candidate->level));
}

void sharing_share(struct store *store, struct session *session, bool (*go_on)(void *context),
                   void *context) {
    struct candidate candidate = {0};
    if (session->sharing == SESSION_SHARES_NOTHING)
        return;
    while (go_on(context) && find_candidate(store, session, &candidate)) {
        share_one(store, session, &candidate);
        chunk_unref(candidate.chunk);
    }
}
