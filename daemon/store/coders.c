#include "daemon/store/coders.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* False when the coders are to stop. */
static bool await_job(struct coder *coder) {
    struct coders *coders = coder->coders;
    pthread_mutex_lock(&coders->lock);
    while (!coder->busy && !coders->stopping)
        pthread_cond_wait(&coders->changed, &coders->lock);
    bool has_job = coder->busy;
    pthread_mutex_unlock(&coders->lock);
    return has_job;
}

static void finish_job(struct coder *coder, const struct recode_result *result) {
    struct coders *coders = coder->coders;
    chunk_unref(coder->job.chunk);
    coders->on_done(coders->context, result);
    pthread_mutex_lock(&coders->lock);
    coder->busy = false;
    pthread_cond_broadcast(&coders->changed);
    pthread_mutex_unlock(&coders->lock);
}

static void *run(void *argument) {
    struct coder *coder = argument;
    pthread_setname_np(pthread_self(), "coder");
    setpriority(PRIO_PROCESS, (id_t)gettid(), coder->coders->nice);
    while (await_job(coder)) {
        struct recode_result result = recode_chunk(&coder->recoder, &coder->job);
        finish_job(coder, &result);
    }
    return NULL;
}

static int start_one(struct coders *coders, const struct recoder *recoder) {
    struct coder *coder = &coders->coders[coders->count++];
    *coder = (struct coder){.coders = coders, .recoder = *recoder};
    if (recoder_init(&coder->recoder) < 0)
        return -1;
    coder->started = pthread_create(&coder->thread, NULL, run, coder) == 0;
    return coder->started ? 0 : -1;
}

int coders_start(struct coders *coders, size_t count, const struct recoder *recoder) {
    pthread_mutex_init(&coders->lock, NULL);
    pthread_cond_init(&coders->changed, NULL);
    coders->coders = calloc(count ? count : 1, sizeof *coders->coders);
    int status = coders->coders ? 0 : -1;
    for (size_t i = 0; status == 0 && i < count; i++)
        status = start_one(coders, recoder);
    return status;
}

void coders_stop(struct coders *coders) {
    pthread_mutex_lock(&coders->lock);
    coders->stopping = true;
    pthread_cond_broadcast(&coders->changed);
    pthread_mutex_unlock(&coders->lock);
    for (size_t i = 0; i < coders->count; i++) {
        if (coders->coders[i].started)
            pthread_join(coders->coders[i].thread, NULL);
        recoder_deinit(&coders->coders[i].recoder);
    }
    free(coders->coders);
    pthread_cond_destroy(&coders->changed);
    pthread_mutex_destroy(&coders->lock);
}

static struct coder *find(const struct coders *coders, bool busy) {
    for (size_t i = 0; i < coders->count; i++)
        if (coders->coders[i].busy == busy)
            return &coders->coders[i];
    return NULL;
}

bool coders_give(struct coders *coders, const struct recode_job *job) {
    pthread_mutex_lock(&coders->lock);
    struct coder *coder = find(coders, false);
    if (coder) {
        coder->job = *job;
        coder->busy = true;
        pthread_cond_broadcast(&coders->changed);
    }
    pthread_mutex_unlock(&coders->lock);
    return coder != NULL;
}

void coders_await(struct coders *coders) {
    pthread_mutex_lock(&coders->lock);
    while (find(coders, true))
        pthread_cond_wait(&coders->changed, &coders->lock);
    pthread_mutex_unlock(&coders->lock);
}
