#include "daemon/ops/metrics.h"

#include <assert.h>
#include <limits.h>
#include <string.h>
#include <time.h>

#include "daemon/base/clock.h"
#include "daemon/ops/metrics_tenants.h"
#include "daemon/rpc/stats.h"
#include "daemon/store/coding.h"
#include "daemon/store/info.h"

enum { LABELS_BYTES = 128 };

/* A number of struct stats_report. */
struct row {
    const char *family; /* NULL: that of the row before */
    enum exposition_type type;
    const char *help, *labels;
    size_t offset;
};

#define GAUGE(name, what) .family = "kvquantd_" name, .type = EXPOSITION_GAUGE, .help = what
#define COUNTER(name, what) .family = "kvquantd_" name, .type = EXPOSITION_COUNTER, .help = what
#define OF(field) .offset = offsetof(struct stats_report, field)

static const struct row rows[] = {
    {GAUGE("memory_limit_bytes", "The memory limit."), OF(reply.limit_bytes)},
    {GAUGE("memory_used_bytes", "What is in use of the memory limit."), OF(reply.used_bytes)},
    {GAUGE("resident_memory_bytes", "What the process has of the machine's memory."),
     OF(reply.rss_bytes)},
    {GAUGE("memory_part_bytes", "What takes memory."), .labels = "part=\"pages\"",
     OF(memory.pages_bytes)},
    {.labels = "part=\"tails\"", OF(memory.tails_bytes)},
    {.labels = "part=\"sessions\"", OF(memory.sessions_bytes)},
    {.labels = "part=\"fixed\"", OF(memory.fixed_bytes)},
    {.labels = "part=\"warm\"", OF(memory.warm_bytes)},
    {GAUGE("sessions", "Sessions that there are."), OF(reply.sessions)},
    {GAUGE("tokens", "Tokens of all sessions."), OF(reply.tokens)},
    {GAUGE("logical_bytes", "K and V of all sessions as they came."), OF(reply.logical_bytes)},
    {GAUGE("logical_16bit_bytes", "K and V of all sessions at 16 bits a value."),
     OF(reply.bytes_16bit)},
    {GAUGE("stored_bytes", "What all sessions take, what they share with each."),
     OF(reply.stored_bytes)},
    {GAUGE("unique_bytes", "What all sessions take, what they share once."),
     OF(reply.unique_bytes)},
    {GAUGE("connections", "Connections that are open."), OF(reply.connections)},
    {GAUGE("appends_waiting", "Appends and loads from disk that wait for memory."),
     OF(reply.appends_waiting)},
    {GAUGE("keeper_queued_sessions", "Sessions that wait for the keeper."),
     OF(keeper.queued_sessions)},
    {GAUGE("disk_limit_bytes", "What the files on disk may take."), OF(disk.limit_bytes)},
    {GAUGE("disk_used_bytes", "What the files on disk take."), OF(disk.used_bytes)},
    {GAUGE("disk_live_bytes", "What of the files on disk is not superseded or deleted."),
     OF(disk.live_bytes)},
    {GAUGE("disk_queued_bytes", "What waits to be written to disk."), OF(disk.queued_bytes)},
    {GAUGE("attachments", "Attachments that there are."), OF(attachments.attachments)},
    {GAUGE("attachments_stored_bytes", "What attachments take of memory."),
     OF(attachments.stored_bytes)},
    {GAUGE("blocks", "Blocks by key that there are."), OF(blocks.blocks)},
    {GAUGE("entries", "Embeddings that there are."), OF(entries.entries)},
    {GAUGE("recall_plugin_bytes", "What the retriever plugin says that it takes of memory."),
     OF(recall.plugin_bytes)},
    {GAUGE("set_aside_bytes", "A pool that the service manager keeps for inspection."),
     OF(takeover.set_aside_bytes)},

    {COUNTER("connections_accepted", "Connections that came."), OF(reply.connections_accepted)},
    {COUNTER("connections_refused", "Connections that were closed at once: too many, no memory."),
     OF(reply.connections_refused)},
    {COUNTER("connections_stalled", "Connections that were closed because their client stalled."),
     OF(reply.connections_stalled)},
    {COUNTER("sessions_created", "Sessions that were made, forks among them."),
     OF(reply.sessions_created)},
    {COUNTER("sessions_deleted", "Sessions that are gone, for whatever reason."),
     OF(reply.sessions_deleted)},
    {COUNTER("sessions_expired", "Sessions that were deleted after their time to live."),
     OF(ageing.expired_sessions)},
    {COUNTER("appended_tokens", "Tokens that were appended."), OF(reply.appended_tokens)},
    {COUNTER("appended_bytes", "K and V that were appended, as they came."),
     OF(reply.appended_bytes)},
    {COUNTER("fetched_tokens", "Tokens that were fetched."), OF(reply.fetched_tokens)},
    {COUNTER("fetched_bytes", "K and V that were fetched, as they went."), OF(reply.fetched_bytes)},
    {COUNTER("prefix_matches", "Prefixes that were asked for by their token ids."),
     OF(sharing.matches)},
    {COUNTER("prefix_hits", "Of these, those that found a session."), OF(sharing.match_hits)},
    {COUNTER("prefix_hit_tokens", "Tokens of the prefixes that were found."),
     OF(sharing.matched_tokens)},
    {COUNTER("shared_chunks", "Chunks that gave way to another session's of the same tokens."),
     OF(sharing.chunks)},
    {COUNTER("shared_bytes", "What these took."), OF(sharing.bytes)},
    {COUNTER("blocks_put", "Blocks by key that were put."), OF(blocks.put)},
    {COUNTER("blocks_asked", "Blocks by key that were asked for."), OF(blocks.asked)},
    {COUNTER("blocks_hits", "Of these, those that were there."), OF(blocks.hits)},
    {COUNTER("blocks_lost", "Blocks by key that were evicted or expired."), OF(blocks.lost)},
    {COUNTER("attachments_put", "Attachments that were put."), OF(attachments.put)},
    {COUNTER("attachments_hits", "Attachments that were asked for and there."),
     OF(attachments.hits)},
    {COUNTER("attachments_misses", "Attachments that were asked for and not there."),
     OF(attachments.misses)},
    {COUNTER("recalls", "Searches for what is nearest to embeddings."), OF(recall.recalls)},
    {COUNTER("recalled_ranges", "Ranges of tokens that these answered."), OF(recall.hits)},
    {COUNTER("recall_plugin_faults", "Calls of the retriever plugin that failed."),
     .labels = "fault=\"timeout\"", OF(recall.plugin_timeouts)},
    {.labels = "fault=\"answer\"", OF(recall.plugin_faults)},
    {COUNTER("pressure_rounds", "Times that room had to be made."), OF(pressure.rounds)},
    {COUNTER("pressure_freed_bytes", "Memory that was freed where it was short, by what was done."),
     .labels = "by=\"ageing\"", OF(pressure.aged_bytes)},
    {.labels = "by=\"coding_tails\"", OF(pressure.coded_tail_bytes)},
    {.labels = "by=\"spilling\"", OF(pressure.spilled_bytes)},
    {.labels = "by=\"eviction\"", OF(pressure.evicted_bytes)},
    {COUNTER("evicted_sessions", "Times that a session lost tokens for want of memory."),
     OF(pressure.evicted_sessions)},
    {COUNTER("evicted_tokens", "Tokens that were lost so."), OF(pressure.evicted_tokens)},
    {COUNTER("spilled_chunks", "Chunks that went to disk, and from memory."),
     OF(pressure.spilled_chunks)},
    {COUNTER("keeper_chunks", "Chunks that were brought to their level in the background."),
     OF(keeper.chunks)},
    {COUNTER("keeper_read_bytes", "What these took before."), OF(keeper.bytes_before)},
    {COUNTER("keeper_written_bytes", "What these took then."), OF(keeper.bytes_after)},
    {COUNTER("disk_written_bytes", "What was written to disk."), OF(disk.written_bytes)},
    {COUNTER("disk_read_bytes", "What was read from disk."), OF(disk.read_bytes)},
    {COUNTER("disk_loaded_chunks", "Chunks that came back from disk."), OF(disk.loaded_chunks)},
    {COUNTER("disk_evicted_bytes", "What was evicted from a full disk."), OF(disk.evicted_bytes)},
    {COUNTER("disk_failures", "What went wrong with the disk."), .labels = "failure=\"load\"",
     OF(disk.failed_loads)},
    {.labels = "failure=\"save\"", OF(disk.failed_saves)},
    {.labels = "failure=\"damaged\"", OF(disk.damaged)},
};

