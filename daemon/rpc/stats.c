/* STATS: the daemon as a whole. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/recall/plugin.h"
#include "daemon/recall/recall.h"
#include "daemon/rpc/messages.h"
#include "daemon/rpc/stats.h"

/* Of all but the names of sockets, whose number the service manager chooses. */
enum { FRAME_BYTES = 16384, TEXT_FIELD_BYTES = 8 };

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    const struct rpc_daemon *daemon = request->context->daemon;
    request->frame_bytes = FRAME_BYTES;
    for (size_t i = 0; i < daemon->socket_count; i++)
        request->frame_bytes += TEXT_FIELD_BYTES + strlen(daemon->sockets[i]);
    return rpc_unpack(request, &kvq__stats_request__descriptor, control, control_bytes)
               ? WIRE_OK
               : request->fault.code;
}

/* Resident pages by /proc/self/statm, proc(5); 0 where it cannot be read. */
static uint64_t rss_bytes(void) {
    char line[128];
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file)
        return 0;
    const char *resident = fgets(line, sizeof line, file) ? strchr(line, ' ') : NULL;
    fclose(file);
    return resident ? strtoull(resident, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static void count_operations(struct rpc_daemon *daemon, Kvq__StatsReply *reply,
                             Kvq__OperationCount *counts) {
    for (int type = 0; type < RPC_TYPES; type++) {
        const struct rpc_operation *operation = rpc_find((uint8_t)type);
        if (!operation)
            continue;
        Kvq__OperationCount *count = &counts[reply->n_operations];
        kvq__operation_count__init(count);
        count->operation = (char *)operation->name;
        count->requests = atomic_load(&daemon->requests[type]);
        count->errors = atomic_load(&daemon->errors[type]);
        count->total_us = atomic_load(&daemon->total_us[type]);
        count->max_us = atomic_load(&daemon->max_us[type]);
        reply->operations[reply->n_operations++] = count;
    }
}

static void count_errors(struct rpc_daemon *daemon, Kvq__StatsReply *reply,
                         struct stats_report *report) {
    reply->errors = report->error_pointers;
    for (uint32_t code = 1; code < WIRE_ERROR_COUNT; code++) {
        uint64_t times = atomic_load(&daemon->faults[code]);
        if (times == 0)
            continue;
        Kvq__ErrorCount *count = &report->errors[reply->n_errors];
        kvq__error_count__init(count);
        count->error = (char *)wire_error_info(code)->name;
        count->count = times;
        reply->errors[reply->n_errors++] = count;
    }
}

static void add_level(Kvq__StatsReply *reply, struct stats_report *report, Kvq__Place place,
                      int level, uint64_t tokens, uint64_t bytes) {
    if (bytes == 0)
        return;
    Kvq__LevelInfo *message = &report->levels[reply->n_levels];
    kvq__level_info__init(message);
    message->place = place;
    message->level = level;
    message->tokens = tokens;
    message->bytes = bytes;
    reply->levels[reply->n_levels++] = message;
}

static void count_levels(struct usage *usage, Kvq__StatsReply *reply, struct stats_report *report) {
    reply->levels = report->level_pointers;
    add_level(reply, report, KVQ__PLACE__PLACE_SINKS, PAGE_EXACT, atomic_load(&usage->sinks.tokens),
              atomic_load(&usage->sinks.bytes));
    for (int level = PAGE_LEVEL_MIN; level <= PAGE_LEVEL_MAX; level++) {
        struct usage_count *count = &usage->levels[level - PAGE_LEVEL_MIN];
        add_level(reply, report, KVQ__PLACE__PLACE_PAGES, level, atomic_load(&count->tokens),
                  atomic_load(&count->bytes));
    }
    add_level(reply, report, KVQ__PLACE__PLACE_TAIL, PAGE_EXACT, atomic_load(&usage->tail_tokens),
              atomic_load(&usage->tails_bytes));
}

static void write_ageing(struct store *store, Kvq__StatsReply *reply, Kvq__AgeingStats *message) {
    struct ageing_stats stats;
    ageing_read_stats(&store->ageing, &stats);
    kvq__ageing_stats__init(message);
    message->chunks = stats.chunks;
    message->bytes_before = stats.bytes_before;
    message->bytes_after = stats.bytes_after;
    message->expired_sessions = stats.expired_sessions;
    message->coded_tails = stats.coded_tails;
    message->tail_bytes_before = stats.tail_bytes_before;
    message->tail_bytes_after = stats.tail_bytes_after;
    message->decoded_tails = stats.decoded_tails;
    reply->ageing = message;
}

static void write_store(struct store *store, Kvq__StatsReply *reply, struct stats_report *report) {
    struct store_totals totals;
    struct keeper_stats keeper;
    info_totals(store, &totals);
    keeper_read_stats(&store->keeper, &keeper);
    reply->limit_bytes = atomic_load(&store->budget.limit_bytes);
    reply->used_bytes = store_used_bytes(store);
    reply->sessions = totals.sessions;
    reply->tokens = totals.tokens;
    reply->bytes_16bit = totals.values * 2;
    reply->logical_bytes = totals.logical_bytes;
    reply->stored_bytes = totals.stored_bytes;
    reply->unique_bytes = totals.unique_bytes;
    reply->sessions_created = atomic_load(&store->usage.sessions_created);
    reply->sessions_deleted = atomic_load(&store->usage.sessions_deleted);
    reply->appends_waiting = atomic_load(&store->budget.waiting);
    for (struct tenant *tenant = NULL; (tenant = tenants_next(&store->tenants, tenant));)
        reply->appends_waiting += atomic_load(&tenant->memory.waiting);
    count_levels(&store->usage, reply, report);
    kvq__memory_stats__init(&report->memory);
    report->memory.pages_bytes = totals.pages_bytes;
    report->memory.tails_bytes = totals.tails_bytes;
    report->memory.sessions_bytes = totals.sessions_bytes;
    report->memory.fixed_bytes = store_fixed_bytes(store);
    report->memory.warm_bytes = pool_warm_bytes(store->pool);
    reply->memory = &report->memory;
    kvq__keeper_stats__init(&report->keeper);
    report->keeper.queued_sessions = keeper.queued_sessions;
    report->keeper.chunks = keeper.chunks;
    report->keeper.bytes_before = keeper.bytes_before;
    report->keeper.bytes_after = keeper.bytes_after;
    reply->keeper = &report->keeper;
    write_ageing(store, reply, &report->ageing);
}

static void write_pressure(struct rpc_daemon *daemon, Kvq__StatsReply *reply,
                           struct stats_report *report) {
    struct pressure_stats *stats = &daemon->store->pressure.stats;
    Kvq__PressureStats *message = &report->pressure;
    kvq__pressure_stats__init(message);
    message->rounds = atomic_load(&stats->rounds);
    message->aged_sessions = atomic_load(&stats->aged_sessions);
    message->aged_bytes = atomic_load(&stats->aged_bytes);
    message->spilled_chunks = atomic_load(&daemon->store->disk.counts.spilled_chunks);
    message->spilled_bytes = atomic_load(&daemon->store->disk.counts.spilled_bytes);
    message->coded_tails = atomic_load(&stats->coded_tails);
    message->coded_tail_bytes = atomic_load(&stats->coded_tail_bytes);
    message->evicted_sessions = atomic_load(&stats->evicted_sessions);
    message->evicted_tokens = atomic_load(&stats->evicted_tokens);
    message->evicted_bytes = atomic_load(&stats->evicted_bytes);
    message->deleted_sessions = atomic_load(&stats->deleted_sessions);
    message->refused = atomic_load(&daemon->faults[WIRE_FULL]);
    reply->pressure = message;
}

static void write_disk(struct disk_tier *tier, Kvq__StatsReply *reply, Kvq__DiskStats *message) {
    const struct disk_tier_counts *counts = &tier->counts;
    struct disk_stats stats;
    kvq__disk_stats__init(message);
    if (!disk_tier_is_on(tier))
        return;
    disk_read_stats(tier->disk, &stats);
    message->recovering = atomic_load(&tier->recovering);
    message->limit_bytes = stats.limit_bytes;
    message->used_bytes = stats.used_bytes;
    message->live_bytes = stats.live_bytes;
    message->written_bytes = stats.written_bytes;
    message->read_bytes = stats.read_bytes;
    message->spilled_chunks = atomic_load(&counts->spilled_chunks);
    message->spilled_bytes = atomic_load(&counts->spilled_bytes);
    message->loaded_chunks = atomic_load(&counts->loaded_chunks);
    message->loaded_bytes = atomic_load(&counts->loaded_bytes);
    message->failed_loads = atomic_load(&counts->failed_loads);
    message->saves = atomic_load(&counts->saves);
    message->failed_saves = atomic_load(&counts->failed_saves);
    message->syncs = stats.syncs;
    message->damaged = stats.scan_damaged + stats.damaged_reads;
    message->reclaimed_bytes = stats.reclaimed_bytes;
    message->queued_bytes = stats.queued_bytes;
    message->evicted_bytes = atomic_load(&counts->evicted_bytes);
    reply->disk = message;
}

static void write_model(const struct model_capacity *model, Kvq__ModelCapacity *message,
                        Kvq__LevelTokens tokens[USAGE_LEVELS],
                        Kvq__LevelTokens *pointers[USAGE_LEVELS]) {
    kvq__model_capacity__init(message);
    message->model = (ProtobufCBinaryData){model->name_bytes, (uint8_t *)model->name};
    message->levels = pointers;
    message->n_levels = USAGE_LEVELS;
    for (int i = 0; i < USAGE_LEVELS; i++) {
        kvq__level_tokens__init(&tokens[i]);
        tokens[i].level = i + PAGE_LEVEL_MIN;
        tokens[i].tokens = model->tokens[i];
        pointers[i] = &tokens[i];
    }
}

static void write_capacity(struct store *store, struct tenant *tenant, Kvq__StatsReply *reply,
                           struct stats_report *report) {
    reply->n_capacity = models_read(store, tenant, report->models);
    reply->capacity = report->capacity_pointers;
    for (size_t i = 0; i < reply->n_capacity; i++) {
        write_model(&report->models[i], &report->capacity[i], report->tokens[i],
                    report->token_pointers[i]);
        report->capacity_pointers[i] = &report->capacity[i];
    }
}

static void write_counters(struct rpc_daemon *daemon, Kvq__StatsReply *reply) {
    reply->connections = atomic_load(&daemon->connections);
    reply->connections_accepted = atomic_load(&daemon->connections_accepted);
    reply->connections_refused = atomic_load(&daemon->connections_refused);
    reply->connections_stalled = atomic_load(&daemon->connections_stalled);
    reply->appended_tokens = atomic_load(&daemon->store->usage.appended_tokens);
    reply->appended_bytes = atomic_load(&daemon->store->usage.appended_bytes);
    reply->fetched_tokens = atomic_load(&daemon->fetched_tokens);
    reply->fetched_bytes = atomic_load(&daemon->fetched_bytes);
    reply->fetch_hits = atomic_load(&daemon->fetch_hits);
    for (int why = 0; why < RPC_MISSES; why++)
        reply->fetch_misses += atomic_load(&daemon->fetch_misses[why]);
}

static void write_sharing(struct rpc_daemon *daemon, Kvq__SharingStats *message) {
    const struct store *store = daemon->store;
    kvq__sharing_stats__init(message);
    message->chunks = atomic_load(&store->usage.shared_chunks);
    message->bytes = atomic_load(&store->usage.shared_bytes);
    message->matches = atomic_load(&daemon->requests[WIRE_MATCH]);
    message->match_hits = atomic_load(&daemon->match_hits);
    message->matched_tokens = atomic_load(&daemon->matched_tokens);
    message->token_ids_bytes = atomic_load(&store->prefixes.bytes);
}

static void write_blocks(struct rpc_daemon *daemon, Kvq__BlockStats *message) {
    const struct block_index *index = &daemon->store->blocks;
    kvq__block_stats__init(message);
    message->blocks = atomic_load(&index->blocks);
    message->tokens = atomic_load(&index->tokens);
    message->chains = atomic_load(&daemon->store->usage.chains);
    message->index_bytes = atomic_load(&index->bytes);
    message->put = atomic_load(&daemon->blocks_put);
    message->asked = atomic_load(&daemon->blocks_asked);
    message->hits = atomic_load(&daemon->block_hits);
    message->lost = atomic_load(&index->lost);
}

static void write_attachments(struct rpc_daemon *daemon, Kvq__AttachmentStats *message) {
    struct usage *usage = &daemon->store->usage;
    kvq__attachment_stats__init(message);
    message->attachments = atomic_load(&usage->attachments.count);
    message->bytes = atomic_load(&usage->attachments.given_bytes);
    message->stored_bytes = atomic_load(&usage->attachments.bytes);
    message->put = atomic_load(&daemon->attachments_put);
    message->hits = atomic_load(&daemon->attachment_hits);
    message->misses = atomic_load(&daemon->attachment_misses);
    message->damaged = atomic_load(&usage->attachments_damaged);
}

/* The name is the plugin's, of any length. */
static void write_plugin(struct plugin_status status, struct stats_report *report) {
    Kvq__RecallStats *message = &report->recall;
    snprintf(report->plugin, sizeof report->plugin, "%s", status.name);
    message->plugin = report->plugin;
    message->plugin_on = status.on;
    message->plugin_searches = status.searches;
    message->plugin_timeouts = status.timeouts;
    message->plugin_faults = status.faulty_answers;
    message->dropped_hits = status.dropped_hits;
    message->plugin_bytes = status.memory_bytes;
}

static void write_recall(struct rpc_daemon *daemon, struct stats_report *report) {
    struct usage *usage = &daemon->store->usage;
    Kvq__RecallStats *message = &report->recall;
    kvq__recall_stats__init(message);
    kvq__entries__init(&report->entries);
    report->entries.entries = atomic_load(&usage->entries);
    report->entries.batches = atomic_load(&usage->batches.count);
    report->entries.stored_bytes = atomic_load(&usage->batches.bytes);
    message->entries = &report->entries;
    message->put = atomic_load(&daemon->entries_put);
    message->deleted = atomic_load(&daemon->entries_deleted);
    struct recall_stats stats = recall_stats(daemon->recall);
    message->recalls = stats.recalls;
    message->hits = stats.hits;
    message->total_us = stats.total_us;
    message->max_us = stats.max_us;
    if (daemon->plugin)
        write_plugin(plugin_status(daemon->plugin), report);
}

static void write_takeover(struct rpc_daemon *daemon, Kvq__TakeoverStats *message) {
    struct takeover_report *report = &daemon->store->taken;
    kvq__takeover_stats__init(message);
    message->outcome = (Kvq__TakeoverOutcome)report->outcome;
    message->why = report->why;
    message->sessions = report->sessions;
    message->tokens = report->tokens;
    message->bytes = report->bytes;
    message->cut_sessions = report->cut_sessions;
    message->took_us = report->took_ns / CLOCK_NS_PER_US;
    message->set_aside_bytes = daemon->set_aside_bytes;
}

void stats_read(struct rpc_daemon *daemon, struct tenant *tenant, struct stats_report *report) {
    Kvq__StatsReply *reply = &report->reply;
    kvq__stats_reply__init(reply);
    reply->version = KVQUANT_VERSION;
    reply->pid = (uint64_t)getpid();
    reply->uptime_seconds = (double)(clock_now_ns() - daemon->started_ns) / (double)CLOCK_NS_PER_S;
    reply->n_sockets = daemon->socket_count;
    reply->sockets = (char **)daemon->sockets;
    reply->rss_bytes = rss_bytes();
    reply->operations = report->operation_pointers;
    count_operations(daemon, reply, report->operations);
    count_errors(daemon, reply, report);
    write_store(daemon->store, reply, report);
    write_pressure(daemon, reply, report);
    write_capacity(daemon->store, tenant, reply, report);
    write_disk(&daemon->store->disk, reply, &report->disk);
    write_counters(daemon, reply);
    reply->state = (Kvq__State)atomic_load(&daemon->state);
    write_sharing(daemon, &report->sharing);
    reply->sharing = &report->sharing;
    write_blocks(daemon, &report->blocks);
    reply->blocks = &report->blocks;
    write_attachments(daemon, &report->attachments);
    reply->attachments = &report->attachments;
    write_recall(daemon, report);
    reply->recall = &report->recall;
    write_takeover(daemon, &report->takeover);
    reply->takeover = &report->takeover;
}

static Kvq__Quota *write_quota(const struct tenant *tenant, enum tenant_resource resource,
                               Kvq__Quota *quotas) {
    struct tenant_use use = tenant_use(tenant, resource);
    kvq__quota__init(&quotas[resource]);
    quotas[resource].used = use.used;
    quotas[resource].limit = use.limit == QUOTA_NONE ? 0 : use.limit;
    quotas[resource].refused = use.refused;
    return &quotas[resource];
}

static void write_quotas(struct tenant *tenant, Kvq__StatsReply *reply,
                         struct stats_report *report) {
    size_t i = reply->n_tenants++;
    Kvq__TenantStats *message = report->tenant_pointers[i] = &report->tenants[i];
    Kvq__Quota *quotas = report->quotas[i];
    uint64_t rate = atomic_load(&tenant->requests.per_second);
    kvq__tenant_stats__init(message);
    message->tenant = tenant->name;
    message->memory_bytes = write_quota(tenant, TENANT_MEMORY, quotas);
    message->disk_bytes = write_quota(tenant, TENANT_DISK, quotas);
    message->in_flight_bytes = write_quota(tenant, TENANT_IN_FLIGHT, quotas);
    message->sessions = write_quota(tenant, TENANT_SESSIONS, quotas);
    message->connections = write_quota(tenant, TENANT_CONNECTIONS, quotas);
    message->requests_limit = rate == RATE_NONE ? 0 : rate;
    reply->tenants = report->tenant_pointers;
}

static void write_all_quotas(struct tenants *tenants, Kvq__StatsReply *reply,
                             struct stats_report *report) {
    struct tenant *all[STATS_TENANTS];
    size_t count = tenants_read(tenants, all, STATS_TENANTS);
    for (size_t i = 0; i < count; i++)
        write_quotas(all[i], reply, report);
}

static void write_tenant(struct tenant *tenant, Kvq__StatsReply *reply,
                         struct stats_report *report) {
    struct usage *usage = &tenant->usage;
    struct store_totals totals;
    info_totals_of(tenant, &totals);
    reply->sessions = totals.sessions;
    reply->tokens = totals.tokens;
    reply->bytes_16bit = totals.values * 2;
    reply->logical_bytes = totals.logical_bytes;
    reply->stored_bytes = totals.stored_bytes;
    reply->unique_bytes = reply->used_bytes = totals.unique_bytes;
    reply->sessions_created = atomic_load(&usage->sessions_created);
    reply->sessions_deleted = atomic_load(&usage->sessions_deleted);
    reply->appended_tokens = atomic_load(&usage->appended_tokens);
    reply->appended_bytes = atomic_load(&usage->appended_bytes);
    count_levels(usage, reply, report);
    kvq__memory_stats__init(&report->memory);
    report->memory.pages_bytes = totals.pages_bytes;
    report->memory.tails_bytes = totals.tails_bytes;
    report->memory.sessions_bytes = totals.sessions_bytes;
    reply->memory = &report->memory;
}

void stats_read_of_tenant(struct rpc_daemon *daemon, struct tenant *tenant,
                          struct stats_report *report) {
    Kvq__StatsReply *reply = &report->reply;
    kvq__stats_reply__init(reply);
    reply->version = KVQUANT_VERSION;
    reply->pid = (uint64_t)getpid();
    reply->uptime_seconds = (double)(clock_now_ns() - daemon->started_ns) / (double)CLOCK_NS_PER_S;
    reply->limit_bytes = atomic_load(&daemon->budget->limit_bytes);
    reply->state = (Kvq__State)atomic_load(&daemon->state);
    write_tenant(tenant, reply, report);
    write_quotas(tenant, reply, report);
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct stats_report report;
    struct rpc_daemon *daemon = request->context->daemon;
    if (request->peer->role >= ROLE_ADMIN) {
        stats_read(daemon, request->peer->tenant, &report);
        write_all_quotas(&daemon->store->tenants, &report.reply, &report);
    } else {
        stats_read_of_tenant(daemon, request->peer->tenant, &report);
    }
    return rpc_reply(request, frame, &report.reply.base);
}

const struct rpc_operation rpc_stats = {.name = "stats", .begin = begin, .step = step};
