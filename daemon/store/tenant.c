#include "daemon/store/tenant.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static bool is_letter(char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
           (letter >= '0' && letter <= '9') || letter == '.' || letter == '_' || letter == '-';
}

bool tenant_is_name(const char *name, size_t name_bytes) {
    for (size_t i = 0; i < name_bytes; i++)
        if (!is_letter(name[i]))
            return false;
    return name_bytes > 0 && name_bytes <= TENANT_NAME_BYTES_MAX;
}

/* The last row that names it counts, or else the last that is everybody's. */
static void set_limits(const struct tenants *tenants, struct tenant *tenant) {
    struct tenant_limits limits = {QUOTA_NONE, QUOTA_NONE, QUOTA_NONE,
                                   QUOTA_NONE, QUOTA_NONE, QUOTA_NONE};
    bool is_named = false;
    for (size_t i = 0; i < tenants->quota_count; i++) {
        const struct tenant_quota *row = &tenants->quotas[i];
        bool names = strcmp(row->tenant, tenant->name) == 0;
        if (names || (!is_named && strcmp(row->tenant, TENANT_ANY) == 0))
            limits = row->limits;
        is_named |= names;
    }
    atomic_store(&tenant->memory.limit_bytes, limits.memory_bytes);
    atomic_store(&tenant->disk_bytes.limit, limits.disk_bytes);
    atomic_store(&tenant->in_flight_bytes.limit, limits.in_flight_bytes);
    atomic_store(&tenant->session_count.limit, limits.sessions);
    atomic_store(&tenant->connections.limit, limits.connections);
    atomic_store(&tenant->requests.per_second, limits.requests);
}

static void init(struct tenants *tenants, struct tenant *tenant, const char *name,
                 size_t name_bytes) {
    tenant->usage.whole = tenants->usage;
    tenant->usage.disk_quota = &tenant->disk_bytes;
    memcpy(tenant->name, name, name_bytes);
    tenant->name_bytes = name_bytes;
    budget_init_part(&tenant->memory, tenants->budget);
    set_limits(tenants, tenant);
    coldness_init(&tenant->coldness, COLDNESS_OF_TENANT, NULL);
    models_init(&tenant->models);
    list_init_of_tenant(&tenant->sessions);
    list_init_of_tenant(&tenant->chains);
}

static void deinit(struct tenant *tenant) {
    coldness_deinit(&tenant->coldness);
    models_deinit(&tenant->models);
    list_deinit(&tenant->sessions);
    list_deinit(&tenant->chains);
}

void tenants_init(struct tenants *tenants, struct budget *budget, struct usage *usage) {
    *tenants = (struct tenants){.budget = budget, .usage = usage};
    pthread_mutex_init(&tenants->lock, NULL);
    tenants->standard.is_default = true;
    tenants->last = &tenants->standard;
    init(tenants, &tenants->standard, TENANT_DEFAULT, strlen(TENANT_DEFAULT));
}

static void drop(struct tenants *tenants, struct tenant *tenant) {
    deinit(tenant);
    budget_release(tenants->budget, sizeof *tenant);
    free(tenant);
}

void tenants_deinit(struct tenants *tenants) {
    for (struct tenant *tenant = tenants->standard.next, *next; tenant; tenant = next) {
        next = tenant->next;
        drop(tenants, tenant);
    }
    deinit(&tenants->standard);
    free(tenants->quotas);
    pthread_mutex_destroy(&tenants->lock);
}

static struct tenant *add(struct tenants *tenants, const char *name, size_t name_bytes) {
    struct tenant *tenant = NULL;
    if (!budget_reserve(tenants->budget, sizeof *tenant))
        return NULL;
    if (!(tenant = calloc(1, sizeof *tenant))) {
        budget_release(tenants->budget, sizeof *tenant);
        return NULL;
    }
    init(tenants, tenant, name, name_bytes);
    tenant->hash = XXH3_64bits(name, name_bytes);
    tenants->last->next = tenant;
    tenants->last = tenant;
    return tenant;
}

static struct tenant *find_locked(struct tenants *tenants, const char *name, size_t name_bytes) {
    struct tenant *tenant = &tenants->standard;
    while (tenant &&
           (tenant->name_bytes != name_bytes || memcmp(tenant->name, name, name_bytes) != 0))
        tenant = tenant->next;
    return tenant;
}

struct tenant *tenants_known(struct tenants *tenants, const char *name, size_t name_bytes) {
    pthread_mutex_lock(&tenants->lock);
    struct tenant *tenant = find_locked(tenants, name, name_bytes);
    pthread_mutex_unlock(&tenants->lock);
    return tenant;
}

struct tenant *tenants_find(struct tenants *tenants, const char *name, size_t name_bytes) {
    if (!tenant_is_name(name, name_bytes))
        return NULL;
    pthread_mutex_lock(&tenants->lock);
    struct tenant *tenant = find_locked(tenants, name, name_bytes);
    if (!tenant)
        tenant = add(tenants, name, name_bytes);
    pthread_mutex_unlock(&tenants->lock);
    return tenant;
}

size_t tenants_read(struct tenants *tenants, struct tenant **all, size_t most) {
    size_t count = 0;
    pthread_mutex_lock(&tenants->lock);
    for (struct tenant *tenant = &tenants->standard; tenant && count < most; tenant = tenant->next)
        all[count++] = tenant;
    pthread_mutex_unlock(&tenants->lock);
    return count;
}

struct tenant *tenants_next(struct tenants *tenants, const struct tenant *tenant) {
    pthread_mutex_lock(&tenants->lock);
    struct tenant *next = tenant ? tenant->next : &tenants->standard;
    pthread_mutex_unlock(&tenants->lock);
    return next;
}

void tenants_set_quotas(struct tenants *tenants, struct tenant_quota *quotas, size_t count) {
    pthread_mutex_lock(&tenants->lock);
    free(tenants->quotas);
    tenants->quotas = quotas;
    tenants->quota_count = count;
    for (struct tenant *tenant = &tenants->standard; tenant; tenant = tenant->next) {
        set_limits(tenants, tenant);
        budget_tell_waiting(&tenant->memory);
    }
    pthread_mutex_unlock(&tenants->lock);
}

static struct tenant_use use_of(const struct quota *quota) {
    return (struct tenant_use){atomic_load(&quota->used), atomic_load(&quota->limit),
                               atomic_load(&quota->refused)};
}

struct tenant_use tenant_use(const struct tenant *tenant, enum tenant_resource resource) {
    switch (resource) {
    case TENANT_DISK:
        return use_of(&tenant->disk_bytes);
    case TENANT_IN_FLIGHT:
        return use_of(&tenant->in_flight_bytes);
    case TENANT_SESSIONS:
        return use_of(&tenant->session_count);
    case TENANT_CONNECTIONS:
        return use_of(&tenant->connections);
    default:
        return (struct tenant_use){atomic_load(&tenant->memory.used_bytes),
                                   atomic_load(&tenant->memory.limit_bytes),
                                   atomic_load(&tenant->memory.refused)};
    }
}
