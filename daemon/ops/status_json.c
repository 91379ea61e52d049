#include "daemon/ops/status_json.h"

#include <jansson.h>

#include "daemon/base/clock.h"
#include "daemon/ops/metrics_tenants.h"
#include "daemon/rpc/stats.h"
#include "daemon/store/coding.h"

static json_t *number(uint64_t value) {
    return json_integer((json_int_t)value);
}

static json_t *numbers(const uint64_t *values, size_t count) {
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, number(values[i]));
    return array;
}

static json_t *level(const char *name, uint64_t tokens, uint64_t bytes) {
    return json_pack("{s:s, s:I, s:I}", "level", name, "tokens", (json_int_t)tokens, "bytes",
                     (json_int_t)bytes);
}

static json_t *levels(const struct usage *usage) {
    json_t *array = json_array();
    json_array_append_new(array, level("tails", usage->tail_tokens, usage->tails_bytes));
    json_array_append_new(array, level("sinks", usage->sinks.tokens, usage->sinks.bytes));
    for (int i = 0; i < USAGE_LEVELS; i++)
        json_array_append_new(array, level(metrics_level_name(i + PAGE_LEVEL_MIN),
                                           usage->levels[i].tokens, usage->levels[i].bytes));
    return array;
}

static json_t *disk(const struct stats_report *report) {
    const Kvq__DiskStats *stats = report->reply.disk;
    if (!stats)
        return json_null();
    uint64_t failures = stats->failed_loads + stats->failed_saves + stats->damaged;
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "limit_bytes", (json_int_t)stats->limit_bytes,
                     "used_bytes", (json_int_t)stats->used_bytes, "live_bytes",
                     (json_int_t)stats->live_bytes, "queued_bytes", (json_int_t)stats->queued_bytes,
                     "failures", (json_int_t)failures);
}

static json_t *fetches(const struct rpc_daemon *rpc) {
    uint64_t from_disk = rpc->disk_hits, hits = rpc->fetch_hits;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "memory", (json_int_t)(hits - from_disk),
                     "disk", (json_int_t)from_disk, "absent",
                     (json_int_t)rpc->fetch_misses[RPC_MISS_ABSENT], "short",
                     (json_int_t)rpc->fetch_misses[RPC_MISS_SHORT], "gone",
                     (json_int_t)rpc->fetch_misses[RPC_MISS_GONE], "late",
                     (json_int_t)rpc->fetch_misses[RPC_MISS_LATE]);
}

static json_t *histogram(const struct exposition_sum *sum, const struct histogram_scale *scale) {
    json_t *bounds = json_array();
    for (int i = 0; i < HISTOGRAM_BOUNDS; i++)
        json_array_append_new(bounds, json_real((double)scale->bounds[i] * scale->unit));
    return json_pack("{s:o, s:o, s:f}", "bounds", bounds, "counts",
                     numbers(sum->counts, HISTOGRAM_BOUNDS + 1), "sum",
                     (double)sum->sum * scale->unit);
}

static json_t *one_histogram(const struct histogram *one, const struct histogram_scale *scale) {
    struct exposition_sum sum = {0};
    exposition_sum_add(&sum, one);
    return histogram(&sum, scale);
}

static json_t *quality(const struct coding *coding) {
    return json_pack("{s:o, s:o, s:o, s:o}", "snr_k",
                     one_histogram(&coding->snr[PAGE_K], &coding_snr_scale), "snr_v",
                     one_histogram(&coding->snr[PAGE_V], &coding_snr_scale), "bits_k",
                     one_histogram(&coding->bits[PAGE_K], &coding_bits_scale), "bits_v",
                     one_histogram(&coding->bits[PAGE_V], &coding_bits_scale));
}

static json_t *speed(const struct coding_count *count) {
    return json_pack("{s:I, s:I}", "bytes", (json_int_t)count->bytes, "ns", (json_int_t)count->ns);
}

