#include "proto/wire/arena.h"

#include <stdalign.h>
#include <string.h>

void *wire_arena_alloc(struct wire_arena *arena, size_t size_bytes) {
    const size_t unit = alignof(max_align_t);
    size_t left = arena->size_bytes - arena->used_bytes;
    if (size_bytes > left || (size_bytes + unit - 1) / unit * unit > left)
        return NULL;
    void *memory = arena->memory + arena->used_bytes;
    arena->used_bytes += (size_bytes + unit - 1) / unit * unit;
    return memset(memory, 0, size_bytes);
}

static void *arena_alloc(void *arena, size_t size_bytes) {
    return wire_arena_alloc(arena, size_bytes);
}

static void arena_free(void *arena, void *memory) {
    (void)arena;
    (void)memory; /* reset gives everything back at once */
}

void wire_arena_init(struct wire_arena *arena, void *memory, size_t size_bytes) {
    *arena = (struct wire_arena){
        .allocator = {.alloc = arena_alloc, .free = arena_free, .allocator_data = arena},
        .memory = memory,
        .size_bytes = size_bytes,
    };
}

void wire_arena_reset(struct wire_arena *arena) {
    arena->used_bytes = 0;
}
