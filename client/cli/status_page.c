#include "client/cli/show.h"
#include "client/cli/status.h"
#include "client/cli/words.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NEARLY_FULL_PERCENT = 95 };

static double percent(uint64_t part, uint64_t whole) {
    return whole ? 100 * (double)part / (double)whole : 0;
}

static void attend(bool reason, uint64_t count, const char *what) {
    char text[WORD_BYTES];
    if (reason)
        printf("attention   %s %s\n", count_text(count, text), what);
}

static uint64_t internal_errors(const struct kvq_stats *stats) {
    for (size_t i = 0; i < stats->error_count; i++)
        if (strcmp(stats->errors[i].error, kvq_error_name(KVQ_INTERNAL)) == 0)
            return stats->errors[i].count;
    return 0;
}

/* What somebody who is paged looks for first. */
static void print_attention(const struct kvq_stats *stats) {
    char text[WORD_BYTES];
    double used = percent(stats->used_bytes, stats->limit_bytes);
    attend(used >= NEARLY_FULL_PERCENT, (uint64_t)used, "% of the memory limit is used");
    if (stats->state == KVQ_STATE_DRAINED || stats->state == KVQ_STATE_READ_ONLY)
        printf("attention   the daemon is %s\n", state_name(stats->state));
    attend(stats->appends_waiting > 0, stats->appends_waiting, "appends wait for memory");
    attend(stats->connections_refused > 0, stats->connections_refused,
           "connections were refused since the start");
    attend(stats->connections_stalled > 0, stats->connections_stalled,
           "connections were closed because the client was too slow");
    attend(internal_errors(stats) > 0, internal_errors(stats),
           "internal errors since the start; see the daemon's log");
    attend(stats->attachments.damaged > 0, stats->attachments.damaged,
           "attachments were found damaged since the start");
    attend(stats->disk.damaged > 0, stats->disk.damaged, "times a value on disk was damaged");
    if (stats->takeover.why[0])
        printf("attention   it began cold: what the service manager kept %s\n",
               stats->takeover.why);
    if (stats->takeover.set_aside_bytes > 0)
        printf("attention   %s set aside that crashed the daemon, beside the limit\n",
               bytes_text(stats->takeover.set_aside_bytes, text));
}

static void print_daemon(const struct kvq_stats *stats) {
    char uptime[WORD_BYTES];
    printf("kvquantd    %s, pid %" PRIu64 ", up %s\n", stats->version, stats->pid,
           seconds_text(stats->uptime_seconds, uptime));
    for (size_t i = 0; i < stats->socket_count; i++)
        printf("%-11s %s\n", i ? "" : "sockets", stats->sockets[i]);
}

static void print_kind(const struct kvq_stats *stats, const char *kind, uint64_t bytes) {
    char text[WORD_BYTES];
    printf("  %-9s %11s %6.1f %%\n", kind, bytes_text(bytes, text),
           percent(bytes, stats->limit_bytes));
}

static void print_memory(const struct kvq_stats *stats) {
    char used[WORD_BYTES], limit[WORD_BYTES], resident[WORD_BYTES], warm[WORD_BYTES];
    printf("memory      %11s %6.1f %% of %s\n", bytes_text(stats->used_bytes, used),
           percent(stats->used_bytes, stats->limit_bytes), bytes_text(stats->limit_bytes, limit));
    print_kind(stats, "pages", stats->memory.pages_bytes);
    print_kind(stats, "tails", stats->memory.tails_bytes);
    print_kind(stats, "sessions", stats->memory.sessions_bytes);
    print_kind(stats, "buffers", stats_buffers_bytes(stats));
    print_kind(stats, "fixed", stats->memory.fixed_bytes);
    printf("  %-9s %11s          %s of it free and kept warm\n", "resident",
           bytes_text(stats->rss_bytes, resident), bytes_text(stats->memory.warm_bytes, warm));
}

