#include "daemon/store/evict.h"

#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/store/batches.h"
#include "daemon/store/saving.h"

enum { SLICES_MAX = 64 }; /* that go at once */

/* So long a session without tokens waits for its first ones. */
#define EMPTY_IDLE_NS (10 * CLOCK_NS_PER_S)

/* What a session is to lose: its slices from `keep` on, and the tail. */
struct loss_plan {
    size_t keep;
    uint64_t freed_bytes;
    bool any;
};

static int may_go(const struct session *session, uint64_t idle_ns) {
    uint64_t now = clock_now_ns();
    if (session_is_empty(session) && idle_ns < EMPTY_IDLE_NS)
        idle_ns = EMPTY_IDLE_NS;
    if (session->deleted)
        return STORE_MISS;
    if (session->pinned_until_ns > now)
        return STORE_BUSY;
    return session->appending || session->indexing > 0 || now - session->used_ns < idle_ns
               ? STORE_WAIT
               : STORE_OK;
}

static uint64_t bytes_at(enum evict_place place, uint64_t memory_bytes, uint64_t disk_bytes) {
    return (place == EVICT_FROM_DISK ? 0 : memory_bytes) +
           (place == EVICT_FROM_MEMORY ? 0 : disk_bytes);
}

/* What dropping the slice frees: nothing where others have its chunk too, and next to nothing of
 * memory where it is on disk only. */
static uint64_t freed_by(const struct slice *slice, enum evict_place place) {
    struct chunk_view view = chunk_view(slice->chunk);
    bool absent = record_is_absent(view.record);
    uint64_t in_memory = key_summary_reserved_bytes(&slice->chunk->summary) +
                         (absent ? 0 : view.record->reserved_bytes + CHUNK_HANDLE_BYTES);
    record_unpin(view.record);
    return view.shared ? 0 : bytes_at(place, in_memory, view.disk_bytes);
}

static uint64_t freed_by_tail(const struct session *session, enum evict_place place) {
    bool shared;
    if (session->coded_tail.chunk)
        return freed_by(&session->coded_tail, place);
    uint64_t bytes = tail_bytes(session->tail, &shared);
    return shared ? 0 : bytes_at(place, bytes, 0);
}

/* A raw tail is coded to be spilled: but where forks have it, too, there may be no room for both.
 */
static bool may_lose_tail(const struct session *session, const struct evict_request *request) {
    return !request->keeps_spillable || (session->tail && request->shared_too);
}

/* They go with the session, which then has no token left. */
static void add_attachments(struct loss_plan *plan, const struct session *session,
                            const struct evict_request *request) {
    struct attachment_sums sums = attachment_set_sums(session->attachments);
    struct batch_sums batches = batch_set_sums(session);
    uint64_t bytes = bytes_at(request->place, sums.freed_memory_bytes + batches.unique_bytes,
                              sums.freed_disk_bytes + batches.unique_disk_bytes);
    plan->freed_bytes += bytes;
    plan->any |= bytes > 0;
}

/* From the end on, no further than to the last that frees something. */
static struct loss_plan make_plan(const struct session *session,
                                  const struct evict_request *request) {
    struct loss_plan plan = {.keep = session->slice_count};
    if (session_is_empty(session) && request->place != EVICT_FROM_DISK)
        return (struct loss_plan){.freed_bytes = session_own_bytes(session), .any = true};
    size_t least = plan.keep > SLICES_MAX ? plan.keep - SLICES_MAX : 0;
    if (request->keeps_spillable)
        least = plan.keep;
    if (session->tail_tokens > 0 && may_lose_tail(session, request)) {
        plan.freed_bytes = freed_by_tail(session, request->place);
        plan.any = plan.freed_bytes > 0 || request->shared_too;
    }
    for (size_t keep = plan.keep; keep > least && plan.freed_bytes < request->want_bytes; keep--) {
        uint64_t bytes = freed_by(&session->slices[keep - 1], request->place);
        plan.freed_bytes += bytes;
        if (bytes == 0 && !request->shared_too)
            continue;
        plan.keep = keep - 1;
        plan.any = true;
    }
    if (plan.keep == 0 && !request->keeps_spillable) /* they could go to disk, too */
        add_attachments(&plan, session, request);
    return plan;
}

/* What a session lost, to be let go of without its lock. */
struct dropped {
    struct slice slices[SLICES_MAX];
    size_t slice_count;
    struct tail *tail;
    struct slice coded_tail;
    struct chunk *saved_tail; /* what is on disk of it may go, too */
    struct batch_ref *batches;
};

