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

/* The next chunk that is not at the session's level, with a reference, and where it begins. */
static struct chunk *find_work(struct session *session, uint64_t from, uint64_t *start) {
    struct chunk *found = NULL;
    pthread_mutex_lock(session->lock);
    for (size_t i = 0; !session->deleted && !found && i < session->slice_count; i++) {
        const struct slice *slice = &session->slices[i];
        if (slice->start < from)
            continue;
        struct record *record = chunk_pin(slice->chunk);
        if (atomic_load(&record->level_asked) < session->level) {
            found = slice->chunk;
            chunk_ref(found);
            *start = slice->start;
        }
        record_unpin(record);
    }
    pthread_mutex_unlock(session->lock);
    return found;
}

static int recode_page(struct keeper *keeper, const struct session *session,
                       const struct record *old, struct builder *builder, uint32_t layer,
                       enum page_part part) {
    const struct geometry *geometry = &session->geometry;
    uint32_t head_dim = geometry_head_dim(geometry, part);
    struct page_strides strides = {.token = (size_t)geometry->heads * head_dim, .head = head_dim};
    struct page_target target = {.tokens = old->tokens,
                                 .dtype = geometry->dtype,
                                 .values = keeper->page,
                                 .strides = strides};
    struct page_source source = {.shape = geometry_shape(geometry, part, old->tokens),
                                 .part = part,
                                 .level = session->level,
                                 .sink_tokens = old->sink_tokens,
                                 .values = keeper->page,
                                 .strides = strides};
    struct loss loss;
    if (record_decode(old, layer, part, &target, keeper->workspace) < 0 ||
        record_page_loss(old, layer, part, &loss) < 0)
        return STORE_INTERNAL;
    return builder_put(builder, layer, &source, loss.error, keeper->workspace);
}

static int recode_pages(struct keeper *keeper, const struct session *session,
                        const struct record *old, struct builder *builder) {
    for (uint32_t layer = 0; layer < session->geometry.layers; layer++)
        for (enum page_part part = PAGE_K; part <= PAGE_V; part++) {
            if (geometry_head_dim(&session->geometry, part) == 0)
                continue;
            int status = recode_page(keeper, session, old, builder, layer, part);
            if (status != STORE_OK)
                return status;
        }
    return STORE_OK;
}

/* A coarser record of the same tokens, or NULL, logged. */
static struct record *recode(struct keeper *keeper, const struct session *session,
                             const struct record *old, uint64_t start) {
    struct builder builder;
    struct record_spec spec = {
        .tenant = STORE_TENANT,
        .tenant_bytes = strlen(STORE_TENANT),
        .model = session->model,
        .model_bytes = session->model_bytes,
        .session = session->name,
        .session_bytes = session->name_bytes,
        .session_id = session->id,
        .first_token = start,
        .tokens = old->tokens,
        .geometry = &session->geometry,
        .level = session->level,
    };
    int status = builder_init(&builder, keeper->store->pool, &keeper->budget, &spec);
    if (status == STORE_OK)
        status = recode_pages(keeper, session, old, &builder);
    if (status != STORE_OK) {
        log_error("the keeper could not bring a chunk to level %d: error %d", session->level,
                  status);
        builder_deinit(&builder);
        return NULL;
    }
    return builder_finish(&builder);
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

static void work_on_chunk(struct keeper *keeper, const struct session *session, struct chunk *chunk,
                          uint64_t start) {
    struct record *old = chunk_pin(chunk);
    struct record *record = recode(keeper, session, old, start);
    if (record && record->reserved_bytes < old->reserved_bytes) {
        replace(keeper, chunk, record);
        return;
    }
    if (record) {
        record_unpin(record);
        atomic_store(&old->level_asked, session->level); /* it is finer and no larger: it stays */
    }
    record_unpin(old);
}

static bool is_stopping(struct keeper *keeper) {
    pthread_mutex_lock(&keeper->lock);
    bool stopping = keeper->stopping;
    pthread_mutex_unlock(&keeper->lock);
    return stopping;
}

static void work_on_session(struct keeper *keeper, struct session *session) {
    struct chunk *chunk;
    uint64_t start = 0;
    while (!is_stopping(keeper) && (chunk = find_work(session, start, &start))) {
        work_on_chunk(keeper, session, chunk, start);
        chunk_unref(chunk);
        start++; /* a chunk that stayed as it was is not looked at again */
    }
}

/* With nothing queued: touches memory ahead, or sleeps. The lock is held again when it returns. */
static void rest(struct keeper *keeper) {
    pthread_mutex_unlock(&keeper->lock);
    bool more = pool_warm_up(keeper->store->pool);
    pthread_mutex_lock(&keeper->lock);
    if (!more && !keeper->stopping && !keeper->first && !keeper->poked)
        pthread_cond_wait(&keeper->wake, &keeper->lock);
    keeper->poked = false;
}

/* The queue's first session, with the queue's reference; NULL when the keeper is to stop. */
static struct session *take(struct keeper *keeper) {
    pthread_mutex_lock(&keeper->lock);
    keeper->current = NULL;
    while (!keeper->stopping && !keeper->first)
        rest(keeper);
    struct session *session = keeper->stopping ? NULL : keeper->first;
    if (session) {
        keeper->first = session->next_in_queue;
        if (!keeper->first)
            keeper->last = NULL;
        session->queued = false;
        keeper->current = session;
    }
    pthread_mutex_unlock(&keeper->lock);
    return session;
}

static void *run(void *argument) {
    struct keeper *keeper = argument;
    struct session *session;
    setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
    while ((session = take(keeper))) {
        work_on_session(keeper, session);
        pthread_mutex_lock(&keeper->lock);
        keeper->current = NULL;
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
    if (!session->queued) {
        session->queued = true;
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

bool keeper_is_done_with(struct keeper *keeper, const struct session *session) {
    pthread_mutex_lock(&keeper->lock);
    bool done = !session->queued && keeper->current != session;
    pthread_mutex_unlock(&keeper->lock);
    return done;
}