static void print_sessions(const struct kvq_stats *stats) {
    char a[WORD_BYTES], b[WORD_BYTES];
    printf("sessions    %s with %s tokens", count_text(stats->sessions, a),
           count_text(stats->tokens, b));
    printf("; %s made, %s deleted\n", count_text(stats->sessions_created, a),
           count_text(stats->sessions_deleted, b));
    printf("stored      %s, %s with shared parts once\n", bytes_text(stats->stored_bytes, a),
           bytes_text(stats->unique_bytes, b));
    printf("ratio       %s against the bytes given, %s\n",
           figure_text(stats_ratio(stats, stats->logical_bytes), 2, "", a),
           bytes_text(stats->logical_bytes, b));
    show_levels(stats->levels, stats->level_count);
}

static void print_keeper(const struct kvq_stats *stats) {
    char chunks[WORD_BYTES], before[WORD_BYTES], after[WORD_BYTES], queued[WORD_BYTES];
    printf("keeper      %s sessions to do; %s chunks coded anew, %s to %s\n",
           count_text(stats->keeper.queued_sessions, queued),
           count_text(stats->keeper.chunks, chunks), bytes_text(stats->keeper.bytes_before, before),
           bytes_text(stats->keeper.bytes_after, after));
}

static void print_pressure(const struct kvq_stats *stats) {
    char a[WORD_BYTES], b[WORD_BYTES], c[WORD_BYTES];
    printf("pressure    %s times; %s sessions aged to their floor, freeing %s\n",
           count_text(stats->pressure.rounds, a), count_text(stats->pressure.aged_sessions, b),
           bytes_text(stats->pressure.aged_bytes, c));
    printf("raw tails   %s coded to make room, freeing %s\n",
           count_text(stats->pressure.coded_tails, a),
           bytes_text(stats->pressure.coded_tail_bytes, b));
    printf("evicted     %s tokens, freeing %s;", count_text(stats->pressure.evicted_tokens, a),
           bytes_text(stats->pressure.evicted_bytes, b));
    printf(" %s sessions whole; %s refused\n", count_text(stats->pressure.deleted_sessions, a),
           count_text(stats->pressure.refused, b));
}

static void print_ageing(const struct kvq_stats *stats) {
    char count[WORD_BYTES], before[WORD_BYTES], after[WORD_BYTES], expired[WORD_BYTES];
    printf("idle        %s chunks coded anew, %s to %s; %s sessions expired\n",
           count_text(stats->ageing.chunks, count), bytes_text(stats->ageing.bytes_before, before),
           bytes_text(stats->ageing.bytes_after, after),
           count_text(stats->ageing.expired_sessions, expired));
    printf("idle tails  %s coded, %s to %s\n", count_text(stats->ageing.coded_tails, count),
           bytes_text(stats->ageing.tail_bytes_before, before),
           bytes_text(stats->ageing.tail_bytes_after, after));
}

static void print_sharing(const struct kvq_stats *stats) {
    char chunks[WORD_BYTES], bytes[WORD_BYTES], hits[WORD_BYTES], matches[WORD_BYTES];
    printf("sharing     %s chunks not kept twice, %s; %s of %s matches found a session\n",
           count_text(stats->sharing.chunks, chunks), bytes_text(stats->sharing.bytes, bytes),
           count_text(stats->sharing.match_hits, hits),
           count_text(stats->sharing.matches, matches));
}

static void print_blocks(const struct kvq_stats *stats) {
    char a[WORD_BYTES], b[WORD_BYTES], c[WORD_BYTES];
    printf("blocks      %s of %s tokens; %s put,", count_text(stats->blocks.blocks, a),
           count_text(stats->blocks.tokens, b), count_text(stats->blocks.put, c));
    printf(" %s of %s asked for were there; %s lost\n", count_text(stats->blocks.hits, a),
           count_text(stats->blocks.asked, b), count_text(stats->blocks.lost, c));
}

