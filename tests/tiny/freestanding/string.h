/* All that the page codec takes of a C library; gcc's freestanding headers have the rest. */
#ifndef TESTS_TINY_FREESTANDING_STRING_H
#define TESTS_TINY_FREESTANDING_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t count);
void *memset(void *to, int byte, size_t count);

#endif
