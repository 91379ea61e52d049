/* Tenants: whose sessions, models, prefixes and blocks are whose.
 *
 * A tenant that was named once stays as long as the store. Within the store it is known by its
 * address, so that whatever is looked up is compared in full. Safe from any thread.
 */
#ifndef DAEMON_STORE_TENANT_H
#define DAEMON_STORE_TENANT_H

#include <stdbool.h>

#include "daemon/base/budget.h"
#include "daemon/store/list.h"
#include "daemon/store/models.h"

enum { TENANT_NAME_BYTES_MAX = 64 };

/* Whose is what names no tenant. */
#define TENANT_DEFAULT "default"

struct tenant {
    struct tenant *next;
    uint64_t hash; /* of its name; the default's is 0 */
    bool is_default;
    struct list sessions, chains;
    struct models models;
    struct usage usage;
    size_t name_bytes;
    char name[TENANT_NAME_BYTES_MAX + 1];
};

struct tenants {
    struct budget *budget;
    struct usage *usage;  /* of all */
    pthread_mutex_t lock; /* of the list */
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
