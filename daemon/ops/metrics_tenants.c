#include "daemon/ops/metrics_tenants.h"

#include "daemon/ops/metrics.h"
#include "daemon/store/info.h"

enum { LABELS_BYTES = TENANT_NAME_BYTES_MAX + 64 };

struct family {
    const char *name, *help;
    double (*value)(const struct tenant *tenant);
};

static struct store_totals totals_of(const struct tenant *tenant) {
    struct store_totals totals;
    info_totals_of(tenant, &totals);
    return totals;
}

static double sessions(const struct tenant *tenant) {
    return (double)totals_of(tenant).sessions;
}

static double tokens(const struct tenant *tenant) {
    return (double)totals_of(tenant).tokens;
}

static double logical_bytes(const struct tenant *tenant) {
    return (double)totals_of(tenant).logical_bytes;
}

static double stored_bytes(const struct tenant *tenant) {
    return (double)totals_of(tenant).unique_bytes;
}

static double disk_bytes(const struct tenant *tenant) {
    return (double)totals_of(tenant).disk_bytes;
}

static const struct family families[] = {
    {"kvquantd_tenant_sessions", "Sessions of the tenant.", sessions},
    {"kvquantd_tenant_tokens", "Tokens of these.", tokens},
    {"kvquantd_tenant_logical_bytes", "K and V of these as they came.", logical_bytes},
    {"kvquantd_tenant_stored_bytes", "What these take of memory, what they share once.",
     stored_bytes},
    {"kvquantd_tenant_disk_bytes", "What these take on disk, what they share once.", disk_bytes},
};

static void write_family(struct exposition *exposition, const struct family *family,
                         struct tenant *const *tenants, size_t count) {
    char labels[LABELS_BYTES];
    exposition_begin(exposition, family->name, EXPOSITION_GAUGE, family->help);
    for (size_t i = 0; i < count; i++) {
        snprintf(labels, sizeof labels, "tenant=\"%s\"", tenants[i]->name);
        exposition_add(exposition, labels, family->value(tenants[i]));
    }
}

struct amount {
    double logical_bytes, stored_bytes;
};

enum tier { MEMORY, DISK, TIERS };
enum place { SINKS = USAGE_LEVELS, TAILS, PLACES }; /* beside the levels */

static const char *const tier_names[TIERS] = {"memory", "disk"};

static const char *place_name(int place) {
    return place == SINKS   ? "sinks"
           : place == TAILS ? "tails"
                            : metrics_level_name(place + PAGE_LEVEL_MIN);
}

static struct amount amount_of(const struct usage_count *count) {
    return (struct amount){(double)atomic_load(&count->logical_bytes),
                           (double)atomic_load(&count->bytes)};
}

/* On disk a chunk is of one level, sinks and all. */
static struct amount read_amount(const struct usage *usage, enum tier tier, int place) {
    if (tier == DISK)
        return place < USAGE_LEVELS ? amount_of(&usage->disk[place]) : (struct amount){0};
    if (place == TAILS)
        return (struct amount){(double)atomic_load(&usage->tail_logical_bytes),
                               (double)atomic_load(&usage->tails_bytes)};
    return amount_of(place == SINKS ? &usage->sinks : &usage->levels[place]);
}

static void write_amounts_of(struct exposition *exposition, const struct tenant *tenant,
                             bool logical) {
    char labels[LABELS_BYTES];
    for (enum tier tier = MEMORY; tier < TIERS; tier++)
        for (int place = 0; place < PLACES; place++) {
            struct amount amount = read_amount(&tenant->usage, tier, place);
            if (amount.stored_bytes == 0)
                continue;
            snprintf(labels, sizeof labels, "tenant=\"%s\",tier=\"%s\",level=\"%s\"", tenant->name,
                     tier_names[tier], place_name(place));
            exposition_add(exposition, labels,
                           logical ? amount.logical_bytes : amount.stored_bytes);
        }
}

