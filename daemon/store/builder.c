#include "daemon/store/builder.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/store/coding.h"
#include "daemon/store/error.h"

enum { PAGE_ALIGNMENT = 8 };

static uint64_t align_page(uint64_t bytes) {
    return (bytes + PAGE_ALIGNMENT - 1) / PAGE_ALIGNMENT * PAGE_ALIGNMENT;
}

uint64_t builder_bound_bytes(const struct record_spec *spec) {
    const struct geometry *geometry = spec->geometry;
    uint64_t pages = 0;
    for (enum page_part part = PAGE_K; part <= PAGE_V; part++) {
        struct page_shape shape = geometry_shape(geometry, part, spec->tokens);
        if (shape.head_dim > 0)
            pages += align_page(page_bound_bytes(&shape));
    }
    return align_page(record_header_bytes(spec)) + geometry->layers * pages;
}

/* Reserves so many bytes of the extent. */
static bool reserve(struct builder *builder, uint64_t bytes) {
    uint64_t want = pool_round(bytes);
    if (want <= builder->reserved_bytes)
        return true;
    if (!budget_reserve_bulk(builder->budget, want - builder->reserved_bytes))
        return false;
    builder->reserved_bytes = want;
    return true;
}

static bool take_extent(struct builder *builder, const struct record_spec *spec) {
    if (pool_take(builder->pool, builder_bound_bytes(spec), builder->budget, &builder->extent) < 0)
        return false;
    builder->reserved_bytes = builder->extent.warm_bytes;
    return reserve(builder, record_header_bytes(spec));
}

int builder_init(struct builder *builder, struct pool *pool, struct budget *budget,
                 const struct record_spec *spec) {
    *builder = (struct builder){.pool = pool, .budget = budget};
    builder->record = calloc(1, sizeof *builder->record);
    if (!builder->record || !take_extent(builder, spec)) {
        builder_deinit(builder);
        return STORE_FULL;
    }
    uint8_t *memory = pool_memory(pool, &builder->extent);
    builder->cursor_bytes = align_page(record_header_bytes(spec));
    memset(memory, 0, builder->cursor_bytes);
    record_write_header(memory, spec);
    *builder->record = (struct record){.pins = 1,
                                       .pool = pool,
                                       .budget = budget,
                                       .serial = pool_next_serial(pool),
                                       .tokens = spec->tokens,
                                       .level_asked = spec->level,
                                       .level = PAGE_EXACT};
    return STORE_OK;
}

void builder_deinit(struct builder *builder) {
    if (builder->extent.bytes > 0)
        pool_give(builder->pool, &builder->extent, 0, builder->budget, builder->reserved_bytes);
    free(builder->record);
    *builder = (struct builder){0};
}

static uint8_t *next_page(const struct builder *builder) {
    return (uint8_t *)pool_memory(builder->pool, &builder->extent) + builder->cursor_bytes;
}

/* The page that was written behind the others. */
static void enter(struct builder *builder, uint32_t layer, const struct page_info *info,
                  size_t written, double inherited_error) {
    uint8_t *page = next_page(builder);
    record_write_page(pool_memory(builder->pool, &builder->extent), layer, info->part,
                      &(struct record_page){.offset = (uint32_t)builder->cursor_bytes,
                                            .bytes = (uint32_t)written,
                                            .hash = record_hash(page, written),
                                            .inherited_error = (float)inherited_error});
    record_count_page(builder->record, &builder->tally, info, written, inherited_error);
    memset(page + written, 0, align_page(written) - written);
    builder->cursor_bytes += align_page(written);
}

/* The same of a page that is not a copy. */
static void enter_coded(struct builder *builder, uint32_t layer, const struct page_info *info,
                        size_t written, double inherited_error) {
    coding_judge(pool_coding(builder->pool), info, written, inherited_error);
    enter(builder, layer, info, written, inherited_error);
}

