#include "tests/tiny/stack.h"

enum { PAINT = 0x5a5ac3c3, OWN_BYTES = 64 /* frames of these functions themselves */ };

extern uint32_t stack_begin[];

__attribute__((noinline)) void stack_paint(void) {
    volatile uint32_t *top = (uint32_t *)__builtin_frame_address(0) - OWN_BYTES / sizeof(uint32_t);
    for (volatile uint32_t *word = stack_begin; word < top; word++)
        *word = PAINT;
}

__attribute__((noinline)) uint32_t stack_depth(void) {
    const uint32_t *top = __builtin_frame_address(0), *word = stack_begin;
    while (word < top && *word == PAINT)
        word++;
    return (uint32_t)((const uint8_t *)top - (const uint8_t *)word);
}
