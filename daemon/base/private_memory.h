/* Memory for values that a prompt can be read back from: whole pages of zeros, left out of core
 * files. */
#ifndef DAEMON_BASE_PRIVATE_MEMORY_H
#define DAEMON_BASE_PRIVATE_MEMORY_H

#include <stddef.h>

/* NULL if there is none. */
void *private_memory_new(size_t bytes);

/* memory may be NULL. */
void private_memory_free(void *memory, size_t bytes);

#endif
