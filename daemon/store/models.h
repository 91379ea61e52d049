/* The models of a tenant whose sessions are or were here, a few of them, and how many more of their
 * tokens fit.
 */
#ifndef DAEMON_STORE_MODELS_H
#define DAEMON_STORE_MODELS_H

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/store/geometry.h"
#include "daemon/store/usage.h"

struct session;
struct store;
struct tenant;

enum { MODELS_MAX = 8 }; /* more are not known */

struct known_model {
    char name[256];
    size_t name_bytes; /* 0: a free place */
    struct geometry geometry;
    uint64_t sessions;          /* the place is another model's only when there is none */
    _Atomic uint64_t sample_id; /* the session or chain that was appended to last */
    double bits[USAGE_LEVELS];  /* a value takes at a level, as last measured; 0: never */
};

struct models {
    pthread_mutex_t lock;
    struct known_model known[MODELS_MAX];
};

void models_init(struct models *models);
void models_deinit(struct models *models);

/* With the session locked: it enters or leaves the store, or was appended to. */
void models_enter(struct session *session);
void models_leave(struct session *session);
void models_note_append(struct session *session);

struct model_capacity {
    char name[256];
    size_t name_bytes;
    uint64_t tokens[USAGE_LEVELS]; /* that fit into what is free now; by level - PAGE_LEVEL_MIN */
};

/* How many models of the tenant (NULL: the default) there are. What a value takes is measured on
 * the session that was appended to last; of levels that no such session had it is what is usual. */
size_t models_read(struct store *store, struct tenant *tenant,
                   struct model_capacity capacities[MODELS_MAX]);

#endif
