#include "daemon/store/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/base/log.h"

enum { ADDRESS_SPACE_FACTOR = 4 };

struct pool {
    pthread_mutex_t lock;             /* of the free stretches */
    struct pool_extent *free_extents; /* by offset, never touching each other */
    size_t free_count, free_capacity;
    char *memory;
    uint64_t bytes;
    int file;
};

uint64_t pool_round(uint64_t bytes) {
    return (bytes + POOL_UNIT_BYTES - 1) / POOL_UNIT_BYTES * POOL_UNIT_BYTES;
}

static int map_file(struct pool *pool) {
    pool->file = memfd_create("kvquantd-pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (pool->file < 0 || ftruncate(pool->file, (off_t)pool->bytes) < 0 ||
        fcntl(pool->file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
        return -1;
    void *memory =
        mmap(NULL, pool->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, pool->file, 0);
    if (memory == MAP_FAILED)
        return -1;
    pool->memory = memory;
    madvise(memory, pool->bytes, MADV_DONTDUMP); /* prompts can be read back from K and V */
    return 0;
}

struct pool *pool_new(uint64_t limit_bytes) {
    struct pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pthread_mutex_init(&pool->lock, NULL);
    pool->file = -1;
    pool->bytes = pool_round(limit_bytes) * ADDRESS_SPACE_FACTOR;
    pool->free_capacity = 64;
    pool->free_extents = calloc(pool->free_capacity, sizeof *pool->free_extents);
    if (!pool->free_extents || map_file(pool) < 0) {
        log_error("cannot make a pool of %llu bytes: %s", (unsigned long long)pool->bytes,
                  strerror(errno));
        pool_free(pool);
        return NULL;
    }
    pool->free_extents[pool->free_count++] = (struct pool_extent){0, pool->bytes};
    return pool;
}

void pool_free(struct pool *pool) {
    if (!pool)
        return;
    if (pool->memory)
        munmap(pool->memory, pool->bytes);
    if (pool->file >= 0)
        close(pool->file);
    pthread_mutex_destroy(&pool->lock);
    free(pool->free_extents);
    free(pool);
}

static void remove_free(struct pool *pool, size_t index) {
    pool->free_count--;
    memmove(&pool->free_extents[index], &pool->free_extents[index + 1],
            (pool->free_count - index) * sizeof *pool->free_extents);
}

static int ensure_capacity(struct pool *pool) {
    if (pool->free_count + 1 < pool->free_capacity)
        return 0;
    size_t capacity = pool->free_capacity * 2;
    struct pool_extent *grown = realloc(pool->free_extents, capacity * sizeof *grown);
    if (!grown)
        return -1;
    pool->free_extents = grown;
    pool->free_capacity = capacity;
    return 0;
}

/* First fit by address: what is long in use gathers at the pool's start. */
static int take_locked(struct pool *pool, uint64_t bytes, struct pool_extent *extent) {
    for (size_t i = 0; i < pool->free_count; i++) {
        struct pool_extent *candidate = &pool->free_extents[i];
        if (candidate->bytes < bytes)
            continue;
        *extent = (struct pool_extent){candidate->offset, bytes};
        candidate->offset += bytes;
        candidate->bytes -= bytes;
        if (candidate->bytes == 0)
            remove_free(pool, i);
        return 0;
    }
    return -1;
}

int pool_take(struct pool *pool, uint64_t bytes, struct pool_extent *extent) {
    pthread_mutex_lock(&pool->lock);
    int status =
        bytes > 0 && bytes <= pool->bytes ? take_locked(pool, pool_round(bytes), extent) : -1;
    pthread_mutex_unlock(&pool->lock);
    return status;
}

static size_t first_free_behind(const struct pool *pool, uint64_t offset) {
    size_t low = 0, high = pool->free_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (pool->free_extents[middle].offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Without memory for one more entry the stretch is lost to the pool, though not to the system. */
static void insert_free(struct pool *pool, struct pool_extent extent) {
    size_t i = first_free_behind(pool, extent.offset);
    struct pool_extent *next = i < pool->free_count ? &pool->free_extents[i] : NULL;
    struct pool_extent *before = i > 0 ? &pool->free_extents[i - 1] : NULL;
    if (before && before->offset + before->bytes == extent.offset) {
        before->bytes += extent.bytes;
        if (next && extent.offset + extent.bytes == next->offset) {
            before->bytes += next->bytes;
            remove_free(pool, i);
        }
    } else if (next && extent.offset + extent.bytes == next->offset) {
        next->offset = extent.offset;
        next->bytes += extent.bytes;
    } else if (ensure_capacity(pool) == 0) {
        memmove(&pool->free_extents[i + 1], &pool->free_extents[i],
                (pool->free_count - i) * sizeof *pool->free_extents);
        pool->free_extents[i] = extent;
        pool->free_count++;
    }
}

void pool_trim(struct pool *pool, struct pool_extent *extent, uint64_t keep_bytes) {
    uint64_t keep = pool_round(keep_bytes);
    if (keep >= extent->bytes)
        return;
    struct pool_extent rest = {extent->offset + keep, extent->bytes - keep};
    extent->bytes = keep;
    if (fallocate(pool->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)rest.offset,
                  (off_t)rest.bytes) < 0)
        memset(pool->memory + rest.offset, 0, rest.bytes);
    pthread_mutex_lock(&pool->lock);
    insert_free(pool, rest);
    pthread_mutex_unlock(&pool->lock);
}

void *pool_memory(const struct pool *pool, const struct pool_extent *extent) {
    return pool->memory + extent->offset;
}
