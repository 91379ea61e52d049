/* The daemon's statistics, lent out of the client's arena. */
#include "client/c/client.h"

#include <stdio.h>

static int no_room(struct kvq_client *client) {
    return kvq_fail(client, KVQ_NO_MEMORY,
                    "the daemon's answer takes more memory than is set aside");
}

static int fill_operations(struct kvq_client *client, const Kvq__StatsReply *reply,
                           struct kvq_stats *stats) {
    struct kvq_operation_count *operations =
        wire_arena_alloc(&client->arena, reply->n_operations * sizeof *operations);
    if (!operations)
        return no_room(client);
    for (size_t i = 0; i < reply->n_operations; i++)
        operations[i] = (struct kvq_operation_count){
            .operation = reply->operations[i]->operation,
            .requests = reply->operations[i]->requests,
            .errors = reply->operations[i]->errors,
            .total_us = reply->operations[i]->total_us,
            .max_us = reply->operations[i]->max_us,
        };
    stats->operations = operations;
    stats->operation_count = reply->n_operations;
    return KVQ_OK;
}

static int fill_errors(struct kvq_client *client, const Kvq__StatsReply *reply,
                       struct kvq_stats *stats) {
    struct kvq_error_count *errors =
        wire_arena_alloc(&client->arena, reply->n_errors * sizeof *errors);
    if (!errors)
        return no_room(client);
    for (size_t i = 0; i < reply->n_errors; i++)
        errors[i] = (struct kvq_error_count){reply->errors[i]->error, reply->errors[i]->count};
    stats->errors = errors;
    stats->error_count = reply->n_errors;
    return KVQ_OK;
}

static void fill_parts(const Kvq__StatsReply *reply, struct kvq_stats *stats) {
    if (reply->memory) {
        stats->memory.pages_bytes = reply->memory->pages_bytes;
        stats->memory.tails_bytes = reply->memory->tails_bytes;
        stats->memory.sessions_bytes = reply->memory->sessions_bytes;
        stats->memory.fixed_bytes = reply->memory->fixed_bytes;
        stats->memory.warm_bytes = reply->memory->warm_bytes;
    }
    if (reply->keeper) {
        stats->keeper.queued_sessions = reply->keeper->queued_sessions;
        stats->keeper.chunks = reply->keeper->chunks;
        stats->keeper.bytes_before = reply->keeper->bytes_before;
        stats->keeper.bytes_after = reply->keeper->bytes_after;
    }
    if (reply->pressure) {
        stats->pressure.rounds = reply->pressure->rounds;
        stats->pressure.aged_sessions = reply->pressure->aged_sessions;
        stats->pressure.aged_bytes = reply->pressure->aged_bytes;
        stats->pressure.evicted_sessions = reply->pressure->evicted_sessions;
        stats->pressure.evicted_tokens = reply->pressure->evicted_tokens;
        stats->pressure.evicted_bytes = reply->pressure->evicted_bytes;
        stats->pressure.deleted_sessions = reply->pressure->deleted_sessions;
        stats->pressure.refused = reply->pressure->refused;
        stats->pressure.spilled_chunks = reply->pressure->spilled_chunks;
        stats->pressure.spilled_bytes = reply->pressure->spilled_bytes;
        stats->pressure.coded_tails = reply->pressure->coded_tails;
        stats->pressure.coded_tail_bytes = reply->pressure->coded_tail_bytes;
    }
    if (reply->sharing) {
        stats->sharing.chunks = reply->sharing->chunks;
        stats->sharing.bytes = reply->sharing->bytes;
        stats->sharing.matches = reply->sharing->matches;
        stats->sharing.match_hits = reply->sharing->match_hits;
        stats->sharing.matched_tokens = reply->sharing->matched_tokens;
        stats->sharing.token_ids_bytes = reply->sharing->token_ids_bytes;
    }
}

static void fill_blocks(const Kvq__BlockStats *wire, struct kvq_stats *stats) {
    if (!wire)
        return;
    stats->blocks.blocks = wire->blocks;
    stats->blocks.tokens = wire->tokens;
    stats->blocks.index_bytes = wire->index_bytes;
    stats->blocks.put = wire->put;
    stats->blocks.asked = wire->asked;
    stats->blocks.hits = wire->hits;
    stats->blocks.lost = wire->lost;
}

