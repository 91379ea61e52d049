#include "daemon/store/keeper.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/store/builder.h"
#include "daemon/store/store.h"

enum { NICE = 10, UNPIN_WAIT_NS = 100000 };

enum { LOOK_SLICES = 256 }; /* so many are looked at under one lock */

/* Work on a session: where to look on, and what was found. */
struct work {
    struct session *session;
    uint64_t from;       /* the session's token */
    struct chunk *chunk; /* owned reference, or NULL */
    int level;           /* that it is to have */
};

static bool wants_recoding(struct chunk *chunk, int *level) {
    struct chunk_view view = chunk_view(chunk);
    bool wants = atomic_load(&view.record->level_asked) < view.finest_level;
    *level = view.finest_level;
    record_unpin(view.record);
    return wants;
}

/* Looks at some slices. False when there are no more of them. */
static bool look(struct work *work) {
    struct session *session = work->session;
    pthread_mutex_lock(session->lock);
    const struct slice *slice = session->deleted ? NULL : session_find_slice(session, work->from);
    const struct slice *end = slice ? session->slices + session->slice_count : NULL;
    for (int i = 0; slice && slice < end && i < LOOK_SLICES && !work->chunk; i++, slice++) {
        work->from = slice->start + slice->tokens;
        if (!wants_recoding(slice->chunk, &work->level))
            continue;
        work->chunk = slice->chunk;
        chunk_ref(work->chunk);
    }
    pthread_mutex_unlock(session->lock);
    return slice && slice < end;
}

/* The next chunk that may be coarser. */
static bool find_work(struct work *work) {
    work->chunk = NULL;
    while (look(work) && !work->chunk)
        ;
    return work->chunk != NULL;
}

static int recode_page(struct keeper *keeper, const struct record_spec *spec,
                       const struct record *old, struct builder *builder, uint32_t layer,
                       enum page_part part) {
    const struct geometry *geometry = spec->geometry;
    uint32_t head_dim = geometry_head_dim(geometry, part);
    struct page_strides strides = {.token = (size_t)geometry->heads * head_dim, .head = head_dim};
    struct page_target target = {.tokens = old->tokens,
                                 .dtype = geometry->dtype,
                                 .values = keeper->page,
                                 .strides = strides};
    struct page_source source = {.shape = geometry_shape(geometry, part, old->tokens),
                                 .part = part,
                                 .level = spec->level,
                                 .sink_tokens = old->sink_tokens,
                                 .values = keeper->page,
                                 .strides = strides};
    struct loss loss;
    if (record_decode(old, layer, part, &target, keeper->workspace) < 0 ||
        record_page_loss(old, layer, part, &loss) < 0)
        return STORE_INTERNAL;
    return builder_put(builder, layer, &source, loss.error, keeper->workspace);
}

static bool is_stopping(struct keeper *keeper) {
    pthread_mutex_lock(&keeper->lock);
    bool stopping = keeper->stopping;
    pthread_mutex_unlock(&keeper->lock);
    return stopping;
}

static struct discard *take_discard(struct keeper *keeper) {
    pthread_mutex_lock(&keeper->lock);
    struct discard *discard = keeper->discards;
    if (discard)
        keeper->discards = discard->next;
    pthread_mutex_unlock(&keeper->lock);
    return discard;
}

static void free_discards(struct keeper *keeper) {
    struct discard *discard;
    while ((discard = take_discard(keeper)))
        while (discard->step(discard))
            ;
}

/* STORE_BUSY when the keeper is to stop. */
static int recode_pages(struct keeper *keeper, const struct record_spec *spec,
                        const struct record *old, struct builder *builder) {
    for (uint32_t layer = 0; layer < spec->geometry->layers; layer++)
        for (enum page_part part = PAGE_K; part <= PAGE_V; part++) {
            if (geometry_head_dim(spec->geometry, part) == 0)
                continue;
            free_discards(keeper);
            int status = is_stopping(keeper) ? STORE_BUSY
                                             : recode_page(keeper, spec, old, builder, layer, part);
            if (status != STORE_OK)
                return status;
        }
    return STORE_OK;
}

