/* A bounded allocator for protobuf-c: memory of the caller's, handed out upwards, given back at
 * once.
 *
 * protobuf-c allocates many times the bytes of a hostile message. Here it gets NULL at the end of
 * the arena, and unpacking fails as it does for bytes that are not a message.
 */
#ifndef PROTO_WIRE_ARENA_H
#define PROTO_WIRE_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

struct wire_arena {
    ProtobufCAllocator allocator; /* give &arena->allocator to protobuf-c */
    char *memory;
    size_t size_bytes, used_bytes;
};

/* The arena lends out memory, which stays the caller's. */
void wire_arena_init(struct wire_arena *arena, void *memory, size_t size_bytes);

/* Everything handed out before is free again. */
void wire_arena_reset(struct wire_arena *arena);

/* NULL at the arena's end; zeroed otherwise, aligned for any type. */
void *wire_arena_alloc(struct wire_arena *arena, size_t size_bytes);

#endif