static void fill_attachments(const Kvq__AttachmentStats *wire, struct kvq_stats *stats) {
    if (!wire)
        return;
    stats->attachments.attachments = wire->attachments;
    stats->attachments.bytes = wire->bytes;
    stats->attachments.stored_bytes = wire->stored_bytes;
    stats->attachments.put = wire->put;
    stats->attachments.hits = wire->hits;
    stats->attachments.misses = wire->misses;
    stats->attachments.damaged = wire->damaged;
}

static void fill_recall(const Kvq__RecallStats *wire, struct kvq_stats *stats) {
    if (!wire)
        return;
    if (wire->entries) {
        stats->recall.entries = wire->entries->entries;
        stats->recall.batches = wire->entries->batches;
        stats->recall.stored_bytes = wire->entries->stored_bytes;
    }
    snprintf(stats->recall.plugin, sizeof stats->recall.plugin, "%s", wire->plugin);
    stats->recall.plugin_on = wire->plugin_on;
    stats->recall.plugin_bytes = wire->plugin_bytes;
    stats->recall.put = wire->put;
    stats->recall.deleted = wire->deleted;
    stats->recall.recalls = wire->recalls;
    stats->recall.hits = wire->hits;
    stats->recall.total_us = wire->total_us;
    stats->recall.max_us = wire->max_us;
    stats->recall.plugin_searches = wire->plugin_searches;
    stats->recall.plugin_timeouts = wire->plugin_timeouts;
    stats->recall.plugin_faults = wire->plugin_faults;
    stats->recall.dropped_hits = wire->dropped_hits;
}

static void fill_disk(const Kvq__DiskStats *wire, struct kvq_stats *stats) {
    if (!wire)
        return;
    stats->disk.recovering = wire->recovering;
    stats->disk.limit_bytes = wire->limit_bytes;
    stats->disk.used_bytes = wire->used_bytes;
    stats->disk.live_bytes = wire->live_bytes;
    stats->disk.written_bytes = wire->written_bytes;
    stats->disk.read_bytes = wire->read_bytes;
    stats->disk.loaded_chunks = wire->loaded_chunks;
    stats->disk.loaded_bytes = wire->loaded_bytes;
    stats->disk.failed_loads = wire->failed_loads;
    stats->disk.saves = wire->saves;
    stats->disk.failed_saves = wire->failed_saves;
    stats->disk.syncs = wire->syncs;
    stats->disk.damaged = wire->damaged;
    stats->disk.reclaimed_bytes = wire->reclaimed_bytes;
    stats->disk.evicted_bytes = wire->evicted_bytes;
    stats->disk.queued_bytes = wire->queued_bytes;
}

static void fill_takeover(const Kvq__TakeoverStats *wire, struct kvq_stats *stats) {
    stats->takeover.why = "";
    if (!wire)
        return;
    stats->takeover.outcome = (enum kvq_takeover)wire->outcome;
    stats->takeover.why = wire->why;
    stats->takeover.sessions = wire->sessions;
    stats->takeover.tokens = wire->tokens;
    stats->takeover.bytes = wire->bytes;
    stats->takeover.cut_sessions = wire->cut_sessions;
    stats->takeover.took_us = wire->took_us;
    stats->takeover.set_aside_bytes = wire->set_aside_bytes;
}

static int fill_capacity(struct kvq_client *client, const Kvq__StatsReply *reply,
                         struct kvq_stats *stats) {
    struct kvq_model_capacity *models =
        wire_arena_alloc(&client->arena, reply->n_capacity * sizeof *models);
    if (!models)
        return no_room(client);
    for (size_t i = 0; i < reply->n_capacity; i++) {
        const Kvq__ModelCapacity *wire = reply->capacity[i];
        models[i] = (struct kvq_model_capacity){.model = kvq_lend_string(client, &wire->model)};
        for (size_t j = 0; j < wire->n_levels; j++) {
            int index = wire->levels[j]->level - KVQ_LEVEL_EXACT;
            if (index >= 0 && index < KVQ_LEVELS)
                models[i].tokens[index] = wire->levels[j]->tokens;
        }
        if (!models[i].model)
            return no_room(client);
    }
    stats->capacity = models;
    stats->capacity_count = reply->n_capacity;
    return KVQ_OK;
}

static struct kvq_quota quota_of(const Kvq__Quota *wire) {
    return wire ? (struct kvq_quota){wire->used, wire->limit, wire->refused}
                : (struct kvq_quota){0};
}

