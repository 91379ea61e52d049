#include "daemon/store/chunk.h"

#include <stdlib.h>

struct chunk *chunk_new(struct budget *budget, struct record *record) {
    if (!budget_reserve(budget, CHUNK_HANDLE_BYTES))
        return NULL;
    struct chunk *chunk = calloc(1, sizeof *chunk);
    if (!chunk) {
        budget_release(budget, CHUNK_HANDLE_BYTES);
        return NULL;
    }
    chunk->budget = budget;
    pthread_mutex_init(&chunk->lock, NULL);
    atomic_init(&chunk->references, 1);
    chunk->record = record;
    chunk->tokens = record->tokens;
    return chunk;
}

void chunk_ref(struct chunk *chunk) {
    atomic_fetch_add(&chunk->references, 1);
}

void chunk_unref(struct chunk *chunk) {
    if (atomic_fetch_sub(&chunk->references, 1) > 1)
        return;
    record_unpin(chunk->record);
    pthread_mutex_destroy(&chunk->lock);
    budget_release(chunk->budget, CHUNK_HANDLE_BYTES);
    free(chunk);
}

struct record *chunk_pin(struct chunk *chunk) {
    pthread_mutex_lock(&chunk->lock);
    struct record *record = chunk->record;
    record_pin(record);
    pthread_mutex_unlock(&chunk->lock);
    return record;
}

struct record *chunk_replace(struct chunk *chunk, struct record *record) {
    pthread_mutex_lock(&chunk->lock);
    struct record *old = chunk->record;
    chunk->record = record;
    pthread_mutex_unlock(&chunk->lock);
    return old;
}