static json_t *coding(const struct coding *coding) {
    json_t *array = json_array();
    for (int i = 0; i < USAGE_LEVELS; i++)
        json_array_append_new(array, json_pack("{s:s, s:o, s:o, s:o}", "level",
                                               metrics_level_name(i + PAGE_LEVEL_MIN), "encode",
                                               speed(&coding->counts[CODING_ENCODE][i]), "age",
                                               speed(&coding->counts[CODING_AGE][i]), "decode",
                                               speed(&coding->counts[CODING_DECODE][i])));
    return array;
}

/* All sizes together. */
static json_t *operation(const struct metrics_sources *sources, uint8_t type) {
    struct exposition_sum sum = {0};
    for (size_t i = 0; i < sources->reactor_count; i++)
        for (int size = 0; size < RPC_SIZES; size++)
            exposition_sum_add(&sum, &sources->reactors[i].context.seconds[type][size]);
    if (sum.count == 0)
        return NULL;
    return json_pack("{s:s, s:I, s:o}", "operation", rpc_find(type)->name, "errors",
                     (json_int_t)sources->rpc->errors[type], "seconds",
                     histogram(&sum, &histogram_seconds));
}

static json_t *operations(const struct metrics_sources *sources) {
    json_t *array = json_array();
    for (int type = 0; type < RPC_TYPES; type++) {
        json_t *one = rpc_find((uint8_t)type) ? operation(sources, (uint8_t)type) : NULL;
        if (one)
            json_array_append_new(array, one);
    }
    return array;
}

/* In the order of `columns`. */
static json_t *sample(const struct timeline_sample *sample) {
    json_t *row = json_array();
    json_array_append_new(row, number(sample->uptime_ms));
    json_array_append_new(row, number(sample->appended_bytes));
    json_array_append_new(row, number(sample->fetched_bytes));
    json_array_append_new(row, number(sample->memory_hits));
    json_array_append_new(row, number(sample->disk_hits));
    json_array_append_new(row, number(sample->misses));
    json_array_append_new(row, number(sample->disk_bytes));
    json_array_append_new(row, number(sample->tails_bytes));
    json_array_append_new(row, number(sample->sinks_bytes));
    for (int i = 0; i < USAGE_LEVELS; i++)
        json_array_append_new(row, number(sample->levels_bytes[i]));
    return row;
}

static json_t *columns(void) {
    static const char *const names[] = {"uptime_ms",   "appended_bytes", "fetched_bytes",
                                        "memory_hits", "disk_hits",      "misses",
                                        "disk_bytes",  "tails",          "sinks"};
    json_t *array = json_array();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        json_array_append_new(array, json_string(names[i]));
    for (int i = 0; i < USAGE_LEVELS; i++)
        json_array_append_new(array, json_string(metrics_level_name(i + PAGE_LEVEL_MIN)));
    return array;
}

static json_t *history(struct timeline *timeline, uint64_t after) {
    struct timeline_sample samples[TIMELINE_SAMPLES];
    size_t count = timeline_read(timeline, after, samples);
    json_t *rows = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(rows, sample(&samples[i]));
    return json_pack("{s:I, s:o, s:o}", "last",
                     (json_int_t)(count > 0 ? samples[count - 1].number : after), "columns",
                     columns(), "rows", rows);
}

static json_t *name(const char *text, size_t bytes, bool is_told) {
    return is_told ? json_stringn(text, bytes) : json_null();
}

static json_t *session_row(const struct session_row *row, bool tells_names) {
    return json_pack("{s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:f, s:f}", "tenant",
                     name(row->tenant->name, row->tenant->name_bytes, tells_names), "session",
                     name(row->name, row->name_bytes, tells_names), "model",
                     name(row->model, row->model_bytes, tells_names), "tokens",
                     (json_int_t)row->tokens, "logical_bytes", (json_int_t)row->logical_bytes,
                     "stored_bytes", (json_int_t)row->stored_bytes, "disk_bytes",
                     (json_int_t)row->disk_bytes, "age_seconds", (double)row->age_ns * 1e-9,
                     "idle_seconds", (double)row->idle_ns * 1e-9);
}

