#include "daemon/store/page_cache.h"

#include <string.h>

/* Others decode in proportion to the range. */
static bool is_for(const struct page_cache *cache, const struct record *record,
                   const struct page_target *target) {
    return cache && record->level > PAGE_FAST8 && target->tokens <= record->tokens / 2;
}

static bool is_same(const struct page_cache_key *a, const struct page_cache_key *b) {
    return a->layer == b->layer && a->part == b->part;
}

/* Pages that are read once are not worth the keeping, nor are those of two records in turn. */
static void heed(struct page_cache *cache, const struct record *record,
                 const struct geometry *geometry, const struct page_cache_read *read) {
    if (cache->serial == record->serial && cache->dtype == read->target.dtype) {
        cache->keeps = cache->keeps || is_same(&cache->first, &read->page);
        return;
    }
    uint32_t dim_k = geometry->head_dim_k, dim_v = geometry->head_dim_v;
    cache->serial = record->serial;
    cache->dtype = read->target.dtype;
    cache->first = read->page;
    cache->keeps = false;
    cache->count = 0;
    cache->slot_bytes = (size_t)record->tokens * geometry->heads * (dim_k > dim_v ? dim_k : dim_v) *
                        page_value_bytes(cache->dtype);
}

static char *find(const struct page_cache *cache, const struct page_cache_key *page) {
    for (size_t i = 0; i < cache->count; i++)
        if (is_same(&cache->keys[i], page))
            return cache->memory + i * cache->slot_bytes;
    return NULL;
}

static bool has_all(const struct page_cache *cache, const struct page_cache_read *reads,
                    size_t count) {
    return find(cache, &reads[0].page) && find(cache, &reads[count - 1].page);
}

/* What is kept is not replaced by other pages of the record: it is read as often as they. */
static bool has_room(const struct page_cache *cache, size_t pages) {
    size_t count = cache->count + pages;
    return cache->keeps && count <= PAGE_CACHE_SLOTS && count * cache->slot_bytes <= cache->bytes;
}

static int decode(const struct record *record, const struct page_cache_key *page,
                  const struct page_target *targets, size_t count, void *workspace) {
    return count == GEOMETRY_PARTS
               ? record_decode_layer(record, page->layer, targets, workspace)
               : record_decode(record, page->layer, page->part, targets, workspace);
}

static int decode_past(const struct record *record, const struct page_cache_read *reads,
                       size_t count, void *workspace) {
    struct page_target targets[GEOMETRY_PARTS] = {reads[0].target, reads[count - 1].target};
    return decode(record, &reads[0].page, targets, count, workspace);
}

static struct page_strides strides_of(const struct geometry *geometry, enum page_part part) {
    size_t head_dim = geometry_head_dim(geometry, part);
    return (struct page_strides){.token = geometry->heads * head_dim, .head = head_dim};
}

/* Decodes pages whole and keeps them. */
static int fill(struct page_cache *cache, const struct record *record,
                const struct geometry *geometry, const struct page_cache_read *reads, size_t count,
                void *workspace) {
    struct page_target targets[GEOMETRY_PARTS];
    for (size_t i = 0; i < count; i++)
        targets[i] = (struct page_target){
            .tokens = record->tokens,
            .dtype = cache->dtype,
            .values = cache->memory + (cache->count + i) * cache->slot_bytes,
            .strides = strides_of(geometry, reads[i].page.part),
        };
    if (decode(record, &reads[0].page, targets, count, workspace) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        cache->keys[cache->count++] = reads[i].page;
    return 0;
}

static void copy_heads(const char *from, const struct page_strides *strides, size_t heads,
                       const struct page_target *target) {
    size_t value_bytes = page_value_bytes(target->dtype);
    for (size_t t = 0; t < target->tokens; t++)
        for (size_t h = 0; h < heads; h++) {
            size_t to = t * target->strides.token + h * target->strides.head;
            memcpy((char *)target->values + to * value_bytes,
                   from + (t * strides->token + h * strides->head) * value_bytes,
                   strides->head * value_bytes);
        }
}

static void copy(const struct page_cache *cache, const struct geometry *geometry,
                 const struct page_cache_read *read) {
    const struct page_target *target = &read->target;
    struct page_strides strides = strides_of(geometry, read->page.part);
    size_t row_bytes = strides.token * page_value_bytes(target->dtype);
    const char *from = find(cache, &read->page) + target->first * row_bytes;
    if (target->strides.token == strides.token)
        memcpy(target->values, from, target->tokens * row_bytes);
    else
        copy_heads(from, &strides, geometry->heads, target);
}

int page_cache_decode(struct page_cache *cache, const struct record *record,
                      const struct geometry *geometry, const struct page_cache_read *reads,
                      size_t count, void *workspace) {
    if (!is_for(cache, record, &reads[0].target))
        return decode_past(record, reads, count, workspace);
    heed(cache, record, geometry, &reads[0]);
    bool has = has_all(cache, reads, count);
    if (!has && !has_room(cache, count))
        return decode_past(record, reads, count, workspace);
    if (!has && fill(cache, record, geometry, reads, count, workspace) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        copy(cache, geometry, &reads[i]);
    return 0;
}
