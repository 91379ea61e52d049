/* All sessions, or all of a tenant, by id, ascending, in lanes: each in the first, those with an id
 * divisible by 16 in the second, too, by 256 in the third and so on, so that one is found by its id
 * in a few steps.
 *
 * Ids are given here and only grow: a new session comes last. Safe from any thread.
 */
#ifndef DAEMON_STORE_LIST_H
#define DAEMON_STORE_LIST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct session;

enum { LIST_LANES = 5, LIST_LANE_BITS = 4 };

struct list_link {
    struct session *next, *previous;
};

struct list {
    pthread_mutex_t lock;              /* of the fields below and of the sessions' links */
    struct list_link ends[LIST_LANES]; /* next: the first; previous: the last */
    uint64_t id_clock;
    bool is_tenants; /* whose sessions are in another list, too, that gives the ids */
};

void list_init(struct list *list, uint64_t first_id);
void list_init_of_tenant(struct list *list);
void list_deinit(struct list *list);

/* Ids that are given from now on are larger. */
void list_raise_ids(struct list *list, uint64_t id);

/* Gives the session its id, unless it has one, by which it takes its place. */
void list_append(struct list *list, struct session *session);
void list_remove(struct list *list, struct session *session);

/* The largest id that was given. */
uint64_t list_last_id(struct list *list);

/* The session with the smallest id above after_id, as a reference of the caller's, or NULL. */
struct session *list_after(struct list *list, uint64_t after_id)
    __attribute__((warn_unused_result));

/* The session behind this one, as a reference in exchange for the caller's, or NULL. */
struct session *list_next(struct list *list, struct session *session)
    __attribute__((warn_unused_result));

#endif
