#include "daemon/store/keeper.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/store/coarsening.h"
#include "daemon/store/sharing.h"
#include "daemon/store/spill.h"
#include "daemon/store/store.h"

enum { NICE = 10 };

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

/* Between two layers: what waits to be freed does not wait for a whole chunk. */
static bool go_on(void *context) {
    struct keeper *keeper = context;
    free_discards(keeper);
    return !is_stopping(keeper);
}

static bool coder_goes_on(void *context) {
    return !is_stopping(context);
}

static void count(void *context, const struct recode_result *result) {
    struct keeper *keeper = context;
    pthread_mutex_lock(&keeper->lock);
    keeper->stats.chunks += result->bytes_before > 0;
    keeper->stats.bytes_before += result->bytes_before;
    keeper->stats.bytes_after += result->bytes_after;
    pthread_mutex_unlock(&keeper->lock);
}

/* A coder does it, or if all are busy the keeper itself. */
static void work_on_chunk(struct keeper *keeper, const struct recode_job *job) {
    if (coders_give(&keeper->coders, job))
        return;
    struct recode_result result = recode_chunk(&keeper->recoder, job);
    count(keeper, &result);
    chunk_unref(job->chunk);
}

static void code_session(struct keeper *keeper, struct session *session,
                         void (*between)(struct keeper *keeper)) {
    struct coarsening work = {.session = session};
    sharing_share(keeper->store, session, go_on, keeper);
    while (!is_stopping(keeper) && coarsening_find(&work)) {
        work_on_chunk(keeper, &(struct recode_job){work.chunk, &session->geometry, work.level});
        between(keeper);
    }
    coders_await(&keeper->coders);
    sharing_share(keeper->store, session, go_on, keeper);
}

static void do_nothing(struct keeper *keeper) {
    (void)keeper;
}

static uint64_t saved_bytes(struct keeper *keeper) {
    struct keeper_stats stats;
    keeper_read_stats(keeper, &stats);
    return stats.bytes_before - stats.bytes_after;
}

static void age_for_room(struct keeper *keeper, struct session *session) {
    uint64_t before = saved_bytes(keeper);
    code_session(keeper, session, do_nothing);
    pressure_has_aged(&keeper->store->pressure, saved_bytes(keeper) - before);
    session_unref(session);
}

/* False if there is nothing of the payer's that could go. */
static bool make_payer_pay(struct keeper *keeper) {
    struct pressure *pressure = &keeper->store->pressure;
    struct session *session = pressure_age(pressure);
    if (session)
        age_for_room(keeper, session);
    bool made = session || pressure_spill(pressure) || pressure_evict(pressure);
    free_discards(keeper);
    return made;
}

static bool make_some_room(struct keeper *keeper) {
    struct pressure *pressure = &keeper->store->pressure;
    pressure_choose_payer(pressure);
    return make_payer_pay(keeper) || (pressure_ask_others(pressure) && make_payer_pay(keeper));
}

static void relieve(struct keeper *keeper) {
    struct pressure *pressure = &keeper->store->pressure;
    bool more = true;
    while (more && pressure_goes_on(pressure) && !is_stopping(keeper)) {
        uint64_t begun_ns = clock_thread_ns();
        more = make_some_room(keeper);
        if (!more)
            pressure_rest(pressure, clock_thread_ns() - begun_ns);
    }
}

/* As pressure.h says. */
static void make_room(struct keeper *keeper) {
    struct pressure *pressure = &keeper->store->pressure;
    pressure_begin_round(pressure);
    while (!is_stopping(keeper) && pressure_next(pressure))
        relieve(keeper);
}

/* What is queued frees memory, too, and loses nothing that was not asked for. */
static void make_room_if_urgent(struct keeper *keeper) {
    if (pressure_is_urgent(&keeper->store->pressure))
        make_room(keeper);
}

static void work_on_session(struct keeper *keeper, struct session *session) {
    code_session(keeper, session, make_room_if_urgent);
}

static bool is_wanted(struct keeper *keeper) {
    pthread_mutex_lock(&keeper->lock);
    bool wanted = keeper->stopping || keeper->first;
    pthread_mutex_unlock(&keeper->lock);
    return wanted;
}

/* False if there was other work before all were looked at. */
static bool sweep_list(struct keeper *keeper, struct list *list) {
    struct session *session = list_after(list, 0);
    while (session && !is_wanted(keeper)) {
        work_on_session(keeper, session);
        session = list_next(list, session);
    }
    if (session)
        session_unref(session);
    return !session;
}

/* What was shared with a finer session that is gone may be coarser now; whose it is nobody knows,
 * so all are looked at, unless there is other work. */