static void write_ratios_of(struct exposition *exposition, const struct tenant *tenant) {
    char labels[LABELS_BYTES];
    for (enum tier tier = MEMORY; tier < TIERS; tier++) {
        struct amount sum = {0};
        for (int place = 0; place < PLACES; place++) {
            struct amount amount = read_amount(&tenant->usage, tier, place);
            sum.logical_bytes += amount.logical_bytes;
            sum.stored_bytes += amount.stored_bytes;
        }
        if (sum.stored_bytes == 0)
            continue;
        snprintf(labels, sizeof labels, "tenant=\"%s\",tier=\"%s\"", tenant->name,
                 tier_names[tier]);
        exposition_add(exposition, labels, sum.logical_bytes / sum.stored_bytes);
    }
}

static const char *const resource_names[TENANT_RESOURCES] = {
    [TENANT_MEMORY] = "memory_bytes",       [TENANT_DISK] = "disk_bytes",
    [TENANT_IN_FLIGHT] = "in_flight_bytes", [TENANT_SESSIONS] = "sessions",
    [TENANT_CONNECTIONS] = "connections",
};

enum figure { USED, LIMIT, REFUSED };

static void write_figures_of(struct exposition *exposition, const struct tenant *tenant,
                             enum figure figure) {
    char labels[LABELS_BYTES];
    for (enum tenant_resource resource = TENANT_MEMORY; resource < TENANT_RESOURCES; resource++) {
        struct tenant_use use = tenant_use(tenant, resource);
        uint64_t values[] = {[USED] = use.used, [LIMIT] = use.limit, [REFUSED] = use.refused};
        if (use.limit == QUOTA_NONE)
            continue;
        snprintf(labels, sizeof labels, "tenant=\"%s\",quota=\"%s\"", tenant->name,
                 resource_names[resource]);
        exposition_add(exposition, labels, (double)values[figure]);
    }
}

/* Of quotas that there are. */
static void write_quotas(struct exposition *exposition, struct tenant *const *tenants,
                         size_t count) {
    exposition_begin(exposition, "kvquantd_tenant_quota_used", EXPOSITION_GAUGE,
                     "What the tenant has of what it may have, in the quota's unit.");
    for (size_t i = 0; i < count; i++)
        write_figures_of(exposition, tenants[i], USED);
    exposition_begin(exposition, "kvquantd_tenant_quota_limit", EXPOSITION_GAUGE,
                     "What the tenant may have, as `limit` lines of the tenants file say.");
    for (size_t i = 0; i < count; i++)
        write_figures_of(exposition, tenants[i], LIMIT);
    exposition_begin(exposition, "kvquantd_tenant_quota_refused", EXPOSITION_COUNTER,
                     "Times that the quota did not let something through at once.");
    for (size_t i = 0; i < count; i++)
        write_figures_of(exposition, tenants[i], REFUSED);
}

void metrics_write_tenants(struct exposition *exposition, struct tenants *tenants) {
    struct tenant *all[METRICS_TENANTS];
    size_t count = tenants_read(tenants, all, METRICS_TENANTS);
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        write_family(exposition, &families[i], all, count);
    exposition_begin(exposition, "kvquantd_tenant_level_stored_bytes", EXPOSITION_GAUGE,
                     "What K and V of the tenant take, by tier and level; a chunk on disk is of "
                     "its coarsest page's.");
    for (size_t i = 0; i < count; i++)
        write_amounts_of(exposition, all[i], false);
    exposition_begin(exposition, "kvquantd_tenant_level_logical_bytes", EXPOSITION_GAUGE,
                     "The same K and V as they came; what is in both tiers is in both.");
    for (size_t i = 0; i < count; i++)
        write_amounts_of(exposition, all[i], true);
    exposition_begin(exposition, "kvquantd_tenant_compression_ratio", EXPOSITION_GAUGE,
                     "K and V of the tenant as they came by what they take, by tier.");
    for (size_t i = 0; i < count; i++)
        write_ratios_of(exposition, all[i]);
    write_quotas(exposition, all, count);
}