static void write_rows(struct exposition *exposition, const struct stats_report *report) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *row = &rows[i];
        uint64_t value;
        memcpy(&value, (const char *)report + row->offset, sizeof value);
        if (row->family)
            exposition_begin(exposition, row->family, row->type, row->help);
        exposition_add(exposition, row->labels ? row->labels : "", (double)value);
    }
}

const char *metrics_level_name(int level) {
    static const char *const names[] = {"exact", "fast8", "0", "1", "2", "3", "4", "5"};
    static_assert(sizeof names / sizeof names[0] == USAGE_LEVELS, "a name for each level");
    return names[level - PAGE_LEVEL_MIN];
}

static void add_level(struct exposition *exposition, int level, const _Atomic uint64_t *value) {
    char labels[LABELS_BYTES];
    snprintf(labels, sizeof labels, "level=\"%s\"", metrics_level_name(level));
    exposition_add(exposition, labels, (double)atomic_load(value));
}

static void write_levels(struct exposition *exposition, const struct usage *usage) {
    exposition_begin(exposition, "kvquantd_level_bytes", EXPOSITION_GAUGE,
                     "What chunks in memory take, by level; sinks and tails apart.");
    for (int i = 0; i < USAGE_LEVELS; i++)
        add_level(exposition, i + PAGE_LEVEL_MIN, &usage->levels[i].bytes);
    exposition_add(exposition, "level=\"sinks\"", (double)atomic_load(&usage->sinks.bytes));
    exposition_add(exposition, "level=\"tails\"", (double)atomic_load(&usage->tails_bytes));
    exposition_begin(exposition, "kvquantd_level_tokens", EXPOSITION_GAUGE,
                     "Tokens of these chunks, what is shared once.");
    for (int i = 0; i < USAGE_LEVELS; i++)
        add_level(exposition, i + PAGE_LEVEL_MIN, &usage->levels[i].tokens);
    exposition_add(exposition, "level=\"sinks\"", (double)atomic_load(&usage->sinks.tokens));
    exposition_add(exposition, "level=\"tails\"", (double)atomic_load(&usage->tail_tokens));
}