/* A coarser record of the same tokens, which says the same of itself, or NULL. */
static struct record *recode(struct keeper *keeper, const struct record *old,
                             const struct geometry *geometry, int level) {
    struct builder builder;
    struct record_spec spec;
    record_read_spec(old, &spec);
    spec.geometry = geometry;
    spec.level = level;
    int status = builder_init(&builder, keeper->store->pool, &keeper->budget, &spec);
    if (status != STORE_OK) {
        log_error("the keeper has no room to bring a chunk to level %d", level);
        return NULL;
    }
    status = recode_pages(keeper, &spec, old, &builder);
    if (status == STORE_OK)
        return builder_finish(&builder);
    if (status != STORE_BUSY)
        log_error("the keeper could not bring a chunk to level %d: error %d", level, status);
    builder_deinit(&builder);
    return NULL;
}

/* Swaps the records. The old one's bytes are held until its readers are done; then the new one
 * moves from the keeper's working space to the place in the store's budget that the old one had. */
static void replace(struct keeper *keeper, struct chunk *chunk, struct record *record) {
    uint64_t bytes = record->reserved_bytes;
    record->budget = &keeper->store->budget;
    struct record *old = chunk_replace(chunk, record);
    while (atomic_load(&old->pins) > 2) /* ours and the one that was the chunk's */
        nanosleep(&(struct timespec){.tv_nsec = UNPIN_WAIT_NS}, NULL);
    old->reserved_bytes -= bytes;
    record_unpin(old);
    record_unpin(old);
    budget_release(&keeper->budget, bytes);
}

static void count(struct keeper *keeper, const struct record *old, const struct record *record) {
    pthread_mutex_lock(&keeper->lock);
    keeper->stats.chunks++;
    keeper->stats.bytes_before += old->reserved_bytes;
    keeper->stats.bytes_after += record->reserved_bytes;
    pthread_mutex_unlock(&keeper->lock);
}

static void work_on_chunk(struct keeper *keeper, const struct work *work) {
    struct record *old = chunk_pin(work->chunk);
    struct record *record = recode(keeper, old, &work->session->geometry, work->level);
    if (record && record->reserved_bytes < old->reserved_bytes) {
        count(keeper, old, record);
        replace(keeper, work->chunk, record);
        return;
    }
    if (record) {
        record_unpin(record);
        atomic_store(&old->level_asked, work->level); /* it is finer and no larger: it stays */
    }
    record_unpin(old);
}

static void work_on_session(struct keeper *keeper, struct session *session) {
    struct work work = {.session = session};
    while (!is_stopping(keeper) && find_work(&work)) {
        work_on_chunk(keeper, &work);
        chunk_unref(work.chunk);
    }
}

static bool is_wanted(struct keeper *keeper) {
    pthread_mutex_lock(&keeper->lock);
    bool wanted = keeper->stopping || keeper->first;
    pthread_mutex_unlock(&keeper->lock);
    return wanted;
}

/* What was shared with a finer session that is gone may be coarser now; whose it is nobody knows,
 * so all are looked at, unless there is other work. */
static void sweep(struct keeper *keeper) {
    struct store *store = keeper->store;
    uint64_t loosened = atomic_load(&store->usage.loosened);
    if (loosened == keeper->swept_loosened)
        return;
    struct session *session = list_after(&store->list, 0);
    while (session && !is_wanted(keeper)) {
        work_on_session(keeper, session);
        session = list_next(&store->list, session);
    }
    if (session)
        session_unref(session);
    else
        keeper->swept_loosened = loosened;
}

/* With nothing queued: frees, sweeps, touches memory ahead, or sleeps. The lock is held again when
 * it returns. */
static void rest(struct keeper *keeper) {
    pthread_mutex_unlock(&keeper->lock);
    free_discards(keeper);
    sweep(keeper);
    bool more = pool_warm_up(keeper->store->pool);
    pthread_mutex_lock(&keeper->lock);
    if (!more && !keeper->stopping && !keeper->first && !keeper->discards && !keeper->poked)
        pthread_cond_wait(&keeper->wake, &keeper->lock);
    keeper->poked = false;
}

/* The queue's first session, with the queue's reference, and the ticket that its work fulfils; NULL
 * when the keeper is to stop. */
static struct session *take(struct keeper *keeper, uint64_t *ticket) {
    pthread_mutex_lock(&keeper->lock);
    while (!keeper->stopping && !keeper->first)
        rest(keeper);
    struct session *session = keeper->stopping ? NULL : keeper->first;
    if (session) {
        keeper->first = session->next_in_queue;
        if (!keeper->first)
            keeper->last = NULL;
        session->queued = false;
        keeper->stats.queued_sessions--;
        *ticket = session->asked;
    }
    pthread_mutex_unlock(&keeper->lock);
    return session;
}

