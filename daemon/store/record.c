#include "daemon/store/record.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "daemon/base/bytes.h"
#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/store/coding.h"

enum {
    MAGIC_BYTES = 8,
    FORMAT = 0,
    HASH_OFFSET = 88,
    GEOMETRY_OFFSET = 44,
};

static const char magic[MAGIC_BYTES + 1] = "KVQCHUNK";

void loss_add(struct loss *sum, const struct loss *more) {
    sum->error += more->error;
    sum->energy += more->energy;
    sum->estimated |= more->estimated;
}

/* Of some builds of libxxhash for x86-64: chooses the widest vectors that the processor has. */
XXH64_hash_t XXH3_64bits_dispatch(const void *bytes, size_t count) __attribute__((weak));

uint64_t record_hash(const void *bytes, size_t count) {
    return XXH3_64bits_dispatch ? XXH3_64bits_dispatch(bytes, count) : XXH3_64bits(bytes, count);
}

bool record_header_is_whole(uint8_t *memory, size_t bytes, size_t hash_offset) {
    uint64_t hash = bytes_get(memory + hash_offset, 8);
    bytes_put(memory + hash_offset, 0, 8);
    uint64_t expected = record_hash(memory, bytes);
    bytes_put(memory + hash_offset, hash, 8);
    return hash == expected;
}

static size_t directory_offset(const struct record_spec *spec) {
    return (RECORD_FIXED_BYTES + spec->tenant_bytes + spec->model_bytes + spec->session_bytes + 7) /
           8 * 8;
}

uint32_t record_layers(const struct record *record) {
    const uint8_t *memory = pool_memory(record->pool, &record->extent);
    return (uint32_t)bytes_get(memory + GEOMETRY_OFFSET, 4);
}

size_t record_header_bytes(const struct record_spec *spec) {
    return directory_offset(spec) +
           (size_t)spec->geometry->layers * GEOMETRY_PARTS * RECORD_ENTRY_BYTES;
}

void record_write_header(uint8_t *memory, const struct record_spec *spec) {
    memcpy(memory, magic, MAGIC_BYTES);
    bytes_put(memory + 8, FORMAT, 4);
    bytes_put(memory + 12, record_header_bytes(spec), 4);
    bytes_put(memory + 24, spec->session_id, 8);
    bytes_put(memory + 32, spec->first_token, 8);
    bytes_put(memory + 40, spec->tokens, 4);
    geometry_write(spec->geometry, memory + GEOMETRY_OFFSET);
    bytes_put(memory + 80, (uint8_t)spec->level, 1);
    bytes_put(memory + 82, spec->tenant_bytes, 2);
    bytes_put(memory + 84, spec->model_bytes, 2);
    bytes_put(memory + 86, spec->session_bytes, 2);
    bytes_put_double(memory + 96, spec->min_snr_db);
    uint8_t *strings = memory + RECORD_FIXED_BYTES;
    memcpy(strings, spec->tenant, spec->tenant_bytes);
    memcpy(strings + spec->tenant_bytes, spec->model, spec->model_bytes);
    memcpy(strings + spec->tenant_bytes + spec->model_bytes, spec->session, spec->session_bytes);
}

void record_read_spec(const struct record *record, struct record_spec *spec) {
    const uint8_t *memory = pool_memory(record->pool, &record->extent);
    const char *strings = (const char *)memory + RECORD_FIXED_BYTES;
    *spec = (struct record_spec){
        .session_id = bytes_get(memory + 24, 8),
        .first_token = bytes_get(memory + 32, 8),
        .tokens = record->tokens,
        .level = (int8_t)memory[80],
        .min_snr_db = bytes_get_double(memory + 96),
        .tenant = strings,
        .tenant_bytes = bytes_get(memory + 82, 2),
        .model_bytes = bytes_get(memory + 84, 2),
        .session_bytes = bytes_get(memory + 86, 2),
    };
    spec->model = strings + spec->tenant_bytes;
    spec->session = spec->model + spec->model_bytes;
}

/* The directory stands at the header's end. */
static size_t entry_offset(const uint8_t *memory, uint32_t layer, enum page_part part) {
    size_t header_bytes = bytes_get(memory + 12, 4), layers = bytes_get(memory + 44, 4);
    size_t index = (size_t)layer * GEOMETRY_PARTS + part;
    return header_bytes - (layers * GEOMETRY_PARTS - index) * RECORD_ENTRY_BYTES;
}