static json_t *session_table(const struct session_table *table, bool tells_names) {
    json_t *rows = json_array();
    for (size_t i = 0; i < table->row_count; i++)
        json_array_append_new(rows, session_row(&table->rows[i], tells_names));
    return json_pack("{s:I, s:b, s:o, s:o, s:o}", "walked", (json_int_t)table->walked, "complete",
                     table->complete, "sizes", numbers(table->sizes, SESSION_TABLE_SIZES), "ages",
                     numbers(table->ages, SESSION_TABLE_AGES), "largest", rows);
}

static json_t *tenants(struct tenants *tenants) {
    struct tenant *all[METRICS_TENANTS];
    size_t count = tenants_read(tenants, all, METRICS_TENANTS);
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        struct store_totals totals;
        info_totals_of(all[i], &totals);
        json_array_append_new(
            array, json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "tenant", all[i]->name, "sessions",
                             (json_int_t)totals.sessions, "tokens", (json_int_t)totals.tokens,
                             "logical_bytes", (json_int_t)totals.logical_bytes, "stored_bytes",
                             (json_int_t)totals.unique_bytes, "disk_bytes",
                             (json_int_t)totals.disk_bytes));
    }
    return array;
}

static const char *state_name(const struct rpc_daemon *rpc) {
    if (store_is_recovering(rpc->store))
        return "recovering";
    int state = atomic_load(&rpc->state);
    return state == RPC_DRAINED ? "drained" : state == RPC_READ_ONLY ? "read-only" : "normal";
}

static json_t *about(const struct rpc_daemon *rpc, const struct stats_report *report) {
    json_t *sockets = json_array();
    for (size_t i = 0; i < rpc->socket_count; i++)
        json_array_append_new(sockets, json_string(rpc->sockets[i]));
    return json_pack("{s:s, s:I, s:s, s:f, s:o}", "version", report->reply.version, "pid",
                     (json_int_t)report->reply.pid, "state", state_name(rpc), "uptime_seconds",
                     report->reply.uptime_seconds, "sockets", sockets);
}

static json_t *totals(const struct stats_report *report) {
    const Kvq__StatsReply *reply = &report->reply;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
                     "limit_bytes", (json_int_t)reply->limit_bytes, "used_bytes",
                     (json_int_t)reply->used_bytes, "rss_bytes", (json_int_t)reply->rss_bytes,
                     "fixed_bytes", (json_int_t)report->memory.fixed_bytes, "sessions",
                     (json_int_t)reply->sessions, "tokens", (json_int_t)reply->tokens,
                     "logical_bytes", (json_int_t)reply->logical_bytes, "stored_bytes",
                     (json_int_t)reply->stored_bytes, "unique_bytes",
                     (json_int_t)reply->unique_bytes, "connections", (json_int_t)reply->connections,
                     "appends_waiting", (json_int_t)reply->appends_waiting, "queued_sessions",
                     (json_int_t)report->keeper.queued_sessions, "evicted_tokens",
                     (json_int_t)report->pressure.evicted_tokens, "refused",
                     (json_int_t)report->pressure.refused, "prefix_hit_tokens",
                     (json_int_t)report->sharing.matched_tokens);
}

/* Since the start. */
static json_t *flow(const struct stats_report *report) {
    return json_pack("{s:I, s:I}", "appended_bytes", (json_int_t)report->reply.appended_bytes,
                     "fetched_bytes", (json_int_t)report->reply.fetched_bytes);
}

char *status_json(const struct status_sources *sources, uint64_t after) {
    const struct metrics_sources *metrics = &sources->metrics;
    struct store *store = metrics->rpc->store;
    struct stats_report report;
    stats_read(metrics->rpc, NULL, &report);
    session_table_refresh(sources->table, store);
    json_t *by_tenant = metrics->tells_names ? tenants(&store->tenants) : json_array();
    json_t *all =
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "daemon",
                  about(metrics->rpc, &report), "tenants", by_tenant, "totals", totals(&report),
                  "flow", flow(&report), "levels", levels(&store->usage), "disk", disk(&report),
                  "fetches", fetches(metrics->rpc), "operations", operations(metrics), "quality",
                  quality(pool_coding(store->pool)), "coding", coding(pool_coding(store->pool)),
                  "sessions", session_table(sources->table, metrics->tells_names), "history",
                  history(sources->timeline, after));
    char *text = all ? json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(all);
    return text;
}
