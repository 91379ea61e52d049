#include "client/cli/json.h"
#include "client/cli/show.h"
#include "client/cli/status.h"
#include "client/cli/words.h"

#include <math.h>

static void memory_json(struct json *json, const struct kvq_stats *stats) {
    json_open_object(json, "memory");
    json_count(json, "limit_bytes", stats->limit_bytes);
    json_count(json, "used_bytes", stats->used_bytes);
    json_count(json, "rss_bytes", stats->rss_bytes);
    json_count(json, "pages_bytes", stats->memory.pages_bytes);
    json_count(json, "tails_bytes", stats->memory.tails_bytes);
    json_count(json, "sessions_bytes", stats->memory.sessions_bytes);
    json_count(json, "fixed_bytes", stats->memory.fixed_bytes);
    json_count(json, "buffers_bytes", stats_buffers_bytes(stats));
    json_count(json, "warm_bytes", stats->memory.warm_bytes);
    json_close_object(json);
}

static void requests_json(struct json *json, const struct kvq_stats *stats) {
    json_open_object(json, "requests");
    for (size_t i = 0; i < stats->operation_count; i++)
        json_count(json, stats->operations[i].operation, stats->operations[i].requests);
    json_close_object(json);
    json_open_object(json, "operations");
    for (size_t i = 0; i < stats->operation_count; i++) {
        const struct kvq_operation_count *operation = &stats->operations[i];
        double requests = operation->requests ? (double)operation->requests : NAN;
        json_open_object(json, operation->operation);
        json_count(json, "requests", operation->requests);
        json_count(json, "errors", operation->errors);
        json_count(json, "total_us", operation->total_us);
        json_real(json, "mean_us", (double)operation->total_us / requests);
        json_count(json, "max_us", operation->max_us);
        json_close_object(json);
    }
    json_close_object(json);
    json_open_object(json, "errors");
    for (size_t i = 0; i < stats->error_count; i++)
        json_count(json, stats->errors[i].error, stats->errors[i].count);
    json_close_object(json);
}

static void traffic_json(struct json *json, const struct kvq_stats *stats) {
    json_count(json, "appended_tokens", stats->appended_tokens);
    json_count(json, "appended_bytes", stats->appended_bytes);
    json_count(json, "appends_waiting", stats->appends_waiting);
    json_count(json, "fetched_tokens", stats->fetched_tokens);
    json_count(json, "fetched_bytes", stats->fetched_bytes);
    json_count(json, "fetch_hits", stats->fetch_hits);
    json_count(json, "fetch_misses", stats->fetch_misses);
    json_count(json, "connections", stats->connections);
    json_count(json, "connections_accepted", stats->connections_accepted);
    json_count(json, "connections_refused", stats->connections_refused);
    json_count(json, "connections_stalled", stats->connections_stalled);
    json_count(json, "sessions_created", stats->sessions_created);
    json_count(json, "sessions_deleted", stats->sessions_deleted);
}

static void keeper_json(struct json *json, const struct kvq_stats *stats) {
    json_open_object(json, "keeper");
    json_count(json, "queued_sessions", stats->keeper.queued_sessions);
    json_count(json, "chunks", stats->keeper.chunks);
    json_count(json, "bytes_before", stats->keeper.bytes_before);
    json_count(json, "bytes_after", stats->keeper.bytes_after);
    json_close_object(json);
}

static void pressure_json(struct json *json, const struct kvq_stats *stats) {
    json_open_object(json, "pressure");
    json_count(json, "rounds", stats->pressure.rounds);
    json_count(json, "aged_sessions", stats->pressure.aged_sessions);
    json_count(json, "aged_bytes", stats->pressure.aged_bytes);
    json_count(json, "evicted_sessions", stats->pressure.evicted_sessions);
    json_count(json, "evicted_tokens", stats->pressure.evicted_tokens);
    json_count(json, "evicted_bytes", stats->pressure.evicted_bytes);
    json_count(json, "deleted_sessions", stats->pressure.deleted_sessions);
    json_count(json, "refused", stats->pressure.refused);
    json_count(json, "spilled_chunks", stats->pressure.spilled_chunks);
    json_count(json, "spilled_bytes", stats->pressure.spilled_bytes);
    json_count(json, "coded_tails", stats->pressure.coded_tails);
    json_count(json, "coded_tail_bytes", stats->pressure.coded_tail_bytes);
    json_close_object(json);
}

