/* Arrays that grow by doubling. */
#ifndef DAEMON_BASE_ARRAY_H
#define DAEMON_BASE_ARRAY_H

#include <stddef.h>

/* The rows, of which there are `count`, with room for one more: elsewhere perhaps, and then the
 * capacity is larger. NULL without memory: they are where and as many as they were. */
void *array_grow(void *rows, size_t count, size_t *capacity, size_t row_bytes)
    __attribute__((warn_unused_result));

#endif