static const char *const step_names[CODING_STEPS] = {"encode", "age", "decode"};

static void write_coding_count(struct exposition *exposition, const struct coding *coding,
                               bool seconds) {
    char labels[LABELS_BYTES];
    for (int step = 0; step < CODING_STEPS; step++)
        for (int i = 0; i < USAGE_LEVELS; i++) {
            const struct coding_count *count = &coding->counts[step][i];
            snprintf(labels, sizeof labels, "step=\"%s\",level=\"%s\"", step_names[step],
                     metrics_level_name(i + PAGE_LEVEL_MIN));
            exposition_add(exposition, labels,
                           seconds ? (double)atomic_load(&count->ns) * 1e-9
                                   : (double)atomic_load(&count->bytes));
        }
}

static void write_parts(struct exposition *exposition, const struct histogram parts[GEOMETRY_PARTS],
                        const struct histogram_scale *scale) {
    static const char *const labels[GEOMETRY_PARTS] = {"part=\"k\"", "part=\"v\""};
    for (int part = 0; part < GEOMETRY_PARTS; part++) {
        struct exposition_sum sum = {0};
        exposition_sum_add(&sum, &parts[part]);
        exposition_add_histogram(exposition, labels[part], &sum, scale);
    }
}

static void write_coding(struct exposition *exposition, const struct coding *coding) {
    exposition_begin(exposition, "kvquantd_coded_bytes", EXPOSITION_COUNTER,
                     "Values that were coded, at 16 bits each, by step and the level that they had "
                     "then.");
    write_coding_count(exposition, coding, false);
    exposition_begin(exposition, "kvquantd_coding_seconds", EXPOSITION_COUNTER,
                     "What this took of threads' time, waiting for a processor included.");
    write_coding_count(exposition, coding, true);
    exposition_begin(
        exposition, "kvquantd_page_snr_decibels", EXPOSITION_HISTOGRAM,
        "Signal to noise of each page that was coded at a lossy level; after ageing it "
        "is an estimate.");
    write_parts(exposition, coding->snr, &coding_snr_scale);
    struct histogram_scale bytes_scale = coding_bits_scale;
    bytes_scale.unit /= CHAR_BIT;
    exposition_begin(exposition, "kvquantd_page_bytes_per_value", EXPOSITION_HISTOGRAM,
                     "What each of these pages takes a value: eight times that are its bits.");
    write_parts(exposition, coding->bits, &bytes_scale);
}

