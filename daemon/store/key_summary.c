#include "daemon/store/key_summary.h"

#include <string.h>

#include "daemon/base/bytes.h"
#include "daemon/store/error.h"
#include "daemon/store/record.h"

enum { MAGIC_BYTES = 8, HASH_OFFSET = 32, LAYERS_OFFSET = 64, FORMAT = 2 };

static const char magic[MAGIC_BYTES] = "KVQKEYS";

static uint64_t layer_bytes(const struct geometry *geometry, uint32_t tokens) {
    struct page_shape shape = geometry_shape(geometry, PAGE_K, tokens);
    return page_summary_bytes(&shape);
}

uint64_t key_summary_bytes(const struct geometry *geometry, uint32_t tokens) {
    uint64_t bytes = layer_bytes(geometry, tokens);
    return bytes > 0 ? LAYERS_OFFSET + geometry->layers * bytes : 0;
}

int key_summary_init(struct key_summary *summary, struct pool *pool, struct budget *budget,
                     uint64_t bytes) {
    struct pool_extent extent;
    if (pool_take(pool, bytes, budget, &extent) < 0)
        return STORE_FULL;
    if (!budget_reserve_bulk(budget, extent.bytes - extent.warm_bytes)) {
        pool_give(pool, &extent, 0, budget, extent.warm_bytes);
        return STORE_FULL;
    }
    *summary =
        (struct key_summary){.pool = pool, .budget = budget, .extent = extent, .bytes = bytes};
    return STORE_OK;
}

void key_summary_deinit(struct key_summary *summary) {
    if (summary->bytes > 0)
        pool_give(summary->pool, &summary->extent, 0, summary->budget, summary->extent.bytes);
    *summary = (struct key_summary){0};
}

uint8_t *key_summary_memory(const struct key_summary *summary) {
    return pool_memory(summary->pool, &summary->extent);
}

uint8_t *key_summary_layer(const struct key_summary *summary, const struct geometry *geometry,
                           uint32_t tokens, uint32_t layer) {
    return key_summary_memory(summary) + LAYERS_OFFSET + layer * layer_bytes(geometry, tokens);
}

static void write_header(uint8_t *memory, const struct geometry *geometry, uint32_t tokens) {
    memset(memory, 0, LAYERS_OFFSET);
    memcpy(memory, magic, MAGIC_BYTES);
    bytes_put(memory + 8, FORMAT, 4);
    bytes_put(memory + 12, SUMMARY_BLOCK_TOKENS, 4);
    bytes_put(memory + 16, tokens, 4);
    bytes_put(memory + 20, geometry->layers, 4);
    bytes_put(memory + 24, geometry->heads, 4);
    bytes_put(memory + 28, geometry->head_dim_k, 4);
}

void key_summary_begin(const struct key_summary *summary, const struct geometry *geometry,
                       uint32_t tokens) {
    uint8_t *memory = key_summary_memory(summary);
    write_header(memory, geometry, tokens);
    memset(memory + summary->bytes, 0, summary->extent.bytes - summary->bytes);
}

static uint64_t hash_of(const struct key_summary *summary) {
    return record_hash(key_summary_memory(summary) + LAYERS_OFFSET, summary->bytes - LAYERS_OFFSET);
}

void key_summary_seal(const struct key_summary *summary) {
    bytes_put(key_summary_memory(summary) + HASH_OFFSET, hash_of(summary), 8);
}

bool key_summary_is_whole(const struct key_summary *summary, const struct geometry *geometry,
                          uint32_t tokens) {
    uint8_t expected[LAYERS_OFFSET];
    if (summary->bytes == 0 || summary->bytes != key_summary_bytes(geometry, tokens))
        return false;
    write_header(expected, geometry, tokens);
    bytes_put(expected + HASH_OFFSET, hash_of(summary), 8);
    return memcmp(key_summary_memory(summary), expected, LAYERS_OFFSET) == 0;
}
