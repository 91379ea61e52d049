#include "daemon/store/tail.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/store/chunk.h"
#include "daemon/store/error.h"
#include "daemon/store/pool.h"
#include "proto/page/convert.h"

int tail_new(struct budget *budget, struct usage *usage, const struct geometry *geometry,
             uint32_t mark, struct tail **tail) {
    size_t own_bytes =
        sizeof(struct tail) + (size_t)geometry->layers * GEOMETRY_PARTS * sizeof(struct loss);
    struct tail *new = calloc(1, own_bytes);
    if (!new)
        return STORE_FULL;
    atomic_init(&new->references, 1);
    new->budget = budget;
    new->usage = usage;
    new->geometry = *geometry;
    new->token_bytes = geometry_token_bytes(geometry);
    new->own_bytes = own_bytes;
    new->level = PAGE_EXACT;
    new->mapped_bytes = pool_round(geometry_page_tokens(geometry) * new->token_bytes);
    void *rows = mmap(NULL, new->mapped_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (rows == MAP_FAILED) {
        free(new);
        return STORE_FULL;
    }
    madvise(rows, new->mapped_bytes, MADV_DONTDUMP);
    madvise(rows, new->mapped_bytes, MADV_NOHUGEPAGE); /* or more is touched than is reserved */
    new->rows = rows;
    new->mark = mark;
    pthread_mutex_init(&new->lock, NULL);
    *tail = new;
    return STORE_OK;
}

void tail_ref(struct tail *tail) {
    atomic_fetch_add(&tail->references, 1);
}

void tail_unref(struct tail *tail) {
    if (atomic_fetch_sub(&tail->references, 1) > 1)
        return;
    munmap(tail->rows, tail->mapped_bytes);
    if (tail->coded)
        chunk_unref(tail->coded);
    pthread_mutex_destroy(&tail->lock);
    budget_release(tail->budget, tail->charged_bytes);
    free(tail);
}

void tail_own(struct tail *tail) {
    tail_ref(tail);
    pthread_mutex_lock(&tail->lock);
    if (tail->owners++ == 0)
        usage_add(tail->usage, &tail->usage->tails_bytes, tail->charged_bytes);
    usage_add(tail->usage, &tail->usage->tails_full_bytes, tail->charged_bytes);
    pthread_mutex_unlock(&tail->lock);
}

uint64_t tail_disown(struct tail *tail) {
    uint64_t freed_bytes = 0;
    pthread_mutex_lock(&tail->lock);
    if (--tail->owners == 0) {
        freed_bytes = tail->charged_bytes;
        usage_sub(tail->usage, &tail->usage->tails_bytes, freed_bytes);
    }
    usage_sub(tail->usage, &tail->usage->tails_full_bytes, tail->charged_bytes);
    pthread_mutex_unlock(&tail->lock);
    tail_unref(tail);
    return freed_bytes;
}

bool tail_claim(struct tail *tail, uint32_t rows, uint32_t end) {
    pthread_mutex_lock(&tail->lock);
    bool claimed = tail->mark == rows;
    if (claimed)
        tail->mark = end;
    pthread_mutex_unlock(&tail->lock);
    return claimed;
}

static uint64_t bytes_for(const struct tail *tail, uint32_t rows) {
    return pool_round(rows * tail->token_bytes) + tail->own_bytes;
}

/* Sums wrap around like the counters. */
static void charge(struct tail *tail, uint64_t bytes) {
    uint64_t more = bytes - tail->charged_bytes;
    tail->charged_bytes = bytes;
    if (tail->owners > 0)
        usage_add(tail->usage, &tail->usage->tails_bytes, more);
    usage_add(tail->usage, &tail->usage->tails_full_bytes, tail->owners * more);
}

int tail_extend(struct tail *tail, uint32_t rows) {
    int status = STORE_OK;
    pthread_mutex_lock(&tail->lock);
    uint64_t want = bytes_for(tail, rows), held = tail->charged_bytes;
    if (want > held && !budget_reserve_bulk(tail->budget, want - held))
        status = STORE_FULL;
    else if (want > held)
        charge(tail, want);
    pthread_mutex_unlock(&tail->lock);
    return status;
}

void tail_cut(struct tail *tail, uint32_t rows) {
    pthread_mutex_lock(&tail->lock);
    uint64_t keep = bytes_for(tail, rows), held = tail->charged_bytes;
    if (keep < held) {
        madvise(tail->rows + pool_round(rows * tail->token_bytes), held - keep, MADV_DONTNEED);
        charge(tail, keep);
    }
    tail->mark = rows;
    struct chunk *stale = tail->coded && tail->coded->tokens > rows ? tail->coded : NULL;
    if (stale)
        tail->coded = NULL;
    pthread_mutex_unlock(&tail->lock);
    if (stale)
        chunk_unref(stale);
    if (keep < held)
        budget_release(tail->budget, held - keep);
}

bool tail_yield(struct tail *tail, uint64_t bytes) {
    pthread_mutex_lock(&tail->lock);
    bool yields = tail->owners == 1 && atomic_load(&tail->references) == 2;
    if (yields)
        charge(tail, tail->charged_bytes - bytes);
    pthread_mutex_unlock(&tail->lock);
    return yields;
}

uint64_t tail_bytes(struct tail *tail, bool *shared) {
    pthread_mutex_lock(&tail->lock);
    uint64_t bytes = tail->charged_bytes;
    *shared = tail->owners > 1;
    pthread_mutex_unlock(&tail->lock);
    return bytes;
}

void tail_inherit(struct tail *tail, uint32_t layer, enum page_part part, int level,
                  const struct loss *loss) {
    if (level > tail->level)
        tail->level = level;
    tail->losses[layer * GEOMETRY_PARTS + part] = *loss;
}

const struct loss *tail_loss(const struct tail *tail, uint32_t layer, enum page_part part) {
    return &tail->losses[layer * GEOMETRY_PARTS + part];
}

struct chunk *tail_find_coded(struct tail *tail, uint32_t rows, int level) {
    pthread_mutex_lock(&tail->lock);
    bool fits = tail->coded && tail->coded->tokens >= rows && tail->coded_level <= level;
    struct chunk *chunk = fits ? tail->coded : NULL;
    if (chunk)
        chunk_ref(chunk);
    pthread_mutex_unlock(&tail->lock);
    return chunk;
}

void tail_note_coded(struct tail *tail, struct chunk *chunk, int level) {
    chunk_ref(chunk);
    pthread_mutex_lock(&tail->lock);
    struct chunk *old = tail->coded;
    tail->coded = chunk;
    tail->coded_level = level;
    pthread_mutex_unlock(&tail->lock);
    if (old)
        chunk_unref(old);
}

char *tail_at(const struct tail *tail, uint32_t row, uint32_t layer, enum page_part part) {
    return tail->rows + row * tail->token_bytes + geometry_row_offset(&tail->geometry, layer, part);
}

struct page_strides tail_strides(const struct tail *tail, enum page_part part) {
    return (struct page_strides){.token = geometry_values_per_token(&tail->geometry),
                                 .head = geometry_head_dim(&tail->geometry, part)};
}

/* One copy a token where the heads lie side by side on the other side too. */
static uint32_t copies_per_token(const struct tail *tail, enum page_part part,
                                 struct page_strides strides) {
    return strides.head == geometry_head_dim(&tail->geometry, part) ? 1 : tail->geometry.heads;
}

void tail_write(struct tail *tail, const struct tail_block *block, const void *values,
                struct page_strides strides) {
    size_t value_bytes = page_value_bytes(tail->geometry.dtype);
    uint32_t copies = copies_per_token(tail, block->part, strides);
    size_t copy_bytes = geometry_part_bytes(&tail->geometry, block->part, 1) / copies;
    for (uint32_t token = 0; token < block->tokens; token++) {
        char *row = tail_at(tail, block->first + token, block->layer, block->part);
        for (uint32_t copy = 0; copy < copies; copy++)
            memcpy(row + copy * copy_bytes,
                   (const char *)values +
                       (token * strides.token + copy * strides.head) * value_bytes,
                   copy_bytes);
    }
}

void tail_read(const struct tail *tail, const struct tail_block *block, enum page_dtype dtype,
               void *values, struct page_strides strides) {
    size_t value_bytes = page_value_bytes(dtype);
    uint32_t copies = copies_per_token(tail, block->part, strides);
    size_t copy_bytes = geometry_part_bytes(&tail->geometry, block->part, 1) / copies;
    size_t copy_values = copy_bytes / page_value_bytes(tail->geometry.dtype);
    for (uint32_t token = 0; token < block->tokens; token++) {
        const char *row = tail_at(tail, block->first + token, block->layer, block->part);
        for (uint32_t copy = 0; copy < copies; copy++)
            page_convert_row(tail->geometry.dtype, row + copy * copy_bytes, dtype,
                             (char *)values +
                                 (token * strides.token + copy * strides.head) * value_bytes,
                             copy_values);
    }
}