int builder_put(struct builder *builder, uint32_t layer, const struct page_source *source,
                double inherited_error, void *workspace) {
    size_t bound = page_bound_bytes(&source->shape), written;
    struct page_info info;

    if (!reserve(builder, builder->cursor_bytes + bound))
        return STORE_FULL;
    uint64_t begun_ns = clock_now_ns();
    int status = page_encode(source, workspace, next_page(builder), bound, &written, &info);
    if (status != PAGE_OK) {
        log_error("a page could not be coded: error %d", status);
        return STORE_INTERNAL;
    }
    coding_count(pool_coding(builder->pool), CODING_ENCODE, &info, info.shape.tokens,
                 clock_now_ns() - begun_ns);
    enter_coded(builder, layer, &info, written, inherited_error);
    return STORE_OK;
}

int builder_age(struct builder *builder, uint32_t layer, const struct page_bytes *page, int level,
                double inherited_error, void *workspace) {
    size_t written = page->bytes;
    struct page_info info;

    if (page_peek(page->page, page->bytes, &info) != PAGE_OK)
        return STORE_INTERNAL;
    if (!reserve(builder, builder->cursor_bytes + align_page(page->bytes)))
        return STORE_FULL;
    if (info.level >= level) {
        memcpy(next_page(builder), page->page, page->bytes);
        enter(builder, layer, &info, written, inherited_error);
        return STORE_OK;
    }
    uint64_t begun_ns = clock_now_ns();
    if (page_age(*page, level, workspace, next_page(builder), page->bytes, &written, &info) !=
        PAGE_OK)
        return STORE_UNSUPPORTED;
    coding_count(pool_coding(builder->pool), CODING_AGE, &info, info.shape.tokens,
                 clock_now_ns() - begun_ns);
    enter_coded(builder, layer, &info, written, inherited_error);
    return STORE_OK;
}

int builder_age_layer(struct builder *builder, uint32_t layer,
                      const struct page_bytes pages[GEOMETRY_PARTS], int level,
                      const double inherited_error[GEOMETRY_PARTS], void *workspace) {
    uint64_t room_k = align_page(pages[PAGE_K].bytes), room_v = align_page(pages[PAGE_V].bytes);
    size_t room[GEOMETRY_PARTS] = {pages[PAGE_K].bytes, pages[PAGE_V].bytes};
    size_t written[GEOMETRY_PARTS];
    struct page_info info[GEOMETRY_PARTS];

    if (!reserve(builder, builder->cursor_bytes + room_k + room_v))
        return STORE_FULL;
    void *outs[GEOMETRY_PARTS] = {next_page(builder), next_page(builder) + room_k};
    uint64_t begun_ns = clock_now_ns();
    if (page_age_pair(pages, level, workspace, outs, room, written, info) != PAGE_OK)
        return STORE_UNSUPPORTED;
    uint64_t ns = clock_now_ns() - begun_ns;
    for (int part = 0; part < GEOMETRY_PARTS; part++)
        coding_count(pool_coding(builder->pool), CODING_AGE, &info[part], info[part].shape.tokens,
                     ns / GEOMETRY_PARTS);
    enter_coded(builder, layer, &info[PAGE_K], written[PAGE_K], inherited_error[PAGE_K]);
    memmove(next_page(builder), outs[PAGE_V], written[PAGE_V]);
    enter_coded(builder, layer, &info[PAGE_V], written[PAGE_V], inherited_error[PAGE_V]);
    return STORE_OK;
}

struct record *builder_finish(struct builder *builder) {
    struct record *record = builder->record;
    record_seal(pool_memory(builder->pool, &builder->extent), builder->cursor_bytes);
    uint64_t kept = pool_round(builder->cursor_bytes);
    uint8_t *memory = pool_memory(builder->pool, &builder->extent);
    memset(memory + builder->cursor_bytes, 0, kept - builder->cursor_bytes);
    pool_give(builder->pool, &builder->extent, kept, builder->budget,
              builder->reserved_bytes - kept);
    record->extent = builder->extent;
    record->bytes = builder->cursor_bytes;
    record_count_end(record, &builder->tally);
    record->reserved_bytes = kept;
    *builder = (struct builder){0};
    return record;
}
