#include "daemon/store/info.h"

#include <string.h>

#include "daemon/base/clock.h"

/* Sinks stand first; of the others, which may stand anywhere, a part of the chunk has its share. */
static uint32_t exact_tokens(const struct record *record, const struct slice *slice) {
    uint32_t sinks = record->sink_tokens > slice->first ? record->sink_tokens - slice->first : 0;
    uint64_t others = record->exact_tokens - record->sink_tokens;
    uint64_t exact = sinks + (others * slice->tokens + record->tokens - 1) / record->tokens;
    return exact < slice->tokens ? (uint32_t)exact : slice->tokens;
}

/* Bytes of a shared chunk, and its loss, are each session's in full. */
static void add_slice(struct session_info *info, const struct slice *slice) {
    struct chunk_view view = chunk_view(slice->chunk);
    struct record *record = view.record;
    uint64_t bytes = record->reserved_bytes + CHUNK_HANDLE_BYTES;
    uint64_t summary_bytes = key_summary_reserved_bytes(&slice->chunk->summary);
    uint32_t exact = exact_tokens(record, slice);
    struct record_share coded = {slice->tokens - exact, bytes - record->exact_bytes};
    struct record_share levels[USAGE_LEVELS];
    record_divide(record, coded, levels);
    for (int i = 0; i < USAGE_LEVELS; i++) {
        info->levels[i].tokens += levels[i].tokens;
        info->levels[i].bytes += levels[i].bytes;
    }
    info->sinks.tokens += exact;
    info->sinks.bytes += record->exact_bytes;
    info->stored_bytes += bytes + summary_bytes;
    info->unique_bytes += view.shared ? 0 : bytes + summary_bytes;
    info->key_summaries_bytes += summary_bytes;
    info->disk_bytes += view.disk_bytes;
    for (int part = 0; part < GEOMETRY_PARTS; part++)
        loss_add(&info->loss[part], &record->loss[part]);
    record_unpin(record);
}

static void count_tail(struct session_info *info, const struct session *session, uint64_t bytes,
                       bool shared, int level) {
    info->tail = (struct info_count){session->tail_tokens, bytes};
    info->tail_level = level;
    info->stored_bytes += bytes;
    info->unique_bytes += shared ? 0 : bytes;
}

static void add_tail(struct session_info *info, const struct session *session) {
    const struct tail *tail = session->tail;
    bool shared;
    uint64_t bytes = tail_bytes(session->tail, &shared);
    count_tail(info, session, bytes, shared, tail->level);
    for (uint32_t layer = 0; layer < session->geometry.layers; layer++)
        for (enum page_part part = PAGE_K; part <= PAGE_V; part++)
            loss_add(&info->loss[part], tail_loss(tail, layer, part));
}

static void add_coded_tail(struct session_info *info, const struct session *session) {
    struct chunk_view view = chunk_view(session->coded_tail.chunk);
    uint64_t bytes = view.record->reserved_bytes + CHUNK_HANDLE_BYTES;
    count_tail(info, session, bytes, view.shared, view.record->level);
    info->tail_coded = true;
    for (int part = 0; part < GEOMETRY_PARTS; part++)
        loss_add(&info->loss[part], &view.record->loss[part]);
    record_unpin(view.record);
}

static void add_attachments(struct session_info *info, const struct session *session) {
    struct attachment_sums sums = attachment_set_sums(session->attachments);
    info->attachments = (struct info_attachments){attachment_set_count(session->attachments),
                                                  sums.given_bytes, sums.memory_bytes};
    info->stored_bytes += sums.memory_bytes;
    info->unique_bytes += sums.unique_bytes;
    info->disk_bytes += sums.disk_bytes;
}

static void add_batches(struct session_info *info, const struct session *session) {
    info->batches = batch_set_sums(session);
    info->stored_bytes += info->batches.memory_bytes;
    info->unique_bytes += info->batches.unique_bytes;
    info->disk_bytes += info->batches.disk_bytes;
}

static void read_locked(const struct session *session, struct session_info *info) {
    uint64_t now = clock_now_ns(), own_bytes = session_own_bytes(session);
    uint64_t ids_bytes, unique_ids_bytes;
    info->id = session->id;
    info->chunks = session->slice_count;
    session_read_state(session, &info->state);
    for (size_t i = 0; i < session->slice_count; i++)
        add_slice(info, &session->slices[i]);
    if (session->tail)
        add_tail(info, session);
    if (session->coded_tail.chunk)
        add_coded_tail(info, session);
    add_attachments(info, session);
    add_batches(info, session);
    prefix_bytes(session, &ids_bytes, &unique_ids_bytes);
    info->stored_bytes += own_bytes + ids_bytes;
    info->unique_bytes += own_bytes + unique_ids_bytes;
    info->sharing = session->sharing;
    info->token_ids_tokens = session->prefix.tokens;
    info->values = session->tokens * geometry_values_per_token(&session->geometry);
    info->logical_bytes = session->tokens * geometry_token_bytes(&session->geometry);
    info->age_ns = now - session->created_ns;
    info->idle_ns = now - session->used_ns;
    info->idle_steps = session_policy_idle_steps(&session->policy, info->idle_ns);
    info->pinned_ns = session->pinned_until_ns > now ? session->pinned_until_ns - now : 0;
}

