/* The keeper: the background thread that brings chunks to their session's level, and when there are
 * none touches free memory ahead.
 *
 * It works from a queue of sessions, one page at a time, and holds no lock while coding. Its
 * working space is a budget of its own, taken out of the store's limit beforehand, so that it gets
 * on when the pool is full.
 */
#ifndef DAEMON_STORE_KEEPER_H
#define DAEMON_STORE_KEEPER_H

#include <pthread.h>
#include <stdbool.h>

#include "daemon/base/budget.h"
#include "daemon/store/record.h"

struct store;
struct session;

struct keeper {
    struct store *store;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* of the fields below */
    pthread_cond_t wake;
    bool stopping, poked;
    struct session *first, *last; /* each with a reference */
    struct session *current;
    struct budget budget; /* working space */
    void *workspace, *page;
    void (*on_progress)(void *context);
    void *context;
};

/* Bytes that the keeper holds beside its budget. */
enum { KEEPER_FIXED_BYTES = PAGE_WORKSPACE_BYTES + PAGE_VALUES_MAX * 4 };

int keeper_start(struct keeper *keeper, struct store *store, void (*on_progress)(void *context),
                 void *context) __attribute__((warn_unused_result));
void keeper_stop(struct keeper *keeper);

/* Takes working space for records of up to so many bytes. STORE_OK or STORE_FULL. */
int keeper_provide(struct keeper *keeper, uint64_t record_bytes)
    __attribute__((warn_unused_result));

/* Asks the keeper to look at the session. */
void keeper_add(struct keeper *keeper, struct session *session);

/* The pool was used: there may be memory to touch ahead. */
void keeper_poke(struct keeper *keeper);

/* False while the session waits for the keeper or is being worked on. */
bool keeper_is_done_with(struct keeper *keeper, const struct session *session);

#endif