void record_write_page(uint8_t *memory, uint32_t layer, enum page_part part,
                       const struct record_page *page) {
    uint8_t *entry = memory + entry_offset(memory, layer, part);
    bytes_put(entry, page->offset, 4);
    bytes_put(entry + 4, page->bytes, 4);
    bytes_put(entry + 8, page->hash, 8);
    bytes_put_float(entry + 16, page->inherited_error);
}

void record_seal(uint8_t *memory, uint64_t record_bytes) {
    bytes_put(memory + 16, record_bytes, 8);
    bytes_put(memory + HASH_OFFSET, record_hash(memory, bytes_get(memory + 12, 4)), 8);
}

int record_check_header(const struct record *record, const struct geometry *geometry) {
    uint8_t *memory = pool_memory(record->pool, &record->extent), said[GEOMETRY_BYTES];
    geometry_write(geometry, said);
    if (record->bytes < RECORD_FIXED_BYTES || memcmp(memory, magic, MAGIC_BYTES) != 0 ||
        bytes_get(memory + 8, 4) != FORMAT || bytes_get(memory + 16, 8) != record->bytes ||
        bytes_get(memory + 40, 4) != record->tokens ||
        memcmp(memory + GEOMETRY_OFFSET, said, GEOMETRY_BYTES) != 0)
        return -1;
    struct record_spec spec = {.tenant_bytes = bytes_get(memory + 82, 2),
                               .model_bytes = bytes_get(memory + 84, 2),
                               .session_bytes = bytes_get(memory + 86, 2),
                               .geometry = geometry};
    uint64_t header_bytes = bytes_get(memory + 12, 4);
    return header_bytes == record_header_bytes(&spec) && header_bytes <= record->bytes &&
                   record_header_is_whole(memory, header_bytes, HASH_OFFSET)
               ? 0
               : -1;
}

int record_read_outline(const uint8_t fixed[RECORD_FIXED_BYTES], const struct geometry *geometry,
                        struct record_outline *outline) {
    uint8_t said[GEOMETRY_BYTES];
    struct record_spec spec = {.tenant_bytes = bytes_get(fixed + 82, 2),
                               .model_bytes = bytes_get(fixed + 84, 2),
                               .session_bytes = bytes_get(fixed + 86, 2),
                               .geometry = geometry};
    geometry_write(geometry, said);
    *outline = (struct record_outline){.bytes = bytes_get(fixed + 16, 8),
                                       .header_bytes = bytes_get(fixed + 12, 4),
                                       .directory_offset = directory_offset(&spec),
                                       .tokens = (uint32_t)bytes_get(fixed + 40, 4),
                                       .level = (int8_t)fixed[80],
                                       .min_snr_db = bytes_get_double(fixed + 96)};
    bool can_be = memcmp(fixed, magic, MAGIC_BYTES) == 0 && bytes_get(fixed + 8, 4) == FORMAT &&
                  memcmp(fixed + GEOMETRY_OFFSET, said, GEOMETRY_BYTES) == 0 &&
                  outline->header_bytes == record_header_bytes(&spec) &&
                  outline->header_bytes <= outline->bytes && outline->tokens > 0 &&
                  outline->tokens <= geometry_page_tokens(geometry) &&
                  outline->level >= PAGE_LEVEL_MIN && outline->level <= PAGE_LEVEL_MAX &&
                  outline->min_snr_db >= 0 && !isinf(outline->min_snr_db);
    return can_be ? 0 : -1;
}

static int adopt_entry(const struct record *record, uint32_t layer, enum page_part part,
                       uint64_t header_bytes_before, bool is_used) {
    struct record_page page;
    uint8_t *memory = pool_memory(record->pool, &record->extent);
    uint64_t header_bytes = bytes_get(memory + 12, 4);
    uint8_t *entry = memory + entry_offset(memory, layer, part);
    page = (struct record_page){.offset = (uint32_t)bytes_get(entry, 4),
                                .bytes = (uint32_t)bytes_get(entry + 4, 4),
                                .hash = bytes_get(entry + 8, 8),
                                .inherited_error = bytes_get_float(entry + 16)};
    if (!is_used)
        return page.offset == 0 && page.bytes == 0 ? 0 : -1;
    uint64_t offset = page.offset - header_bytes_before + header_bytes;
    if (page.offset < header_bytes_before || page.offset % 8 != 0 || page.bytes == 0 ||
        offset > record->bytes || page.bytes > record->bytes - offset ||
        !(page.inherited_error >= 0) || isinf(page.inherited_error))
        return -1;
    page.offset = (uint32_t)offset;
    record_write_page(memory, layer, part, &page);
    return 0;
}

