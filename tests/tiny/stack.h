/* How deep the stack has been, by what it has overwritten. */
#ifndef TESTS_TINY_STACK_H
#define TESTS_TINY_STACK_H

#include <stdint.h>

/* Paints all of the stack that is free. */
void stack_paint(void);

/* The bytes below the caller's frame, nearly, that have been written since. */
uint32_t stack_depth(void);

#endif
