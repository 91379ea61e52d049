#include "daemon/base/array.h"

#include <stdlib.h>

enum { CAPACITY_FIRST = 256 };

void *array_grow(void *rows, size_t count, size_t *capacity, size_t row_bytes) {
    if (count < *capacity)
        return rows;
    size_t grown_capacity = *capacity > 0 ? 2 * *capacity : CAPACITY_FIRST;
    void *grown = realloc(rows, grown_capacity * row_bytes);
    if (grown)
        *capacity = grown_capacity;
    return grown;
}
