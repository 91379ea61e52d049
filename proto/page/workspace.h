/* Scratch memory: the caller's workspace, handed out in pieces that live until the call returns. */
#ifndef PROTO_PAGE_WORKSPACE_H
#define PROTO_PAGE_WORKSPACE_H

#include "proto/page/page.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* For arrays on the stack that are written before they are read: builds that zero every variable
 * first would take a tenth longer for a page. */
#define PAGE_SCRATCH __attribute__((uninitialized))

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

/* 64-byte aligned. What one encode or decode takes stays within PAGE_WORKSPACE_BYTES, because a
 * page has at most PAGE_VALUES_MAX values and channels: at most 30 bytes for each of them, and
 * fixed parts of less than 512 KiB. */
static inline void *workspace_take(struct workspace *workspace, size_t bytes) {
    uint8_t *piece = workspace->next;
    size_t rounded = (bytes + 63) & ~(size_t)63;
    assert(rounded <= (size_t)(workspace->end - piece));
    workspace->next += rounded;
    return piece;
}

#endif