static void *run(void *argument) {
    struct keeper *keeper = argument;
    struct session *session;
    uint64_t ticket;
    setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
    while ((session = take(keeper, &ticket))) {
        free_discards(keeper);
        work_on_session(keeper, session);
        pthread_mutex_lock(&keeper->lock);
        session->done = ticket;
        pthread_mutex_unlock(&keeper->lock);
        session_unref(session);
        if (keeper->on_progress)
            keeper->on_progress(keeper->context);
    }
    return NULL;
}

int keeper_start(struct keeper *keeper, struct store *store, void (*on_progress)(void *context),
                 void *context) {
    *keeper = (struct keeper){.store = store, .on_progress = on_progress, .context = context};
    pthread_mutex_init(&keeper->lock, NULL);
    pthread_cond_init(&keeper->wake, NULL);
    budget_init(&keeper->budget, 0);
    keeper->workspace = aligned_alloc(64, PAGE_WORKSPACE_BYTES);
    keeper->page = aligned_alloc(64, PAGE_VALUES_MAX * sizeof(float));
    keeper->started = keeper->workspace && keeper->page &&
                      pthread_create(&keeper->thread, NULL, run, keeper) == 0;
    if (!keeper->started)
        log_error("the keeper could not be started");
    return keeper->started ? 0 : -1;
}

void keeper_stop(struct keeper *keeper) {
    if (!keeper->store)
        return;
    pthread_mutex_lock(&keeper->lock);
    keeper->stopping = true;
    pthread_cond_signal(&keeper->wake);
    pthread_mutex_unlock(&keeper->lock);
    if (keeper->started)
        pthread_join(keeper->thread, NULL);
    free_discards(keeper);
    for (struct session *session = keeper->first, *next; session; session = next) {
        next = session->next_in_queue;
        session_unref(session);
    }
    pthread_cond_destroy(&keeper->wake);
    pthread_mutex_destroy(&keeper->lock);
    free(keeper->workspace);
    free(keeper->page);
    *keeper = (struct keeper){0};
}

int keeper_provide(struct keeper *keeper, uint64_t record_bytes) {
    int status = STORE_OK;
    pthread_mutex_lock(&keeper->lock);
    uint64_t limit_bytes = atomic_load(&keeper->budget.limit_bytes);
    if (record_bytes > limit_bytes) {
        if (budget_reserve(&keeper->store->budget, record_bytes - limit_bytes))
            atomic_store(&keeper->budget.limit_bytes, record_bytes);
        else
            status = STORE_FULL;
    }
    pthread_mutex_unlock(&keeper->lock);
    return status;
}

void keeper_add(struct keeper *keeper, struct session *session) {
    pthread_mutex_lock(&keeper->lock);
    session->asked++;
    if (!session->queued) {
        session->queued = true;
        keeper->stats.queued_sessions++;
        session->next_in_queue = NULL;
        session_ref(session);
        if (keeper->last)
            keeper->last->next_in_queue = session;
        else
            keeper->first = session;
        keeper->last = session;
        pthread_cond_signal(&keeper->wake);
    }
    pthread_mutex_unlock(&keeper->lock);
}

void keeper_poke(struct keeper *keeper) {
    pthread_mutex_lock(&keeper->lock);
    keeper->poked = true;
    pthread_cond_signal(&keeper->wake);
    pthread_mutex_unlock(&keeper->lock);
}

uint64_t keeper_ticket(struct keeper *keeper, const struct session *session) {
    pthread_mutex_lock(&keeper->lock);
    uint64_t ticket = session->asked;
    pthread_mutex_unlock(&keeper->lock);
    return ticket;
}

bool keeper_has_done(struct keeper *keeper, const struct session *session, uint64_t ticket) {
    pthread_mutex_lock(&keeper->lock);
    bool done = session->done >= ticket;
    pthread_mutex_unlock(&keeper->lock);
    return done;
}

void keeper_read_stats(struct keeper *keeper, struct keeper_stats *stats) {
    pthread_mutex_lock(&keeper->lock);
    *stats = keeper->stats;
    pthread_mutex_unlock(&keeper->lock);
}

void keeper_discard(struct keeper *keeper, struct discard *discard) {
    pthread_mutex_lock(&keeper->lock);
    discard->next = keeper->discards;
    keeper->discards = discard;
    pthread_cond_signal(&keeper->wake);
    pthread_mutex_unlock(&keeper->lock);
}
