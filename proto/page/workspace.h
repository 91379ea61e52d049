/* Scratch memory: the caller's workspace, handed out in pieces that live until the call returns. */
#ifndef PROTO_PAGE_WORKSPACE_H
#define PROTO_PAGE_WORKSPACE_H

#include "proto/page/page.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* For arrays on the stack that are written before they are read: builds that zero every variable
 * first would take a tenth longer for a page. */
#define PAGE_SCRATCH __attribute__((uninitialized))

/* What no page and no caller can make false. Not assert(), which wants a C library. */
#define PAGE_MUST_HOLD(condition) ((condition) ? (void)0 : __builtin_trap())

struct workspace {
    uint8_t *next, *end;
};

static inline bool page_workspace_is_valid(const void *memory) {
    return memory != NULL && (uintptr_t)memory % 64 == 0;
}

/* All of the caller's. */
static inline struct workspace page_workspace(void *memory) {
    return (struct workspace){memory, (uint8_t *)memory + PAGE_WORKSPACE_BYTES};
}

/* What a piece takes of the workspace. */
static inline size_t workspace_piece(size_t bytes) {
    return (bytes + 63) & ~(size_t)63;
}

/* 64-byte aligned. What one encode or decode takes stays within PAGE_WORKSPACE_BYTES, because a
 * page that is not raw has at most PAGE_VALUES_MAX values and PAGE_CHANNELS_MAX channels. The most
 * is ageing's with rows of int16 and 9 tokens, so that planes are hardly filled: 524 KB of values,
 * 1.94 MB of a stream, 11 bytes a channel, 380 KB of fixed parts. */
static inline void *workspace_take(struct workspace *workspace, size_t bytes) {
    uint8_t *piece = workspace->next;
    PAGE_MUST_HOLD(workspace_piece(bytes) <= (size_t)(workspace->end - piece));
    workspace->next += workspace_piece(bytes);
    return piece;
}

#endif
