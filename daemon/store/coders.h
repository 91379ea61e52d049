/* Coders: threads beside the keeper's own that bring chunks to their level, one chunk each.
 *
 * The keeper alone gives them work, and waits for them before it lets go of what the work is about.
 */
#ifndef DAEMON_STORE_CODERS_H
#define DAEMON_STORE_CODERS_H

#include <pthread.h>

#include "daemon/store/recode.h"

struct coders;

struct coder {
    struct coders *coders;
    pthread_t thread;
    bool started, busy;
    struct recode_job job; /* with a reference to its chunk */
    struct recoder recoder;
};

struct coders {
    struct coder *coders;
    size_t count;
    int nice;
    void (*on_done)(void *context, const struct recode_result *result); /* from a coder's thread */
    void *context;
    pthread_mutex_t lock; /* of the fields below, and of `busy` and `job` */
    pthread_cond_t changed;
    bool stopping;
};

/* Starts so many threads, each with a recoder like this one. 0, or -1; stop also after that. */
int coders_start(struct coders *coders, size_t count, const struct recoder *recoder)
    __attribute__((warn_unused_result));
void coders_stop(struct coders *coders);

/* Takes over the job's reference, if there is an idle coder. */
bool coders_give(struct coders *coders, const struct recode_job *job)
    __attribute__((warn_unused_result));

/* Waits until none has anything to do. */
void coders_await(struct coders *coders);

#endif