static void ageing_json(struct json *json, const struct kvq_stats *stats) {
    json_open_object(json, "ageing");
    json_count(json, "chunks", stats->ageing.chunks);
    json_count(json, "bytes_before", stats->ageing.bytes_before);
    json_count(json, "bytes_after", stats->ageing.bytes_after);
    json_count(json, "expired_sessions", stats->ageing.expired_sessions);
    json_count(json, "coded_tails", stats->ageing.coded_tails);
    json_count(json, "tail_bytes_before", stats->ageing.tail_bytes_before);
    json_count(json, "tail_bytes_after", stats->ageing.tail_bytes_after);
    json_count(json, "decoded_tails", stats->ageing.decoded_tails);
    json_close_object(json);
}

static void sharing_json(struct json *json, const struct kvq_stats *stats) {
    json_open_object(json, "sharing");
    json_count(json, "chunks", stats->sharing.chunks);
    json_count(json, "bytes", stats->sharing.bytes);
    json_count(json, "matches", stats->sharing.matches);
    json_count(json, "match_hits", stats->sharing.match_hits);
    json_count(json, "matched_tokens", stats->sharing.matched_tokens);
    json_count(json, "token_ids_bytes", stats->sharing.token_ids_bytes);
    json_close_object(json);
}

static void blocks_json(struct json *json, const struct kvq_stats *stats) {
    json_open_object(json, "blocks");
    json_count(json, "blocks", stats->blocks.blocks);
    json_count(json, "tokens", stats->blocks.tokens);
    json_count(json, "index_bytes", stats->blocks.index_bytes);
    json_count(json, "put", stats->blocks.put);
    json_count(json, "asked", stats->blocks.asked);
    json_count(json, "hits", stats->blocks.hits);
    json_count(json, "lost", stats->blocks.lost);
    json_close_object(json);
}

static void recall_json(struct json *json, const struct kvq_stats *stats) {
    json_open_object(json, "recall");
    json_count(json, "entries", stats->recall.entries);
    json_count(json, "batches", stats->recall.batches);
    json_count(json, "stored_bytes", stats->recall.stored_bytes);
    json_count(json, "put", stats->recall.put);
    json_count(json, "deleted", stats->recall.deleted);
    json_count(json, "recalls", stats->recall.recalls);
    json_count(json, "hits", stats->recall.hits);
    json_count(json, "total_us", stats->recall.total_us);
    json_count(json, "max_us", stats->recall.max_us);
    json_string(json, "plugin", stats->recall.plugin);
    json_bool(json, "plugin_on", stats->recall.plugin_on);
    json_count(json, "plugin_bytes", stats->recall.plugin_bytes);
    json_count(json, "plugin_searches", stats->recall.plugin_searches);
    json_count(json, "plugin_timeouts", stats->recall.plugin_timeouts);
    json_count(json, "plugin_faults", stats->recall.plugin_faults);
    json_count(json, "dropped_hits", stats->recall.dropped_hits);
    json_close_object(json);
}

static void attachments_json(struct json *json, const struct kvq_stats *stats) {
    json_open_object(json, "attachments");
    json_count(json, "attachments", stats->attachments.attachments);
    json_count(json, "bytes", stats->attachments.bytes);
    json_count(json, "stored_bytes", stats->attachments.stored_bytes);
    json_count(json, "put", stats->attachments.put);
    json_count(json, "hits", stats->attachments.hits);
    json_count(json, "misses", stats->attachments.misses);
    json_count(json, "damaged", stats->attachments.damaged);
    json_close_object(json);
}

/* null without one. */
static void disk_json(struct json *json, const struct kvq_stats *stats) {
    if (stats->disk.limit_bytes == 0) {
        json_string(json, "disk", NULL);
        return;
    }
    json_open_object(json, "disk");
    json_bool(json, "recovering", stats->disk.recovering);
    json_count(json, "limit_bytes", stats->disk.limit_bytes);
    json_count(json, "used_bytes", stats->disk.used_bytes);
    json_count(json, "live_bytes", stats->disk.live_bytes);
    json_count(json, "written_bytes", stats->disk.written_bytes);
    json_count(json, "read_bytes", stats->disk.read_bytes);
    json_count(json, "loaded_chunks", stats->disk.loaded_chunks);
    json_count(json, "loaded_bytes", stats->disk.loaded_bytes);
    json_count(json, "failed_loads", stats->disk.failed_loads);
    json_count(json, "saves", stats->disk.saves);
    json_count(json, "failed_saves", stats->disk.failed_saves);
    json_count(json, "syncs", stats->disk.syncs);
    json_count(json, "damaged", stats->disk.damaged);
    json_count(json, "reclaimed_bytes", stats->disk.reclaimed_bytes);
    json_count(json, "evicted_bytes", stats->disk.evicted_bytes);
    json_count(json, "queued_bytes", stats->disk.queued_bytes);
    json_close_object(json);
}