int info_read(struct session *session, struct session_info *info) {
    memset(info, 0, sizeof *info);
    pthread_mutex_lock(session->lock);
    bool deleted = session->deleted;
    if (!deleted)
        read_locked(session, info);
    pthread_mutex_unlock(session->lock);
    return deleted ? STORE_MISS : STORE_OK;
}

static void add_share(struct info_range *range, const struct slice *slice, uint64_t first,
                      uint64_t end) {
    uint64_t slice_end = slice->start + slice->tokens;
    uint64_t from = first > slice->start ? first : slice->start;
    uint64_t to = end < slice_end ? end : slice_end;
    if (!slice->chunk || from >= to)
        return;
    struct chunk_view view = chunk_view(slice->chunk);
    range->bytes += view.record->bytes * (to - from) / view.record->tokens;
    if (view.record->level > range->level)
        range->level = view.record->level;
    record_unpin(view.record);
}

static void add_tail_share(struct info_range *range, const struct session *session, uint64_t first,
                           uint64_t end) {
    uint64_t tail_first = session->tokens - session->tail_tokens;
    uint64_t from = first > tail_first ? first : tail_first;
    uint64_t to = end < session->tokens ? end : session->tokens;
    if (!session->tail || from >= to)
        return;
    range->bytes += (to - from) * geometry_token_bytes(&session->geometry);
    if (session->tail->level > range->level)
        range->level = session->tail->level;
}

struct info_range info_range(struct session *session, uint64_t first, uint64_t end) {
    struct info_range range = {.level = PAGE_LEVEL_MIN};
    pthread_mutex_lock(session->lock);
    const struct slice *slice = session_find_slice(session, first);
    const struct slice *slices_end = slice ? session->slices + session->slice_count : NULL;
    for (; slice < slices_end && slice->start < end; slice++)
        add_share(&range, slice, first, end);
    add_share(&range, &session->coded_tail, first, end);
    add_tail_share(&range, session, first, end);
    pthread_mutex_unlock(session->lock);
    return range;
}

static uint64_t disk_bytes(const struct usage *usage) {
    uint64_t bytes =
        atomic_load(&usage->attachments.disk_bytes) + atomic_load(&usage->batches.disk_bytes);
    for (int i = 0; i < USAGE_LEVELS; i++)
        bytes += atomic_load(&usage->disk[i].bytes);
    return bytes;
}

static void read_totals(const struct usage *usage, struct store_totals *totals) {
    totals->sessions = atomic_load(&usage->sessions);
    totals->tokens = atomic_load(&usage->tokens);
    totals->values = atomic_load(&usage->values);
    totals->logical_bytes = atomic_load(&usage->logical_bytes);
    totals->sessions_bytes = atomic_load(&usage->sessions_bytes) +
                             atomic_load(&usage->attachments.bytes) +
                             atomic_load(&usage->batches.bytes);
    totals->pages_bytes = atomic_load(&usage->pages_bytes);
    totals->key_summaries_bytes = atomic_load(&usage->key_summaries_bytes);
    totals->tails_bytes = atomic_load(&usage->tails_bytes);
    totals->disk_bytes = disk_bytes(usage);
    totals->unique_bytes = totals->sessions_bytes + totals->pages_bytes + totals->tails_bytes;
    totals->stored_bytes =
        atomic_load(&usage->sessions_bytes) + atomic_load(&usage->pages_full_bytes) +
        atomic_load(&usage->tails_full_bytes) + atomic_load(&usage->attachments.full_bytes) +
        atomic_load(&usage->batches.full_bytes);
}

void info_totals(struct store *store, struct store_totals *totals) {
    uint64_t blocks_bytes = atomic_load(&store->blocks.bytes);
    uint64_t indexes_bytes = atomic_load(&store->prefixes.bytes) + blocks_bytes;
    read_totals(&store->usage, totals);
    totals->sessions_bytes += indexes_bytes;
    totals->unique_bytes += indexes_bytes;
    totals->stored_bytes += atomic_load(&store->prefixes.full_bytes) + blocks_bytes;
}

void info_totals_of(const struct tenant *tenant, struct store_totals *totals) {
    read_totals(&tenant->usage, totals);
}
