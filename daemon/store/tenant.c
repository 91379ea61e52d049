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

static void init(struct tenants *tenants, struct tenant *tenant, const char *name,
                 size_t name_bytes) {
    tenant->usage.whole = tenants->usage;
    memcpy(tenant->name, name, name_bytes);
    tenant->name_bytes = name_bytes;
    models_init(&tenant->models);
    list_init_of_tenant(&tenant->sessions);
    list_init_of_tenant(&tenant->chains);
}

static void deinit(struct tenant *tenant) {
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