static void sweep(struct keeper *keeper) {
    struct store *store = keeper->store;
    uint64_t loosened = atomic_load(&store->usage.loosened);
    if (loosened == keeper->swept_loosened)
        return;
    if (sweep_list(keeper, &store->list) && sweep_list(keeper, &store->chains))
        keeper->swept_loosened = loosened;
}

/* Some of what time asks for. Returns when there is more. */
static uint64_t age(struct keeper *keeper) {
    struct recode_result result;
    uint64_t next_ns = ageing_step(&keeper->store->ageing, &keeper->recoder, &result);
    count(keeper, &result);
    return next_ns;
}

/* With the lock held. */
static void sleep_until(struct keeper *keeper, uint64_t wake_ns) {
    struct timespec wake = {.tv_sec = (time_t)(wake_ns / CLOCK_NS_PER_S),
                            .tv_nsec = (long)(wake_ns % CLOCK_NS_PER_S)};
    if (wake_ns == DUE_NEVER)
        pthread_cond_wait(&keeper->wake, &keeper->lock);
    else
        pthread_cond_timedwait(&keeper->wake, &keeper->lock, &wake);
}

/* With nothing queued: frees, makes room, sweeps, ages, touches memory ahead, or sleeps. The lock
 * is held again when it returns. */
static void rest(struct keeper *keeper) {
    pthread_mutex_unlock(&keeper->lock);
    free_discards(keeper);
    (void)spill_relieve_disk(keeper->store);
    make_room(keeper);
    sweep(keeper);
    /* What could not be relieved is looked at again: sessions become idle, pins end. */
    uint64_t wake_ns = age(keeper), again_ns = pressure_look_again_ns(&keeper->store->pressure);
    bool more = pool_warm_up(keeper->store->pool);
    pthread_mutex_lock(&keeper->lock);
    if (!more && !keeper->stopping && !keeper->first && !keeper->discards && !keeper->poked)
        sleep_until(keeper, wake_ns < again_ns ? wake_ns : again_ns);
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
        age(keeper);
        if (keeper->on_progress)
            keeper->on_progress(keeper->context);
    }
    return NULL;
}

static int start_threads(struct keeper *keeper) {
    keeper->recoder = (struct recoder){.pool = keeper->store->pool,
                                       .budget = &keeper->store->budget,
                                       .working_space = &keeper->budget,
                                       .go_on = coder_goes_on,
                                       .context = keeper};
    keeper->coders = (struct coders){.nice = NICE, .on_done = count, .context = keeper};
    if (coders_start(&keeper->coders, keeper->threads - 1, &keeper->recoder) < 0)
        return -1;
    keeper->recoder.go_on = go_on;
    if (recoder_init(&keeper->recoder) < 0)
        return -1;
    keeper->started = pthread_create(&keeper->thread, NULL, run, keeper) == 0;
    return keeper->started ? 0 : -1;
}

int keeper_start(struct keeper *keeper, struct store *store, const struct keeper_options *options) {
    *keeper = (struct keeper){.store = store,
                              .threads = options->threads,
                              .on_progress = options->on_progress,
                              .context = options->context};
    pthread_mutex_init(&keeper->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&keeper->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    budget_init(&keeper->budget, 0);
    int status = start_threads(keeper);
    if (status < 0)
        log_error("the keeper could not be started");
    return status;
}

void keeper_stop(struct keeper *keeper) {
    if (!keeper->store || keeper->stopping)
        return;
    pthread_mutex_lock(&keeper->lock);
    keeper->stopping = true;
    pthread_cond_signal(&keeper->wake);
    pthread_mutex_unlock(&keeper->lock);
    if (keeper->started)
        pthread_join(keeper->thread, NULL);
    coders_stop(&keeper->coders);
    free_discards(keeper);
}

void keeper_deinit(struct keeper *keeper) {
    if (!keeper->store)
        return;
    keeper_stop(keeper);
    free_discards(keeper);
    for (struct session *session = keeper->first, *next; session; session = next) {
        next = session->next_in_queue;
        session_unref(session);
    }
    pthread_cond_destroy(&keeper->wake);
    pthread_mutex_destroy(&keeper->lock);
    recoder_deinit(&keeper->recoder);
    *keeper = (struct keeper){0};
}

int keeper_provide(struct keeper *keeper, uint64_t chunk_bytes) {
    int status = STORE_OK;
    chunk_bytes *= keeper->threads;
    pthread_mutex_lock(&keeper->lock);
    uint64_t limit_bytes = atomic_load(&keeper->budget.limit_bytes);
    if (chunk_bytes > limit_bytes) {
        if (budget_reserve(&keeper->store->budget, chunk_bytes - limit_bytes))
            atomic_store(&keeper->budget.limit_bytes, chunk_bytes);
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