static void print_recall(const struct kvq_stats *stats) {
    char a[WORD_BYTES], b[WORD_BYTES];
    if (stats->recall.entries == 0 && stats->recall.recalls == 0)
        return;
    printf("embeddings  %s, in %s of memory;", count_text(stats->recall.entries, a),
           bytes_text(stats->recall.stored_bytes, b));
    printf(" %s recalls found %s ranges%s%s%s\n", count_text(stats->recall.recalls, a),
           count_text(stats->recall.hits, b), stats->recall.plugin[0] ? ", plugin " : "",
           stats->recall.plugin,
           stats->recall.plugin[0] && !stats->recall.plugin_on ? " is switched off" : "");
}

static void print_attachments(const struct kvq_stats *stats) {
    char a[WORD_BYTES], b[WORD_BYTES], c[WORD_BYTES];
    printf("attachments %s of %s, in %s of memory;", count_text(stats->attachments.attachments, a),
           bytes_text(stats->attachments.bytes, b), bytes_text(stats->attachments.stored_bytes, c));
    printf(" %s hits, %s misses", count_text(stats->attachments.hits, a),
           count_text(stats->attachments.misses, b));
    if (stats->attachments.damaged > 0)
        printf("; %s damaged", count_text(stats->attachments.damaged, c));
    putchar('\n');
}

static void print_disk(const struct kvq_stats *stats) {
    char a[WORD_BYTES], b[WORD_BYTES], c[WORD_BYTES];
    if (stats->disk.limit_bytes == 0)
        return;
    printf("disk        %11s %6.1f %% of %s%s\n", bytes_text(stats->disk.used_bytes, a),
           percent(stats->disk.used_bytes, stats->disk.limit_bytes),
           bytes_text(stats->disk.limit_bytes, b),
           stats->disk.recovering ? "; what was there is being found" : "");
    printf("spilled     %s chunks, freeing %s;", count_text(stats->pressure.spilled_chunks, a),
           bytes_text(stats->pressure.spilled_bytes, b));
    printf(" %s of them loaded again", count_text(stats->disk.loaded_chunks, c));
    if (stats->disk.failed_loads + stats->disk.damaged > 0)
        printf("; %s failed, %s values damaged", count_text(stats->disk.failed_loads, a),
               count_text(stats->disk.damaged, b));
    putchar('\n');
}

static void print_takeover(const struct kvq_stats *stats) {
    char a[WORD_BYTES], b[WORD_BYTES];
    if (stats->takeover.outcome == KVQ_TAKEOVER_DONE)
        printf("taken over  %s sessions of %s tokens in %.3f s\n",
               count_text(stats->takeover.sessions, a), count_text(stats->takeover.tokens, b),
               (double)stats->takeover.took_us / 1e6);
    if (stats->takeover.cut_sessions > 0)
        printf("            %s of the sessions before were shortened or lost\n",
               count_text(stats->takeover.cut_sessions, a));
}

static void print_traffic(const struct kvq_stats *stats) {
    char a[WORD_BYTES], b[WORD_BYTES], c[WORD_BYTES];
    printf("fetches     %s hits, %s misses", count_text(stats->fetch_hits, a),
           count_text(stats->fetch_misses, b));
    if (stats->fetch_hits + stats->fetch_misses > 0)
        printf(": %.1f %% hit", 100 * stats_hit_share(stats));
    printf("\nfetched     %s tokens, %s\n", count_text(stats->fetched_tokens, a),
           bytes_text(stats->fetched_bytes, b));
    printf("appended    %s tokens, %s; %s appends wait for memory\n",
           count_text(stats->appended_tokens, a), bytes_text(stats->appended_bytes, b),
           count_text(stats->appends_waiting, c));
    printf("connections %s now, %s so far", count_text(stats->connections, a),
           count_text(stats->connections_accepted, b));
    printf("; %s refused, %s stalled\n", count_text(stats->connections_refused, a),
           count_text(stats->connections_stalled, b));
}

