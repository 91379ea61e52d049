/* Tenants: whose sessions, models, prefixes and blocks are whose.
 *
 * A tenant that was named once stays as long as the store. Within the store it is known by its
 * address, so that whatever is looked up is compared in full. All that it holds of memory it
 * reserves of a budget of its own, which is a part of the store's: what sessions of it share, as
 * forks do, is charged to it once, and nothing is shared with another tenant. Safe from any thread.
 */
#ifndef DAEMON_STORE_TENANT_H
#define DAEMON_STORE_TENANT_H

#include <stdbool.h>

#include "daemon/base/budget.h"
#include "daemon/base/charge.h"
#include "daemon/base/rate.h"
#include "daemon/store/coldness.h"
#include "daemon/store/list.h"
#include "daemon/store/models.h"
#include "daemon/store/pressure.h"

enum { TENANT_NAME_BYTES_MAX = 64 };

/* Whose is what names no tenant; and in a table of limits, everybody. */
#define TENANT_DEFAULT "default"
#define TENANT_ANY "*"

/* What a tenant may have at most; QUOTA_NONE: as much as there is. */
struct tenant_limits {
    uint64_t memory_bytes, disk_bytes, in_flight_bytes;
    uint64_t sessions, connections;
    uint64_t requests; /* a second */
};

/* A row of a table of limits. */
struct tenant_quota {
    char tenant[TENANT_NAME_BYTES_MAX + 1]; /* "*": whoever has no row of its own */
    struct tenant_limits limits;
};

struct tenant {
    struct tenant *next;
    uint64_t hash; /* of its name; the default's is 0 */
    bool is_default;
    struct list sessions, chains;
    struct coldness coldness; /* of its sessions and chains */
    struct models models;
    struct usage usage;
    struct budget memory;
    struct quota disk_bytes, in_flight_bytes, session_count, connections;
    struct rate requests;
    struct pressure_state pressure; /* the keeper's, as is the next */
    uint64_t disk_refusals;         /* of disk_bytes, that were seen to */
    size_t name_bytes;
    char name[TENANT_NAME_BYTES_MAX + 1];
};

/* What a tenant has a quota of, apart from requests. */
enum tenant_resource {
    TENANT_MEMORY,
    TENANT_DISK,
    TENANT_IN_FLIGHT,
    TENANT_SESSIONS,
    TENANT_CONNECTIONS,
    TENANT_RESOURCES
};

struct tenant_use {
    uint64_t used, limit, refused; /* limit QUOTA_NONE: none */
};

struct tenants {
    struct budget *budget;
    struct usage *usage;  /* of all */
    pthread_mutex_t lock; /* of the list and the table */
    struct tenant_quota *quotas;
    size_t quota_count;
    struct tenant standard, *last;
};

void tenants_init(struct tenants *tenants, struct budget *budget, struct usage *usage);
void tenants_deinit(struct tenants *tenants);

/* The tenant of this name, made if there is none. NULL if it is no name of a tenant, or at the
 * memory limit. */
struct tenant *tenants_find(struct tenants *tenants, const char *name, size_t name_bytes);

/* The same, but none is made. */
struct tenant *tenants_known(struct tenants *tenants, const char *name, size_t name_bytes);

/* Of those that were named, in that order, the default first, at most so many. Returns how many. */
size_t tenants_read(struct tenants *tenants, struct tenant **all, size_t most);

/* The one behind it in the same order; behind NULL the default. NULL: there is none. */
struct tenant *tenants_next(struct tenants *tenants, const struct tenant *tenant);

/* From now on this table, which is taken over, limits tenants: those that hold more by now are
 * brought below it. */
void tenants_set_quotas(struct tenants *tenants, struct tenant_quota *quotas, size_t count);

struct tenant_use tenant_use(const struct tenant *tenant, enum tenant_resource resource);

/* 1 to 64 letters, digits, '.', '_' and '-'. */
bool tenant_is_name(const char *name, size_t name_bytes);

/* Where a key names a tenant, NULL stands for the default. */
static inline bool tenant_is(const struct tenant *tenant, const struct tenant *named) {
    return named ? tenant == named : tenant->is_default;
}

static inline uint64_t tenant_hash(const struct tenant *named) {
    return named ? named->hash : 0;
}

#endif
