#include "daemon/store/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/base/log.h"

enum {
    ADDRESS_SPACE_FACTOR = 4,
    WARM_SHARE = 4,                   /* warm is at most this part of the limit */
    WARM_AHEAD_BYTES_MAX = 256 << 20, /* and touched ahead no more than this */
    WARM_STEP_BYTES = 1 << 20,
};

struct pool {
    struct budget *budget;
    pthread_mutex_t lock;             /* of the free stretches and what is warm of them */
    struct pool_extent *free_extents; /* by offset, never touching each other */
    size_t free_count, free_capacity;
    uint64_t warm_bytes;
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

static void reclaim(void *context, uint64_t bytes);

struct pool *pool_new(struct budget *budget) {
    struct pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pthread_mutex_init(&pool->lock, NULL);
    pool->budget = budget;
    pool->file = -1;
    pool->bytes = pool_round(atomic_load(&budget->limit_bytes)) * ADDRESS_SPACE_FACTOR;
    pool->free_capacity = 64;
    pool->free_extents = calloc(pool->free_capacity, sizeof *pool->free_extents);
    if (!pool->free_extents || map_file(pool) < 0) {
        log_error("cannot make a pool of %llu bytes: %s", (unsigned long long)pool->bytes,
                  strerror(errno));
        pool_free(pool);
        return NULL;
    }
    pool->free_extents[pool->free_count++] = (struct pool_extent){.bytes = pool->bytes};
    budget->reclaim_context = pool;
    budget->reclaim = reclaim;
    return pool;
}

void pool_free(struct pool *pool) {
    if (!pool)
        return;
    pool->budget->reclaim = NULL;
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
    if (pool->free_extents && pool->free_count + 1 < pool->free_capacity)
        return 0;
    size_t capacity = pool->free_capacity * 2;
    struct pool_extent *grown = realloc(pool->free_extents, capacity * sizeof *grown);
    if (!grown)
        return -1;
    pool->free_extents = grown;
    pool->free_capacity = capacity;
    return 0;
}

static void punch(const struct pool *pool, uint64_t offset, uint64_t bytes) {
    if (bytes > 0 && fallocate(pool->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                               (off_t)offset, (off_t)bytes) < 0)
        memset(pool->memory + offset, 0, bytes);
}

/* Gives an extent's warm bytes back to the system and the budget. */
static void cool(struct pool *pool, struct pool_extent *extent) {
    punch(pool, extent->offset, extent->warm_bytes);
    budget_release(pool->budget, extent->warm_bytes);
    extent->warm_bytes = 0;
}

/* First fit by address: what is long in use gathers at the pool's start. */
static int take_locked(struct pool *pool, uint64_t bytes, struct pool_extent *extent) {
    size_t i = 0;
    while (i < pool->free_count && pool->free_extents[i].bytes < bytes)
        i++;
    if (i == pool->free_count)
        return -1;
    struct pool_extent *found = &pool->free_extents[i];
    uint64_t warm = found->warm_bytes < bytes ? found->warm_bytes : bytes;
    *extent = (struct pool_extent){.offset = found->offset, .bytes = bytes, .warm_bytes = warm};
    found->offset += bytes;
    found->bytes -= bytes;
    found->warm_bytes -= warm;
    pool->warm_bytes -= warm;
    if (found->bytes == 0)
        remove_free(pool, i);
    return 0;
}

int pool_take(struct pool *pool, uint64_t bytes, const struct budget *budget,
              struct pool_extent *extent) {
    pthread_mutex_lock(&pool->lock);
    int status =
        bytes > 0 && bytes <= pool->bytes ? take_locked(pool, pool_round(bytes), extent) : -1;
    pthread_mutex_unlock(&pool->lock);
    if (status == 0 && budget != pool->budget) {
        cool(pool, extent);
    }
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

/* Joins b to a, which it follows. Warm is only what is warm from the beginning on. */
static void join(struct pool *pool, struct pool_extent *a, struct pool_extent *b) {
    if (a->warm_bytes == a->bytes) {
        a->warm_bytes += b->warm_bytes;
    } else {
        pool->warm_bytes -= b->warm_bytes;
        cool(pool, b);
    }
    a->bytes += b->bytes;
}

/* The extent's warm bytes are counted already. Without memory for one more entry the stretch is
 * lost to the pool, though not to the system. */
static void insert_free(struct pool *pool, struct pool_extent extent) {
    size_t i = first_free_behind(pool, extent.offset);
    struct pool_extent *next = i < pool->free_count ? &pool->free_extents[i] : NULL;
    struct pool_extent *before = i > 0 ? &pool->free_extents[i - 1] : NULL;
    if (next && extent.offset + extent.bytes == next->offset) {
        join(pool, &extent, next);
        remove_free(pool, i);
    }
    if (before && before->offset + before->bytes == extent.offset) {
        join(pool, before, &extent);
    } else if (ensure_capacity(pool) == 0) {
        memmove(&pool->free_extents[i + 1], &pool->free_extents[i],
                (pool->free_count - i) * sizeof *pool->free_extents);
        pool->free_extents[i] = extent;
        pool->free_count++;
    } else {
        pool->warm_bytes -= extent.warm_bytes;
        cool(pool, &extent);
    }
}

/* How many of so many reserved bytes may stay warm. */
static uint64_t warm_room(const struct pool *pool, const struct budget *budget, uint64_t bytes) {
    uint64_t most = atomic_load(&pool->budget->limit_bytes) / WARM_SHARE;
    uint64_t room = most > pool->warm_bytes ? most - pool->warm_bytes : 0;
    if (budget != pool->budget)
        return 0;
    return bytes < room ? bytes : room / POOL_UNIT_BYTES * POOL_UNIT_BYTES;
}

void pool_give(struct pool *pool, struct pool_extent *extent, uint64_t keep_bytes,
               struct budget *budget, uint64_t reserved_bytes) {
    uint64_t keep = pool_round(keep_bytes);
    if (keep >= extent->bytes)
        return;
    struct pool_extent rest = {.offset = extent->offset + keep, .bytes = extent->bytes - keep};
    extent->bytes = keep;
    pthread_mutex_lock(&pool->lock);
    rest.warm_bytes = warm_room(pool, budget, reserved_bytes);
    pool->warm_bytes += rest.warm_bytes;
    pthread_mutex_unlock(&pool->lock);
    punch(pool, rest.offset + rest.warm_bytes, rest.bytes - rest.warm_bytes);
    pthread_mutex_lock(&pool->lock);
    insert_free(pool, rest);
    pthread_mutex_unlock(&pool->lock);
    budget_release(budget, reserved_bytes - rest.warm_bytes);
}

/* The budget is at its limit: so many bytes of what is warm, or all, go back; somewhat more, so
 * that it is not asked for each page. */
static void reclaim(void *context, uint64_t bytes) {
    struct pool *pool = context;
    uint64_t want = bytes > UINT64_MAX / 2 ? bytes : bytes + WARM_STEP_BYTES;
    pthread_mutex_lock(&pool->lock);
    for (size_t i = pool->free_count; i-- > 0 && want > 0;) {
        struct pool_extent *extent = &pool->free_extents[i];
        uint64_t part =
            pool_round(want) < extent->warm_bytes ? pool_round(want) : extent->warm_bytes;
        extent->warm_bytes -= part;
        pool->warm_bytes -= part;
        punch(pool, extent->offset + extent->warm_bytes, part);
        budget_release(pool->budget, part);
        want -= part < want ? part : want;
    }
    pthread_mutex_unlock(&pool->lock);
}

static struct pool_extent *first_to_warm(struct pool *pool) {
    for (size_t i = 0; i < pool->free_count; i++)
        if (pool->free_extents[i].warm_bytes < pool->free_extents[i].bytes)
            return &pool->free_extents[i];
    return NULL;
}

static bool warm_up_locked(struct pool *pool) {
    struct pool_extent *extent = first_to_warm(pool);
    uint64_t limit = atomic_load(&pool->budget->limit_bytes);
    uint64_t most = limit / WARM_SHARE < WARM_AHEAD_BYTES_MAX ? limit / WARM_SHARE
                                                              : (uint64_t)WARM_AHEAD_BYTES_MAX;
    if (!extent || pool->warm_bytes + WARM_STEP_BYTES > most)
        return false;
    uint64_t cold = extent->bytes - extent->warm_bytes;
    uint64_t step = cold < WARM_STEP_BYTES ? cold : (uint64_t)WARM_STEP_BYTES;
    char *memory = pool->memory + extent->offset + extent->warm_bytes;
    if (!budget_reserve_spare(pool->budget, step))
        return false;
    if (madvise(memory, step, MADV_POPULATE_WRITE) < 0) { /* Linux before 5.14 */
        budget_release(pool->budget, step);
        return false;
    }
    extent->warm_bytes += step;
    pool->warm_bytes += step;
    return true;
}

bool pool_warm_up(struct pool *pool) {
    pthread_mutex_lock(&pool->lock);
    bool more = warm_up_locked(pool);
    pthread_mutex_unlock(&pool->lock);
    return more;
}

uint64_t pool_warm_bytes(struct pool *pool) {
    pthread_mutex_lock(&pool->lock);
    uint64_t bytes = pool->warm_bytes;
    pthread_mutex_unlock(&pool->lock);
    return bytes;
}

void *pool_memory(const struct pool *pool, const struct pool_extent *extent) {
    return pool->memory + extent->offset;
}