static void write_operations(struct exposition *exposition, const struct stats_report *report) {
    char labels[LABELS_BYTES];
    exposition_begin(exposition, "kvquantd_requests", EXPOSITION_COUNTER,
                     "Requests that came, by operation.");
    for (size_t i = 0; i < report->reply.n_operations; i++) {
        snprintf(labels, sizeof labels, "operation=\"%s\"", report->operations[i].operation);
        exposition_add(exposition, labels, (double)report->operations[i].requests);
    }
}

static void write_refusals(struct exposition *exposition, const struct rpc_daemon *rpc) {
    char labels[LABELS_BYTES];
    exposition_begin(exposition, "kvquantd_request_errors", EXPOSITION_COUNTER,
                     "Requests that were refused, missed or failed, by operation and error.");
    for (int type = 0; type < RPC_TYPES; type++)
        for (uint32_t code = 1; rpc_find((uint8_t)type) && code < WIRE_ERROR_COUNT; code++) {
            uint64_t times = atomic_load(&rpc->refusals[type][code]);
            if (times == 0)
                continue;
            snprintf(labels, sizeof labels, "operation=\"%s\",error=\"%s\"",
                     rpc_find((uint8_t)type)->name, wire_error_info(code)->name);
            exposition_add(exposition, labels, (double)times);
        }
}

static void write_fetches(struct exposition *exposition, const struct rpc_daemon *rpc) {
    static const char *const labels[RPC_MISSES] = {
        [RPC_MISS_ABSENT] = "reason=\"absent\"",
        [RPC_MISS_SHORT] = "reason=\"short\"",
        [RPC_MISS_GONE] = "reason=\"gone\"",
        [RPC_MISS_LATE] = "reason=\"late\"",
    };
    uint64_t from_disk = atomic_load(&rpc->disk_hits), hits = atomic_load(&rpc->fetch_hits);
    exposition_begin(exposition, "kvquantd_fetch_hits", EXPOSITION_COUNTER,
                     "Fetches that were answered in full, by where what they asked for was.");
    exposition_add(exposition, "tier=\"memory\"",
                   (double)(hits > from_disk ? hits - from_disk : 0));
    exposition_add(exposition, "tier=\"disk\"", (double)from_disk);
    exposition_begin(exposition, "kvquantd_fetch_misses", EXPOSITION_COUNTER,
                     "Fetches that were not: no such session, fewer tokens than asked for, gone on "
                     "the way, or late.");
    for (int why = 0; why < RPC_MISSES; why++)
        exposition_add(exposition, labels[why], (double)atomic_load(&rpc->fetch_misses[why]));
}

static void write_state(struct exposition *exposition, const struct rpc_daemon *rpc) {
    int state = atomic_load(&rpc->state);
    exposition_begin(exposition, "kvquantd_state", EXPOSITION_GAUGE,
                     "1 for the state the daemon is in, else 0.");
    exposition_add(exposition, "state=\"normal\"", state == RPC_NORMAL);
    exposition_add(exposition, "state=\"drained\"", state == RPC_DRAINED);
    exposition_add(exposition, "state=\"read_only\"", state == RPC_READ_ONLY);
    exposition_begin(exposition, "kvquantd_recovering", EXPOSITION_GAUGE,
                     "1 while the daemon still reads what its disk holds.");
    exposition_add(exposition, "", store_is_recovering(rpc->store));
}

static void write_build(struct exposition *exposition, const struct stats_report *report) {
    char labels[LABELS_BYTES];
    snprintf(labels, sizeof labels, "version=\"%s\",compiler=\"%s\"", report->reply.version,
             __VERSION__);
    exposition_begin(exposition, "kvquantd_build", EXPOSITION_INFO, "What this daemon is.");
    exposition_add(exposition, labels, 1);
    exposition_begin(exposition, "kvquantd_start_time_seconds", EXPOSITION_GAUGE,
                     "When the daemon started, since 1970.");
    exposition_add(exposition, "", (double)time(NULL) - report->reply.uptime_seconds);
}

static const char *const size_labels[RPC_SIZES] = {
    "size=\"4KiB\"", "size=\"64KiB\"", "size=\"1MiB\"", "size=\"16MiB\"", "size=\"more\""};

static void write_latency_of(struct exposition *exposition, const struct metrics_sources *sources,
                             uint8_t type, int size) {
    struct exposition_sum sum = {0};
    char labels[LABELS_BYTES];
    for (size_t i = 0; i < sources->reactor_count; i++)
        exposition_sum_add(&sum, &sources->reactors[i].context.seconds[type][size]);
    if (sum.count == 0)
        return;
    snprintf(labels, sizeof labels, "operation=\"%s\",%s", rpc_find(type)->name, size_labels[size]);
    exposition_add_histogram(exposition, labels, &sum, &histogram_seconds);
}

