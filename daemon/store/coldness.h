/* The order in which sessions are done without: S3-FIFO (Yang, Zhang, Qiu, Yue, Vigfusson: "FIFO
 * queues are all you need for cache eviction", SOSP 2023), over sessions weighed by the bytes of
 * their values as they came, and a little for being there.
 *
 * It fits here: most sessions are written once and never read again, and a small first queue is rid
 * of them soon, so that a run of new ones does not push out what is resumed; a touch is a counter
 * and takes no lock; what is remembered of what is gone is bounded. Two things are otherwise than
 * in the paper. One touch is enough to leave the first queue: a session that was resumed once is
 * most likely resumed again. And who is chosen stays where it is until it is removed, for it is
 * given up piece by piece.
 *
 * Sessions are in two orders, that of all and that of their tenant's. What was evicted lately the
 * order of all remembers for both. Safe from any thread; the walk is one thread's.
 */
#ifndef DAEMON_STORE_COLDNESS_H
#define DAEMON_STORE_COLDNESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct session;
struct coldness;

enum {
    COLDNESS_TOUCHES_MAX = 3, /* more are not counted */
    COLDNESS_SMALL_SHARE = 10,
    COLDNESS_GHOSTS = 4096,
};

/* Which orders there are. */
enum coldness_lane { COLDNESS_OF_ALL, COLDNESS_OF_TENANT, COLDNESS_LANES };

/* New sessions are in the small queue, those that were touched there in the main one. */
enum coldness_place { COLDNESS_SMALL, COLDNESS_MAIN, COLDNESS_QUEUES };

/* A session's place, guarded by the order's lock but for the touches. */
struct coldness_link {
    struct coldness *order; /* NULL: in none */
    struct session *colder, *warmer;
    enum coldness_place place;
    uint64_t bytes;
    _Atomic uint32_t touches;
};

struct coldness_queue {
    struct session *coldest, *warmest;
    uint64_t bytes;
};

struct coldness {
    enum coldness_lane lane;
    pthread_mutex_t lock;
    struct coldness_queue queues[COLDNESS_QUEUES];
    size_t sessions;
    struct session *next_to_walk;
    enum coldness_place walked_first;
    uint64_t *ghosts; /* COLDNESS_GHOSTS hashes of names, 0: none; NULL: another order has them */
};

/* ghosts: zeroed, and the caller's; or NULL. */
void coldness_init(struct coldness *order, enum coldness_lane lane, uint64_t *ghosts);
void coldness_deinit(struct coldness *order);

/* A new session: warmest of its queue, which is the main one if its name was evicted lately. The
 * order of all comes first. */
void coldness_insert(struct coldness *order, struct session *session);

/* With evicted its name is remembered. */
void coldness_remove(struct coldness *order, struct session *session, bool evicted);

/* The session was read again, or written after a pause; in both orders. */
void coldness_touch(struct session *session);

/* With the session locked: its length has changed; in both orders. */
void coldness_weigh(struct session *session);

size_t coldness_sessions(struct coldness *order);

/* Whom to do without first, as a reference of the caller's; NULL: there is none. */
struct session *coldness_coldest(struct coldness *order) __attribute__((warn_unused_result));

/* That one cannot be done without now: it becomes the warmest of the main queue. */
void coldness_pass(struct coldness *order, struct session *session);

/* A walk over all, from coldness_coldest() on, a reference of the caller's each; NULL at the end.
 * What moves meanwhile may come twice, or not. */
void coldness_walk_begin(struct coldness *order);
struct session *coldness_walk(struct coldness *order) __attribute__((warn_unused_result));

#endif
