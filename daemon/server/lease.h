/* Buffers for frames, lent to connections that are receiving or sending.
 *
 * Large ones hold any frame; there is a fixed number of them, reserved ahead. Small ones are made
 * as needed, out of the budget, so that small requests are served while slow readers hold all large
 * ones. One pool serves all reactors. Who finds none has a place in the queue and comes again;
 * giving one back wakes those who wait, and it is lent to who came first.
 */
#ifndef DAEMON_SERVER_LEASE_H
#define DAEMON_SERVER_LEASE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/budget.h"
#include "daemon/base/charge.h"

enum { LEASE_SMALL_BYTES = 8192 };

struct lease {
    uint8_t *buffer; /* a large one 64-byte aligned; NULL: none */
    size_t bytes;
    struct charge charge; /* of a large one */
};

/* What a large buffer is charged to. To receive, it is refused beyond the quota; what is to be sent
 * is charged whatever the limit, and so stops the receiving. */
struct lease_payer {
    struct quota *bytes; /* NULL: nobody's yet */
    bool receives;
};

/* A place in the queue for large buffers; zeroed: none. It must stay where it is. */
struct lease_place {
    struct lease_place *next, *previous;
    bool taken;
};

struct lease_pool {
    pthread_mutex_t lock;
    struct budget *budget; /* of small buffers */
    char *memory;
    uint8_t **free_buffers;
    size_t count, free_count;
    struct lease_place *first, *last;
    _Atomic size_t waiting;
    _Atomic bool refused;             /* somebody, by a quota: to be told of the next return, too */
    void (*on_return)(void *context); /* while somebody waits; from the returning thread */
    void *context;
};

/* 0, or -1 without memory. deinit also after a failed init. */
int lease_pool_init(struct lease_pool *pool, size_t count, struct budget *budget,
                    void (*on_return)(void *context), void *context)
    __attribute__((warn_unused_result));
void lease_pool_deinit(struct lease_pool *pool);

/* What so many large buffers take. */
uint64_t lease_pool_bytes(size_t count);

/* A buffer for a frame of so many bytes, if its turn has come. Without one, false, with a place in
 * the queue unless it is a quota that is in the way: the caller is told by on_return and comes
 * again, or gives its place up. */
bool lease_take(struct lease_pool *pool, size_t bytes, struct lease_payer payer,
                struct lease *lease, struct lease_place *place) __attribute__((warn_unused_result));

/* A large buffer, if there are so many that nobody will miss it. */
bool lease_take_spare(struct lease_pool *pool, struct lease_payer payer, struct lease *lease)
    __attribute__((warn_unused_result));

/* Gives up a place, if there is one. */
void lease_leave(struct lease_pool *pool, struct lease_place *place);

/* Exchanges a large buffer for a small one with the same first bytes, where they fit and there is
 * memory. */
void lease_shrink(struct lease_pool *pool, struct lease *lease, size_t bytes);

/* Nothing happens without a lease. */
void lease_return(struct lease_pool *pool, struct lease *lease);

/* Large buffers, and places in the queue for one. */
struct lease_counts {
    size_t all, free, waiting;
};
struct lease_counts lease_counts(struct lease_pool *pool);

/* Whether somebody waits for a large buffer. */
bool lease_is_short(struct lease_pool *pool);

#endif