static void write_latency(struct exposition *exposition, const struct metrics_sources *sources) {
    exposition_begin(exposition, "kvquantd_request_seconds", EXPOSITION_HISTOGRAM,
                     "From a request's first frame to its answer, by operation and by the bytes "
                     "that went there and back: at most so many.");
    for (int type = 0; type < RPC_TYPES; type++)
        for (int size = 0; rpc_find((uint8_t)type) && size < RPC_SIZES; size++)
            write_latency_of(exposition, sources, (uint8_t)type, size);
}

static void write_reactors(struct exposition *exposition, const struct metrics_sources *sources) {
    struct exposition_sum lag = {0};
    uint64_t in_flight = 0, busy_ns = 0;
    for (size_t i = 0; i < sources->reactor_count; i++) {
        const struct reactor *reactor = &sources->reactors[i];
        uint64_t ns = reactor_busy_ns(reactor);
        exposition_sum_add(&lag, &reactor->lag);
        in_flight += atomic_load(&reactor->context.in_flight);
        busy_ns = ns > busy_ns ? ns : busy_ns;
    }
    exposition_begin(exposition, "kvquantd_requests_in_flight", EXPOSITION_GAUGE,
                     "Requests that have begun and are not answered.");
    exposition_add(exposition, "", (double)in_flight);
    exposition_begin(exposition, "kvquantd_loop_lag_seconds", EXPOSITION_HISTOGRAM,
                     "How long a reactor left its sockets alone while it worked, each time.");
    exposition_add_histogram(exposition, "", &lag, &histogram_seconds);
    exposition_begin(exposition, "kvquantd_loop_busy_seconds", EXPOSITION_GAUGE,
                     "For how long by now, of the reactor that did so longest.");
    exposition_add(exposition, "", (double)busy_ns * 1e-9);
}

static void write_leases(struct exposition *exposition, struct lease_pool *leases) {
    struct lease_counts counts = lease_counts(leases);
    exposition_begin(exposition, "kvquantd_buffers", EXPOSITION_GAUGE,
                     "Large buffers for frames, by what they do.");
    exposition_add(exposition, "state=\"lent\"", (double)(counts.all - counts.free));
    exposition_add(exposition, "state=\"free\"", (double)counts.free);
    exposition_begin(exposition, "kvquantd_buffers_waiting", EXPOSITION_GAUGE,
                     "Connections that wait for one.");
    exposition_add(exposition, "", (double)counts.waiting);
}

static void add_end(struct exposition *exposition, const char *labels, int64_t end) {
    if (end > 0)
        exposition_add(exposition, labels, (double)end);
}

static void write_tls(struct exposition *exposition, const struct tls_context *tls) {
    exposition_begin(exposition, "kvquantd_tls_valid_until_seconds", EXPOSITION_GAUGE,
                     "Until when, since 1970, TLS has what it was set up with: the certificate, "
                     "the clients' authorities and the lists of what these revoked, of several "
                     "the first that ends.");
    add_end(exposition, "of=\"certificate\"", tls->certificate_end);
    add_end(exposition, "of=\"authorities\"", tls->authorities_end);
    add_end(exposition, "of=\"revocations\"", tls->revocations_end);
    exposition_begin(exposition, "kvquantd_tls_handshakes", EXPOSITION_COUNTER,
                     "Handshakes of TLS by how they ended.");
    exposition_add(exposition, "result=\"established\"", (double)tls->established);
    exposition_add(exposition, "result=\"failed\"", (double)tls->failed);
}

void metrics_write(const struct metrics_sources *sources, struct exposition *exposition) {
    struct stats_report report;
    stats_read(sources->rpc, NULL, &report);
    write_build(exposition, &report);
    write_state(exposition, sources->rpc);
    write_rows(exposition, &report);
    write_levels(exposition, &sources->rpc->store->usage);
    if (sources->tells_names)
        metrics_write_tenants(exposition, &sources->rpc->store->tenants);
    write_coding(exposition, pool_coding(sources->rpc->store->pool));
    write_operations(exposition, &report);
    write_refusals(exposition, sources->rpc);
    write_fetches(exposition, sources->rpc);
    write_latency(exposition, sources);
    write_reactors(exposition, sources);
    write_leases(exposition, sources->leases);
    write_tls(exposition, sources->tls);
    exposition_end(exposition);
}
