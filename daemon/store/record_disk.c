#include "daemon/store/record_disk.h"

#include <stdlib.h>

#include "daemon/base/bytes.h"

void record_write_summary(const struct record *record, uint8_t summary[RECORD_SUMMARY_BYTES]) {
    const struct loss *k = &record->loss[PAGE_K], *v = &record->loss[PAGE_V];
    bytes_put(summary, record->bytes, 8);
    bytes_put(summary + 8, record->tokens, 4);
    bytes_put(summary + 12, record->sink_tokens, 4);
    bytes_put(summary + 16, record->exact_tokens, 4);
    bytes_put(summary + 20, (uint8_t)record->level, 1);
    bytes_put(summary + 21, (uint8_t)atomic_load(&record->level_asked), 1);
    bytes_put(summary + 22, (unsigned)k->estimated | (unsigned)v->estimated << 1, 2);
    bytes_put_double(summary + 24, k->error);
    bytes_put_double(summary + 32, k->energy);
    bytes_put_double(summary + 40, v->error);
    bytes_put_double(summary + 48, v->energy);
    for (int i = 0; i < USAGE_LEVELS; i++)
        bytes_put(summary + 56 + 4 * i, record->levels[i].pages, 4);
}

static bool is_level(int level) {
    return level >= PAGE_LEVEL_MIN && level <= PAGE_LEVEL_MAX;
}

static bool can_be(const struct record *record) {
    uint64_t pages = 0;
    for (int i = 0; i < USAGE_LEVELS; i++)
        pages += record->levels[i].pages;
    return record->bytes > 0 && record->bytes <= UINT32_MAX && record->tokens > 0 &&
           record->sink_tokens <= record->exact_tokens && record->exact_tokens <= record->tokens &&
           is_level(record->level) && is_level(record->level_asked) && pages > 0;
}

struct record *record_read_summary(struct pool *pool, struct budget *budget,
                                   const uint8_t summary[RECORD_SUMMARY_BYTES]) {
    struct record *record = calloc(1, sizeof *record);
    if (!record)
        return NULL;
    *record = (struct record){
        .pins = 1,
        .pool = pool,
        .budget = budget,
        .serial = pool_next_serial(pool),
        .bytes = bytes_get(summary, 8),
        .tokens = (uint32_t)bytes_get(summary + 8, 4),
        .sink_tokens = (uint32_t)bytes_get(summary + 12, 4),
        .exact_tokens = (uint32_t)bytes_get(summary + 16, 4),
        .level = (int8_t)summary[20],
        .level_asked = (int8_t)summary[21],
        .loss = {{bytes_get_double(summary + 24), bytes_get_double(summary + 32), summary[22] & 1},
                 {bytes_get_double(summary + 40), bytes_get_double(summary + 48),
                  summary[22] >> 1 & 1}},
    };
    for (int i = 0; i < USAGE_LEVELS; i++)
        record->levels[i].pages = (uint32_t)bytes_get(summary + 56 + 4 * i, 4);
    if (can_be(record))
        return record;
    free(record);
    return NULL;
}

struct record *record_without_bytes(const struct record *record) {
    uint8_t summary[RECORD_SUMMARY_BYTES];
    record_write_summary(record, summary);
    struct record *absent = record_read_summary(record->pool, record->budget, summary);
    if (absent)
        absent->serial = record->serial;
    return absent;
}

size_t record_parts_max(const struct record *record) {
    return 1 + (size_t)record_layers(record) * GEOMETRY_PARTS;
}

static int compare(const void *a, const void *b) {
    const struct disk_part *left = a, *right = b;
    return (left->memory > right->memory) - (left->memory < right->memory);
}

size_t record_parts(const struct record *record, struct disk_part *parts, size_t parts_max) {
    const uint8_t *memory = record_room(record), *record_end = memory + record->bytes;
    size_t count = 1;
    parts[0].memory = memory;
    for (size_t i = 0; i + 1 < parts_max; i++) {
        struct record_page page;
        if (record_find_page(record, (uint32_t)(i / GEOMETRY_PARTS),
                             (enum page_part)(i % GEOMETRY_PARTS), &page) < 0)
            return 0;
        if (page.bytes > 0)
            parts[count++].memory = memory + page.offset;
    }
    qsort(parts, count, sizeof *parts, compare);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *start = parts[i].memory;
        const uint8_t *end = i + 1 < count ? parts[i + 1].memory : record_end;
        parts[i].bytes = (size_t)(end - start);
    }
    return count;
}

static struct record *copy_handle(const struct record *absent) {
    struct record *record = calloc(1, sizeof *record);
    if (!record)
        return NULL;
    *record = (struct record){.pins = 1,
                              .pool = absent->pool,
                              .budget = absent->budget,
                              .serial = absent->serial,
                              .bytes = absent->bytes,
                              .tokens = absent->tokens,
                              .level = PAGE_EXACT,
                              .level_asked = atomic_load(&absent->level_asked)};
    return record;
}

struct record *record_with_room(const struct record *absent) {
    struct record *record = copy_handle(absent);
    uint64_t bytes = pool_round(absent->bytes);
    if (!record || pool_take(absent->pool, bytes, absent->budget, &record->extent) < 0) {
        free(record);
        return NULL;
    }
    record->reserved_bytes = record->extent.warm_bytes;
    if (!budget_reserve(record->budget, bytes - record->reserved_bytes)) {
        record_unpin(record);
        return NULL;
    }
    record->reserved_bytes = bytes;
    return record;
}

void *record_room(const struct record *record) {
    return pool_memory(record->pool, &record->extent);
}

int record_check_arrived(struct record *record, const struct geometry *geometry) {
    const uint8_t *memory = record_room(record);
    struct record_tally tally = {0};
    if (record_check_header(record, geometry) < 0)
        return -1;
    for (uint32_t layer = 0; layer < geometry->layers; layer++)
        for (enum page_part part = PAGE_K; part <= PAGE_V; part++) {
            struct record_page page;
            struct page_info info;
            if (geometry_head_dim(geometry, part) == 0)
                continue;
            if (record_find_page(record, layer, part, &page) < 0 ||
                page_peek(memory + page.offset, page.bytes, &info) != PAGE_OK || info.part != part)
                return -1;
            record_count_page(record, &tally, &info, page.bytes, (double)page.inherited_error);
        }
    record_count_end(record, &tally);
    return 0;
}
