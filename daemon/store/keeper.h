/* The keeper: the background thread that frees what was left to it, brings chunks to the level of
 * their owners, makes room when memory runs short, and when there is nothing to do touches free
 * memory ahead.
 *
 * It works from a queue of sessions, each session's chunks by several threads if there are coders,
 * one layer at a time, and holds no lock while coding. Its working space is a budget of its own,
 * taken out of the store's limit beforehand, so that it gets on when the pool is full.
 */
#ifndef DAEMON_STORE_KEEPER_H
#define DAEMON_STORE_KEEPER_H

#include <pthread.h>
#include <stdbool.h>

#include "daemon/base/budget.h"
#include "daemon/store/coders.h"
#include "daemon/store/discard.h"

struct store;
struct session;

struct keeper_stats {
    uint64_t queued_sessions;
    uint64_t chunks, bytes_before, bytes_after; /* coded anew since the start */
};

struct keeper {
    struct store *store;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* of the fields below */
    pthread_cond_t wake;
    bool stopping, poked;
    struct session *first, *last; /* each with a reference */
    struct discard *discards;     /* to be freed, before all else */
    struct keeper_stats stats;
    uint64_t swept_loosened; /* usage.loosened when the last sweep began; the keeper's own */
    struct budget budget;    /* working space */
    size_t threads;          /* that code, its own among them */
    struct recoder recoder;
    struct coders coders;
    void (*on_progress)(void *context);
    void *context;
};

struct keeper_options {
    size_t threads; /* that code, at least 1: each holds RECODER_BYTES */
    void (*on_progress)(void *context);
    void *context;
};

/* 0, or -1, logged; deinit also after that. */
int keeper_start(struct keeper *keeper, struct store *store, const struct keeper_options *options)
    __attribute__((warn_unused_result));

/* Ends its threads; what it is asked for afterwards is left undone. */
void keeper_stop(struct keeper *keeper);

/* Once nobody asks it for anything any more: frees what is left to it. */
void keeper_deinit(struct keeper *keeper);

/* Takes working space for chunks of up to so many bytes, one a thread. STORE_OK or STORE_FULL. */
int keeper_provide(struct keeper *keeper, uint64_t chunk_bytes) __attribute__((warn_unused_result));

/* Asks the keeper to look at the session. */
void keeper_add(struct keeper *keeper, struct session *session);

/* Memory was used, or somebody waits for it: there may be some to touch ahead, or to free. */
void keeper_poke(struct keeper *keeper);

/* A ticket for all that the keeper was asked so far to do for the session, and whether it has. */
uint64_t keeper_ticket(struct keeper *keeper, const struct session *session);
bool keeper_has_done(struct keeper *keeper, const struct session *session, uint64_t ticket);

void keeper_read_stats(struct keeper *keeper, struct keeper_stats *stats);

/* Leaves it to the keeper to free this. */
void keeper_discard(struct keeper *keeper, struct discard *discard);

#endif
