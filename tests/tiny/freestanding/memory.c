#include "tests/tiny/freestanding/string.h"

#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t count) {
    for (size_t i = 0; i < count; i++)
        ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    return to;
}

void *memset(void *to, int byte, size_t count) {
    for (size_t i = 0; i < count; i++)
        ((uint8_t *)to)[i] = (uint8_t)byte;
    return to;
}