static void drop(struct store *store, struct session *session, const struct loss_plan *plan,
                 struct dropped *dropped, struct evict_result *result) {
    uint64_t coded = session->tokens - session->tail_tokens;
    uint64_t left = plan->keep < session->slice_count ? session->slices[plan->keep].start : coded;
    dropped->slice_count = session->slice_count - plan->keep;
    memcpy(dropped->slices, session->slices + plan->keep,
           dropped->slice_count * sizeof *dropped->slices);
    dropped->tail = session->tail;
    dropped->coded_tail = session->coded_tail;
    dropped->saved_tail = session->saved.coded_tail;
    session->saved.coded_tail = NULL;
    *result = (struct evict_result){.tokens = session->tokens - left, .bytes = plan->freed_bytes};
    session->slice_count = plan->keep;
    session->tail = NULL;
    session->coded_tail = (struct slice){0};
    session->lost_tokens += result->tokens;
    session_note_cut(session, left);
    session_set_length(session, left, 0);
    dropped->batches = batches_cut(store, session, left);
    /* At the end nobody puts or deletes blocks any more, and what is left is to come back. */
    if (session_is_chain(session) && atomic_load(&store->disk.keeper))
        saving_withdraw(&store->disk, session);
    session->version = store_next_version(store);
}

static void let_go(const struct session *session, const struct dropped *dropped) {
    batch_set_free(dropped->batches, session->budget);
    if (dropped->tail)
        tail_disown(dropped->tail);
    if (dropped->coded_tail.chunk)
        chunk_disown(dropped->coded_tail.chunk, dropped->coded_tail.level);
    if (dropped->saved_tail)
        chunk_unref(dropped->saved_tail);
    for (size_t i = dropped->slice_count; i-- > 0;)
        chunk_disown(dropped->slices[i].chunk, dropped->slices[i].level);
}

/* The first of its slices that is lost, or how many there are. */
static size_t find_lost(const struct session *session) {
    size_t i = 0;
    while (i < session->slice_count && !chunk_is_lost(session->slices[i].chunk))
        i++;
    return i;
}

/* With the session locked: some of what is lost, from the end on. False if there is nothing. */
static bool drop_lost(struct store *store, struct session *session, struct dropped *dropped) {
    struct evict_result result;
    struct loss_plan plan = {.keep = find_lost(session)};
    struct chunk *tail = session->coded_tail.chunk;
    bool any = plan.keep < session->slice_count || (tail && chunk_is_lost(tail));
    if (!any || session->deleted || session->appending)
        return false;
    if (session->slice_count - plan.keep > SLICES_MAX)
        plan.keep = session->slice_count - SLICES_MAX;
    drop(store, session, &plan, dropped, &result);
    return true;
}

uint64_t evict_lost(struct store *store, struct session *session) {
    bool more = true;
    uint64_t tokens = 0;
    while (more) {
        struct dropped dropped = {0};
        pthread_mutex_lock(session->lock);
        more = drop_lost(store, session, &dropped);
        tokens = session->deleted ? 0 : session->tokens;
        pthread_mutex_unlock(session->lock);
        let_go(session, &dropped);
    }
    if (session_is_chain(session))
        block_drop_unused(store, session);
    return tokens;
}

/* No token would be left. */
static int delete_whole(struct store *store, struct session *session, uint64_t version,
                        struct evict_result *result) {
    struct session_discard *discard;
    int status = store_evict_session(store, session, version, &discard);
    if (status != STORE_OK)
        return STORE_BUSY;
    while (session_discard_step(discard))
        ;
    result->bytes = discard->freed_bytes;
    session_discard_free(discard);
    return STORE_OK;
}

int evict_session(struct store *store, struct session *session, const struct evict_request *request,
                  struct evict_result *result) {
    struct dropped dropped = {0};
    struct loss_plan plan = {0};
    pthread_mutex_lock(session->lock);
    int status = may_go(session, request->idle_ns);
    if (status == STORE_OK)
        plan = make_plan(session, request);
    if (status == STORE_OK && !plan.any)
        status = STORE_UNSUPPORTED;
    bool whole = status == STORE_OK && plan.keep == 0;
    uint64_t version = session->version;
    if (whole)
        *result = (struct evict_result){.tokens = session->tokens, .deleted = true};
    else if (status == STORE_OK)
        drop(store, session, &plan, &dropped, result);
    pthread_mutex_unlock(session->lock);
    if (whole)
        return delete_whole(store, session, version, result);
    let_go(session, &dropped);
    if (session_is_chain(session))
        block_drop_unused(store, session); /* nobody finds what is left */
    return status;
}