typedef const char *(*write_amount)(uint64_t amount, char text[WORD_BYTES]);

static void print_quota(const struct kvq_quota *quota, const char *name, write_amount write) {
    char used[WORD_BYTES], limit[WORD_BYTES];
    if (quota->limit > 0)
        printf(", %s %s of %s", name, write(quota->used, used), write(quota->limit, limit));
}

/* Of tenants that have any. */
static void print_quotas(const struct kvq_stats *stats) {
    for (size_t i = 0; i < stats->tenant_count; i++) {
        const struct kvq_tenant_stats *tenant = &stats->tenants[i];
        if (tenant->memory_bytes.limit + tenant->disk_bytes.limit + tenant->in_flight_bytes.limit +
                tenant->sessions.limit + tenant->connections.limit + tenant->requests_limit ==
            0)
            continue;
        printf("quotas      of %s", tenant->tenant);
        print_quota(&tenant->memory_bytes, "memory", bytes_text);
        print_quota(&tenant->disk_bytes, "disk", bytes_text);
        print_quota(&tenant->in_flight_bytes, "in flight", bytes_text);
        print_quota(&tenant->sessions, "sessions", count_text);
        print_quota(&tenant->connections, "connections", count_text);
        if (tenant->requests_limit > 0)
            printf(", %" PRIu64 " requests a second", tenant->requests_limit);
        putchar('\n');
    }
}

/* How many more tokens of up to 8 models fit, at each level. */
static void print_capacity(const struct kvq_stats *stats) {
    char tokens[WORD_BYTES];
    if (stats->capacity_count == 0)
        return;
    putchar('\n');
    for (int level = KVQ_LEVEL_EXACT; level <= KVQ_LEVEL_COARSEST; level++)
        printf("%6s ", level_name(level));
    puts(" ROOM FOR TOKENS OF");
    for (size_t i = 0; i < stats->capacity_count; i++) {
        for (int j = 0; j < KVQ_LEVELS; j++)
            printf("%6s ", short_count_text(stats->capacity[i].tokens[j], tokens));
        printf(" %s\n", stats->capacity[i].model);
    }
}

static void print_operations(const struct kvq_stats *stats) {
    char requests[WORD_BYTES], failed[WORD_BYTES], mean[WORD_BYTES], longest[WORD_BYTES];
    printf("\n%-13s %14s %10s %10s %10s\n", "OPERATION", "REQUESTS", "FAILED", "MEAN", "LONGEST");
    for (size_t i = 0; i < stats->operation_count; i++) {
        const struct kvq_operation_count *operation = &stats->operations[i];
        if (operation->requests == 0)
            continue;
        printf("%-13s %14s %10s %10s %10s\n", operation->operation,
               count_text(operation->requests, requests), count_text(operation->errors, failed),
               microseconds_text((double)operation->total_us / (double)operation->requests, mean),
               microseconds_text((double)operation->max_us, longest));
    }
}

static void print_errors(const struct kvq_stats *stats) {
    char count[WORD_BYTES];
    if (stats->error_count > 0)
        printf("\n%-18s %7s\n", "ERROR", "TIMES");
    for (size_t i = 0; i < stats->error_count; i++)
        printf("%-18s %7s\n", stats->errors[i].error, count_text(stats->errors[i].count, count));
}

void print_stats_page(const struct kvq_stats *stats) {
    print_attention(stats);
    print_daemon(stats);
    print_memory(stats);
    print_sessions(stats);
    print_keeper(stats);
    print_pressure(stats);
    print_ageing(stats);
    print_sharing(stats);
    print_blocks(stats);
    print_attachments(stats);
    print_recall(stats);
    print_disk(stats);
    print_takeover(stats);
    print_traffic(stats);
    print_quotas(stats);
    print_capacity(stats);
    print_operations(stats);
    print_errors(stats);
}
