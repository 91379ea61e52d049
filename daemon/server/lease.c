#include "daemon/server/lease.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "daemon/rpc/rpc.h"

enum { BUFFER_BYTES = (RPC_BUFFER_BYTES + 4095) / 4096 * 4096 };

uint64_t lease_pool_bytes(size_t count) {
    return (uint64_t)count * BUFFER_BYTES;
}

int lease_pool_init(struct lease_pool *pool, size_t count, void (*on_return)(void *context),
                    void *context) {
    *pool = (struct lease_pool){.on_return = on_return, .context = context};
    pthread_mutex_init(&pool->lock, NULL);
    void *memory = mmap(NULL, lease_pool_bytes(count), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pool->free_buffers = calloc(count, sizeof *pool->free_buffers);
    if (memory == MAP_FAILED || !pool->free_buffers) {
        free(pool->free_buffers);
        return -1;
    }
    madvise(memory, lease_pool_bytes(count), MADV_DONTDUMP);
    pool->memory = memory;
    pool->count = pool->free_count = count;
    for (size_t i = 0; i < count; i++) /* the last is lent first, so that few are touched */
        pool->free_buffers[count - 1 - i] = (uint8_t *)memory + i * BUFFER_BYTES;
    return 0;
}

void lease_pool_deinit(struct lease_pool *pool) {
    if (pool->memory)
        munmap(pool->memory, lease_pool_bytes(pool->count));
    free(pool->free_buffers);
    pthread_mutex_destroy(&pool->lock);
}

uint8_t *lease_take(struct lease_pool *pool) {
    uint8_t *buffer = NULL;
    pthread_mutex_lock(&pool->lock);
    if (pool->free_count > 0)
        buffer = pool->free_buffers[--pool->free_count];
    else
        pool->waiting++;
    pthread_mutex_unlock(&pool->lock);
    return buffer;
}

void lease_return(struct lease_pool *pool, uint8_t *buffer) {
    pthread_mutex_lock(&pool->lock);
    pool->free_buffers[pool->free_count++] = buffer;
    bool tell = pool->waiting > 0;
    pool->waiting = 0;
    pthread_mutex_unlock(&pool->lock);
    if (tell)
        pool->on_return(pool->context);
}
