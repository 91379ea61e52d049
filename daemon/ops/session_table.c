#include "daemon/ops/session_table.h"

#include <string.h>

#include "daemon/base/clock.h"

#define FRESH_NS (4 * CLOCK_NS_PER_S)

static const uint64_t size_bounds[] = {64 << 10, 1 << 20, 16 << 20, 256 << 20, UINT64_C(4) << 30};
static const uint64_t age_bounds_s[] = {10, 60, 600, 3600, 86400};

static size_t bucket_of(uint64_t value, const uint64_t *bounds, size_t count) {
    size_t bucket = 0;
    while (bucket < count && value >= bounds[bucket])
        bucket++;
    return bucket;
}

/* Where a session of this size belongs among the largest; SESSION_TABLE_ROWS: nowhere. */
static size_t place_of(const struct session_table *table, uint64_t bytes) {
    size_t place = table->row_count;
    while (place > 0 && table->rows[place - 1].stored_bytes < bytes)
        place--;
    return place;
}

static size_t copy_name(char *to, const char *from, size_t bytes) {
    size_t count = bytes < SESSION_TABLE_NAME_BYTES ? bytes : SESSION_TABLE_NAME_BYTES;
    memcpy(to, from, count);
    return count;
}

static void enter(struct session_table *table, const struct session *session,
                  const struct session_info *info) {
    size_t place = place_of(table, info->stored_bytes);
    if (place == SESSION_TABLE_ROWS)
        return;
    if (table->row_count < SESSION_TABLE_ROWS)
        table->row_count++;
    memmove(&table->rows[place + 1], &table->rows[place],
            (table->row_count - place - 1) * sizeof table->rows[0]);
    struct session_row *row = &table->rows[place];
    *row = (struct session_row){
        .tenant = session->tenant,
        .tokens = info->state.tokens,
        .logical_bytes = info->logical_bytes,
        .stored_bytes = info->stored_bytes,
        .disk_bytes = info->disk_bytes,
        .age_ns = info->age_ns,
        .idle_ns = info->idle_ns,
    };
    row->name_bytes = copy_name(row->name, session->name, session->name_bytes);
    row->model_bytes = copy_name(row->model, session->model, session->model_bytes);
}

static void count(struct session_table *table, const struct session *session,
                  const struct session_info *info) {
    size_t size = bucket_of(info->stored_bytes, size_bounds, SESSION_TABLE_SIZES - 1);
    size_t age = bucket_of(info->idle_ns / CLOCK_NS_PER_S, age_bounds_s, SESSION_TABLE_AGES - 1);
    table->sizes[size]++;
    table->ages[age]++;
    enter(table, session, info);
}

void session_table_refresh(struct session_table *table, struct store *store) {
    uint64_t now = clock_now_ns();
    if (table->made_ns > 0 && now - table->made_ns < FRESH_NS)
        return;
    *table = (struct session_table){.made_ns = now};
    struct session *session = list_after(&store->list, 0);
    for (; session && table->walked < SESSION_TABLE_WALKED_MOST;
         session = list_next(&store->list, session)) {
        struct session_info info;
        table->walked++;
        if (info_read(session, &info) == STORE_OK)
            count(table, session, &info);
    }
    table->complete = !session;
    if (session)
        session_unref(session);
}