static int fill_tenants(struct kvq_client *client, const Kvq__StatsReply *reply,
                        struct kvq_stats *stats) {
    struct kvq_tenant_stats *tenants =
        wire_arena_alloc(&client->arena, reply->n_tenants * sizeof *tenants);
    if (!tenants)
        return no_room(client);
    for (size_t i = 0; i < reply->n_tenants; i++) {
        const Kvq__TenantStats *wire = reply->tenants[i];
        tenants[i] = (struct kvq_tenant_stats){.tenant = wire->tenant,
                                               .memory_bytes = quota_of(wire->memory_bytes),
                                               .disk_bytes = quota_of(wire->disk_bytes),
                                               .in_flight_bytes = quota_of(wire->in_flight_bytes),
                                               .sessions = quota_of(wire->sessions),
                                               .connections = quota_of(wire->connections),
                                               .requests_limit = wire->requests_limit};
    }
    stats->tenants = tenants;
    stats->tenant_count = reply->n_tenants;
    return KVQ_OK;
}

static void fill_ageing(const Kvq__AgeingStats *wire, struct kvq_stats *stats) {
    if (!wire)
        return;
    stats->ageing.chunks = wire->chunks;
    stats->ageing.bytes_before = wire->bytes_before;
    stats->ageing.bytes_after = wire->bytes_after;
    stats->ageing.expired_sessions = wire->expired_sessions;
    stats->ageing.coded_tails = wire->coded_tails;
    stats->ageing.tail_bytes_before = wire->tail_bytes_before;
    stats->ageing.tail_bytes_after = wire->tail_bytes_after;
    stats->ageing.decoded_tails = wire->decoded_tails;
}

static void fill_figures(const Kvq__StatsReply *reply, struct kvq_stats *stats) {
    *stats = (struct kvq_stats){
        .version = reply->version,
        .pid = reply->pid,
        .uptime_seconds = reply->uptime_seconds,
        .sockets = (const char *const *)reply->sockets,
        .socket_count = reply->n_sockets,
        .limit_bytes = reply->limit_bytes,
        .used_bytes = reply->used_bytes,
        .rss_bytes = reply->rss_bytes,
        .sessions = reply->sessions,
        .tokens = reply->tokens,
        .bytes_16bit = reply->bytes_16bit,
        .stored_bytes = reply->stored_bytes,
        .unique_bytes = reply->unique_bytes,
        .connections = reply->connections,
        .appended_tokens = reply->appended_tokens,
        .appended_bytes = reply->appended_bytes,
        .fetched_tokens = reply->fetched_tokens,
        .fetched_bytes = reply->fetched_bytes,
        .fetch_hits = reply->fetch_hits,
        .fetch_misses = reply->fetch_misses,
        .connections_accepted = reply->connections_accepted,
        .connections_refused = reply->connections_refused,
        .connections_stalled = reply->connections_stalled,
        .sessions_created = reply->sessions_created,
        .sessions_deleted = reply->sessions_deleted,
        .appends_waiting = reply->appends_waiting,
        .logical_bytes = reply->logical_bytes,
        .state = (enum kvq_state)reply->state,
    };
    fill_parts(reply, stats);
    fill_ageing(reply->ageing, stats);
    fill_blocks(reply->blocks, stats);
    fill_attachments(reply->attachments, stats);
    fill_recall(reply->recall, stats);
    fill_disk(reply->disk, stats);
    fill_takeover(reply->takeover, stats);
}

static int finish_stats(struct kvq_client *client, const ProtobufCMessage *message) {
    const Kvq__StatsReply *reply = (const Kvq__StatsReply *)message;
    struct kvq_stats *stats = client->call.request.result;
    fill_figures(reply, stats);
    int error = fill_operations(client, reply, stats);
    if (!error)
        error = fill_errors(client, reply, stats);
    if (!error)
        error = fill_capacity(client, reply, stats);
    if (!error)
        error = fill_tenants(client, reply, stats);
    return error ? error
                 : kvq_fill_levels(client, reply->levels, reply->n_levels, &stats->levels,
                                   &stats->level_count);
}

int kvq_stats(struct kvq_client *client, struct kvq_stats *stats) {
    int error = kvq_begin_call(client, 0);
    if (error)
        return error;
    Kvq__StatsRequest request = KVQ__STATS_REQUEST__INIT;
    return kvq_request(client, WIRE_STATS, true, &request.base, &kvq__stats_reply__descriptor,
                       finish_stats, stats);
}