int record_adopt_directory(const struct record *record, const struct geometry *geometry,
                           uint64_t header_bytes_before) {
    int status = 0;
    for (uint32_t layer = 0; layer < geometry->layers && status == 0; layer++)
        for (enum page_part part = PAGE_K; part <= PAGE_V && status == 0; part++)
            status = adopt_entry(record, layer, part, header_bytes_before,
                                 geometry_head_dim(geometry, part) > 0);
    return status;
}

void record_divide(const struct record *record, struct record_share whole,
                   struct record_share levels[USAGE_LEVELS]) {
    uint64_t pages = 0, before = 0, left_bytes = whole.bytes;
    for (int i = 0; i < USAGE_LEVELS; i++)
        pages += record->levels[i].pages;
    for (int i = 0; i < USAGE_LEVELS; i++) {
        uint64_t end = before + record->levels[i].pages;
        levels[i].tokens = whole.tokens * end / pages - whole.tokens * before / pages;
        levels[i].bytes = record->levels[i].bytes;
        left_bytes -= levels[i].bytes;
        before = end;
    }
    levels[record->level - PAGE_LEVEL_MIN].bytes += left_bytes;
}

void record_count_page(struct record *record, struct record_tally *tally,
                       const struct page_info *info, size_t page_bytes, double inherited_error) {
    struct record_level *level = &record->levels[info->level - PAGE_LEVEL_MIN];
    loss_add(&record->loss[info->part],
             &(struct loss){.error = info->loss.error + inherited_error,
                            .energy = info->loss.energy,
                            .estimated = info->estimated || inherited_error > 0});
    if (info->level > record->level)
        record->level = info->level;
    level->pages++;
    level->bytes += (uint32_t)(page_bytes - info->sink_bytes);
    record->sink_tokens = info->sink_tokens;
    record->exact_bytes += info->sink_bytes;
    tally->exact_tokens += info->exact_tokens;
    tally->pages++;
}

void record_count_end(struct record *record, const struct record_tally *tally) {
    record->exact_tokens = (uint32_t)((tally->exact_tokens + tally->pages - 1) / tally->pages);
}

void record_pin(struct record *record) {
    atomic_fetch_add(&record->pins, 1);
}

void record_unpin(struct record *record) {
    if (atomic_fetch_sub(&record->pins, 1) > 1)
        return;
    pool_give(record->pool, &record->extent, 0, record->budget, record->reserved_bytes);
    budget_tell_waiting(record->budget); /* also of what stays warm */
    free(record);
}

int record_find_page(const struct record *record, uint32_t layer, enum page_part part,
                     struct record_page *page) {
    if (record_is_absent(record))
        return -1;
    const uint8_t *memory = pool_memory(record->pool, &record->extent);
    const uint8_t *entry = memory + entry_offset(memory, layer, part);
    *page = (struct record_page){
        .offset = (uint32_t)bytes_get(entry, 4),
        .bytes = (uint32_t)bytes_get(entry + 4, 4),
        .hash = bytes_get(entry + 8, 8),
        .inherited_error = bytes_get_float(entry + 16),
    };
    return page->offset <= record->bytes && page->bytes <= record->bytes - page->offset ? 0 : -1;
}

static int say_damaged(const struct record *record, uint32_t layer) {
    log_error("a page in the pool is damaged: layer %u of the record at %llu", layer,
              (unsigned long long)record->extent.offset);
    return -1;
}

int record_read_page(const struct record *record, uint32_t layer, enum page_part part,
                     struct page_bytes *bytes, double *inherited_error) {
    struct record_page page;
    const uint8_t *memory = pool_memory(record->pool, &record->extent);
    if (record_find_page(record, layer, part, &page) < 0 ||
        record_hash(memory + page.offset, page.bytes) != page.hash)
        return say_damaged(record, layer);
    *bytes = (struct page_bytes){memory + page.offset, page.bytes};
    *inherited_error = (double)page.inherited_error;
    return 0;
}

