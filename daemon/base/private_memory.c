#include "daemon/base/private_memory.h"

#include <sys/mman.h>

void *private_memory_new(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    madvise(memory, bytes, MADV_DONTDUMP);
    return memory;
}

void private_memory_free(void *memory, size_t bytes) {
    if (memory)
        munmap(memory, bytes);
}
