#include "daemon/recall/recall.h"

#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/recall/search.h"
#include "daemon/store/error.h"

struct recall {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool stopping;
    struct catalogue catalogue;
    struct recall_search *first, **last; /* asked for, in their order */
    void (*on_done)(void *context);
    void *context;
    struct recall_stats stats;
};

/* --- its thread --- */

/* With the lock held, as the next. */
static void end_search(struct recall *recall, struct recall_search *search) {
    uint64_t us = (clock_now_ns() - search->begun_ns) / CLOCK_NS_PER_US;
    struct recall_stats *stats = &recall->stats;
    stats->recalls++;
    stats->hits += search->hit_count;
    stats->total_us += us;
    stats->max_us = us > stats->max_us ? us : stats->max_us;
    search->done = true;
    if (search->abandoned)
        search_free(search);
}

static void run_next(struct recall *recall) {
    struct recall_search *search = recall->first;
    recall->first = search->next;
    if (!recall->first)
        recall->last = &recall->first;
    bool wanted = !search->abandoned;
    pthread_mutex_unlock(&recall->lock);
    if (wanted)
        search_run(search, &recall->catalogue);
    pthread_mutex_lock(&recall->lock);
    end_search(recall, search);
    pthread_mutex_unlock(&recall->lock);
    recall->on_done(recall->context);
    pthread_mutex_lock(&recall->lock);
}

/* What was put before a search was asked for is there when it is made. */
static void *run(void *context) {
    struct recall *recall = context;
    pthread_mutex_lock(&recall->lock);
    while (!recall->stopping) {
        if (catalogue_apply(&recall->catalogue))
            continue;
        if (recall->first)
            run_next(recall);
        else
            pthread_cond_wait(&recall->wake, &recall->lock);
    }
    pthread_mutex_unlock(&recall->lock);
    return NULL;
}

/* --- from beginning to end --- */

struct recall *recall_new(const struct recall_options *options) {
    struct recall *recall = calloc(1, sizeof *recall);
    if (!recall)
        return NULL;
    recall->on_done = options->on_done;
    recall->context = options->context;
    recall->last = &recall->first;
    pthread_mutex_init(&recall->lock, NULL);
    pthread_cond_init(&recall->wake, NULL);
    if (catalogue_init(&recall->catalogue, &recall->lock, options->plugin) == 0 &&
        pthread_create(&recall->thread, NULL, run, recall) == 0)
        return recall;
    catalogue_deinit(&recall->catalogue);
    free(recall);
    return NULL;
}

static void on_batch(void *context, struct session *session, struct attachment *batch,
                     bool is_there) {
    struct recall *recall = context;
    pthread_mutex_lock(&recall->lock);
    if (catalogue_note(&recall->catalogue, session, batch, is_there))
        pthread_cond_signal(&recall->wake);
    pthread_mutex_unlock(&recall->lock);
}

struct store_batch_listener recall_listener(struct recall *recall) {
    return (struct store_batch_listener){on_batch, recall};
}

void recall_stop(struct recall *recall) {
    pthread_mutex_lock(&recall->lock);
    recall->stopping = true;
    pthread_cond_signal(&recall->wake);
    pthread_mutex_unlock(&recall->lock);
    pthread_join(recall->thread, NULL);
    while (recall->first) { /* abandoned, all of them */
        struct recall_search *search = recall->first;
        recall->first = search->next;
        search_free(search);
    }
    catalogue_close(&recall->catalogue);
}

void recall_free(struct recall *recall) {
    catalogue_deinit(&recall->catalogue);
    pthread_cond_destroy(&recall->wake);
    pthread_mutex_destroy(&recall->lock);
    free(recall);
}

struct recall_stats recall_stats(struct recall *recall) {
    pthread_mutex_lock(&recall->lock);
    struct recall_stats stats = recall->stats;
    pthread_mutex_unlock(&recall->lock);
    return stats;
}

/* --- searches --- */

const char *recall_vector_fault(const struct recall_query *query) {
    struct vectors_format format = {.dim = query->dim,
                                    .metric = query->metric == BATCH_COSINE
                                                  ? KVQ_RETRIEVER_COSINE
                                                  : KVQ_RETRIEVER_INNER_PRODUCT};
    enum vectors_fault fault = vectors_check_query(&format, query->vector);
    return fault == VECTORS_FINE ? NULL : vectors_fault_text(fault);
}

struct recall_search *recall_begin(struct recall *recall, const struct recall_query *query) {
    struct recall_search *search = search_new(query);
    if (!search)
        return NULL;
    search->recall = recall;
    search->begun_ns = clock_now_ns();
    pthread_mutex_lock(&recall->lock);
    *recall->last = search;
    recall->last = &search->next;
    pthread_cond_signal(&recall->wake);
    pthread_mutex_unlock(&recall->lock);
    return search;
}

int recall_result(struct recall_search *search, const struct recall_hit **hits, size_t *count) {
    pthread_mutex_lock(&search->recall->lock);
    int status = search->done ? search->status : STORE_WAIT;
    pthread_mutex_unlock(&search->recall->lock);
    *hits = search->hits;
    *count = status == STORE_OK ? search->hit_count : 0;
    return status;
}

void recall_end(struct recall_search *search) {
    struct recall *recall = search->recall;
    pthread_mutex_lock(&recall->lock);
    bool done = search->done;
    search->abandoned = true;
    pthread_mutex_unlock(&recall->lock);
    if (done)
        search_free(search);
}