/* Pages that were decoded to these targets, in so much time together. */
static void count_decoded(const struct record *record, const struct page_bytes *pages,
                          const struct page_target *targets, uint32_t count, uint64_t ns) {
    struct page_info info;
    for (uint32_t i = 0; i < count; i++)
        if (page_peek(pages[i].page, pages[i].bytes, &info) == PAGE_OK)
            coding_count(pool_coding(record->pool), CODING_DECODE, &info, targets[i].tokens,
                         ns / count);
}

int record_decode(const struct record *record, uint32_t layer, enum page_part part,
                  const struct page_target *target, void *workspace) {
    struct page_bytes page;
    double inherited_error;
    if (record_read_page(record, layer, part, &page, &inherited_error) < 0)
        return -1;
    uint64_t begun_ns = clock_now_ns();
    if (page_decode(page.page, page.bytes, target, workspace) != PAGE_OK)
        return say_damaged(record, layer);
    count_decoded(record, &page, target, 1, clock_now_ns() - begun_ns);
    return 0;
}

int record_decode_layer(const struct record *record, uint32_t layer,
                        const struct page_target targets[GEOMETRY_PARTS], void *workspace) {
    struct page_bytes pages[GEOMETRY_PARTS];
    double inherited_error;
    if (record_read_page(record, layer, PAGE_K, &pages[PAGE_K], &inherited_error) < 0 ||
        record_read_page(record, layer, PAGE_V, &pages[PAGE_V], &inherited_error) < 0)
        return -1;
    uint64_t begun_ns = clock_now_ns();
    if (page_decode_pair(pages, targets, workspace) != PAGE_OK)
        return say_damaged(record, layer);
    count_decoded(record, pages, targets, GEOMETRY_PARTS, clock_now_ns() - begun_ns);
    return 0;
}

static bool page_is_whole(const struct record *record, uint32_t layer, enum page_part part,
                          uint64_t from, uint64_t to) {
    struct record_page page;
    const uint8_t *memory = pool_memory(record->pool, &record->extent);
    if (record_find_page(record, layer, part, &page) < 0)
        return false;
    uint64_t end = (uint64_t)page.offset + page.bytes;
    return page.bytes == 0 || end <= from || end > to ||
           record_hash(memory + page.offset, page.bytes) == page.hash;
}

bool record_pages_are_whole(const struct record *record, uint64_t from, uint64_t to) {
    uint32_t layers = record_layers(record);
    for (uint32_t layer = 0; layer < layers; layer++)
        if (!page_is_whole(record, layer, PAGE_K, from, to) ||
            !page_is_whole(record, layer, PAGE_V, from, to)) {
            say_damaged(record, layer);
            return false;
        }
    return true;
}

static bool is_same_page(const struct record *a, const struct record *b, uint32_t layer,
                         enum page_part part) {
    struct record_page page_a, page_b;
    if (record_find_page(a, layer, part, &page_a) < 0 ||
        record_find_page(b, layer, part, &page_b) < 0)
        return false;
    const uint8_t *memory_a = pool_memory(a->pool, &a->extent);
    const uint8_t *memory_b = pool_memory(b->pool, &b->extent);
    return page_a.bytes == page_b.bytes && page_a.hash == page_b.hash &&
           memcmp(memory_a + page_a.offset, memory_b + page_b.offset, page_a.bytes) == 0;
}

bool record_has_same_pages(const struct record *a, const struct record *b) {
    if (record_is_absent(a) || record_is_absent(b))
        return false;
    uint32_t layers = record_layers(a);
    bool same = layers == record_layers(b);
    for (uint32_t layer = 0; layer < layers && same; layer++)
        same = is_same_page(a, b, layer, PAGE_K) && is_same_page(a, b, layer, PAGE_V);
    return same;
}

int record_page_loss(const struct record *record, uint32_t layer, enum page_part part,
                     struct loss *loss) {
    struct record_page page;
    struct page_info info;
    const uint8_t *memory = pool_memory(record->pool, &record->extent);
    if (record_find_page(record, layer, part, &page) < 0 ||
        page_peek(memory + page.offset, page.bytes, &info) != PAGE_OK)
        return -1;
    *loss = (struct loss){.error = info.loss.error + (double)page.inherited_error,
                          .energy = info.loss.energy,
                          .estimated = info.estimated || page.inherited_error > 0};
    return 0;
}