static void takeover_json(struct json *json, const struct kvq_stats *stats) {
    json_open_object(json, "takeover");
    json_string(json, "outcome", takeover_name(stats->takeover.outcome));
    json_string(json, "why", stats->takeover.why[0] ? stats->takeover.why : NULL);
    json_count(json, "sessions", stats->takeover.sessions);
    json_count(json, "tokens", stats->takeover.tokens);
    json_count(json, "bytes", stats->takeover.bytes);
    json_count(json, "cut_sessions", stats->takeover.cut_sessions);
    json_count(json, "took_us", stats->takeover.took_us);
    json_count(json, "set_aside_bytes", stats->takeover.set_aside_bytes);
    json_close_object(json);
}

static void capacity_json(struct json *json, const struct kvq_stats *stats) {
    json_open_array(json, "capacity");
    for (size_t i = 0; i < stats->capacity_count; i++) {
        json_open_object(json, NULL);
        json_string(json, "model", stats->capacity[i].model);
        json_open_object(json, "tokens");
        for (int level = KVQ_LEVEL_EXACT; level <= KVQ_LEVEL_COARSEST; level++)
            json_count(json, level_name(level), stats->capacity[i].tokens[level - KVQ_LEVEL_EXACT]);
        json_close_object(json);
        json_close_object(json);
    }
    json_close_array(json);
}

static void quota_json(struct json *json, const char *name, const struct kvq_quota *quota) {
    json_open_object(json, name);
    json_count(json, "used", quota->used);
    json_count(json, "limit", quota->limit);
    json_count(json, "refused", quota->refused);
    json_close_object(json);
}

static void tenants_json(struct json *json, const struct kvq_stats *stats) {
    json_open_array(json, "tenants");
    for (size_t i = 0; i < stats->tenant_count; i++) {
        const struct kvq_tenant_stats *tenant = &stats->tenants[i];
        json_open_object(json, NULL);
        json_string(json, "tenant", tenant->tenant);
        quota_json(json, "memory_bytes", &tenant->memory_bytes);
        quota_json(json, "disk_bytes", &tenant->disk_bytes);
        quota_json(json, "in_flight_bytes", &tenant->in_flight_bytes);
        quota_json(json, "sessions", &tenant->sessions);
        quota_json(json, "connections", &tenant->connections);
        json_count(json, "requests_limit", tenant->requests_limit);
        json_close_object(json);
    }
    json_close_array(json);
}

void print_stats_json(const struct kvq_stats *stats) {
    struct json json = {.out = stdout};
    json_open_object(&json, NULL);
    json_string(&json, "version", stats->version);
    json_count(&json, "pid", stats->pid);
    json_real(&json, "uptime_seconds", stats->uptime_seconds);
    json_string(&json, "state", state_name(stats->state));
    json_open_array(&json, "sockets");
    for (size_t i = 0; i < stats->socket_count; i++)
        json_string(&json, NULL, stats->sockets[i]);
    json_close_array(&json);
    memory_json(&json, stats);
    json_count(&json, "sessions", stats->sessions);
    json_count(&json, "tokens", stats->tokens);
    json_count(&json, "bytes_16bit", stats->bytes_16bit);
    json_count(&json, "logical_bytes", stats->logical_bytes);
    json_count(&json, "stored_bytes", stats->stored_bytes);
    json_count(&json, "unique_bytes", stats->unique_bytes);
    json_real(&json, "ratio", stats_ratio(stats, stats->bytes_16bit));
    json_real(&json, "ratio_input", stats_ratio(stats, stats->logical_bytes));
    show_levels_json(&json, stats->levels, stats->level_count);
    keeper_json(&json, stats);
    pressure_json(&json, stats);
    capacity_json(&json, stats);
    ageing_json(&json, stats);
    sharing_json(&json, stats);
    blocks_json(&json, stats);
    attachments_json(&json, stats);
    recall_json(&json, stats);
    disk_json(&json, stats);
    takeover_json(&json, stats);
    tenants_json(&json, stats);
    traffic_json(&json, stats);
    requests_json(&json, stats);
    json_close_object(&json);
    json_end(&json);
}
