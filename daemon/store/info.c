#include "daemon/store/info.h"

#include <string.h>

static void add_slice(struct session_info *info, const struct slice *slice) {
    struct record *record = chunk_pin(slice->chunk);
    uint64_t bytes = record->reserved_bytes + CHUNK_HANDLE_BYTES;
    uint32_t sinks = record->sink_tokens < slice->tokens ? record->sink_tokens : slice->tokens;
    struct info_count *level = &info->levels[record->level - PAGE_LEVEL_MIN];
    level->tokens += slice->tokens - sinks;
    level->bytes += bytes - record->sink_bytes;
    info->sinks.tokens += sinks;
    info->sinks.bytes += record->sink_bytes;
    info->stored_bytes += bytes;
    for (int part = 0; part < GEOMETRY_PARTS; part++)
        loss_add(&info->loss[part], &record->loss[part]);
    record_unpin(record);
}

static void read_locked(const struct session *session, struct session_info *info) {
    info->id = session->id;
    session_read_state(session, &info->state);
    for (size_t i = 0; i < session->slice_count; i++)
        add_slice(info, &session->slices[i]);
    if (session->tail) {
        info->tail = (struct info_count){session->tail_tokens, session->tail->charged_bytes};
        info->stored_bytes += info->tail.bytes;
    }
    info->stored_bytes += session_own_bytes(session);
    info->values = session->tokens * geometry_values_per_token(&session->geometry);
    info->logical_bytes = info->values * page_value_bytes(session->geometry.dtype);
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

void info_totals(struct store *store, struct store_totals *totals) {
    *totals = (struct store_totals){0};
    struct session_info info;
    for (struct session *session = store_after(store, 0); session;
         session = store_next(store, session)) {
        if (info_read(session, &info) != STORE_OK)
            continue;
        totals->sessions++;
        totals->tokens += info.state.tokens;
        totals->values += info.values;
        totals->stored_bytes += info.stored_bytes;
    }
}
