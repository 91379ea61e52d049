#include "daemon/store/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/store/coding.h"

enum {
    ADDRESS_SPACE_FACTOR = 4,
    LIMIT_RISE_FACTOR = 2,            /* that leaves the half of it free */
    WARM_SHARE = 4,                   /* warm is at most this part of the limit */
    WARM_FREED_SHARE = 4,             /* of which this part is for what is freed */
    WARM_AHEAD_BYTES_MAX = 256 << 20, /* and touched ahead no more than this */
    WARM_STEP_BYTES = 1 << 20,
    COOL_BYTES_MAX = 1 << 20, /* at once, for two stretches to become one */
};

struct pool {
    struct budget *budget;
    pthread_mutex_t lock;             /* of the free stretches and what is warm of them */
    struct pool_extent *free_extents; /* by offset */
    size_t free_count, free_capacity;
    uint64_t warm_bytes;
    pthread_cond_t touched;
    bool frozen;
    bool warming;  /* until enough is warm; again when half of it is left */
    bool touching; /* some free memory is out of reach while it is touched */
    char *memory;
    uint64_t bytes;
    int file;
    _Atomic uint64_t serial; /* the last that was given */
    struct coding coding;
};

uint64_t pool_next_serial(struct pool *pool) {
    return atomic_fetch_add(&pool->serial, 1) + 1;
}

struct coding *pool_coding(struct pool *pool) {
    return &pool->coding;
}

uint64_t pool_round(uint64_t bytes) {
    return (bytes + POOL_UNIT_BYTES - 1) / POOL_UNIT_BYTES * POOL_UNIT_BYTES;
}

static uint64_t limit_bytes_max(uint64_t bytes) {
    return bytes / ADDRESS_SPACE_FACTOR * LIMIT_RISE_FACTOR;
}

static int make_file(struct pool *pool) {
    pool->file = memfd_create("kvquantd-pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return pool->file >= 0 && ftruncate(pool->file, (off_t)(pool->bytes + POOL_UNIT_BYTES)) == 0 &&
                   fcntl(pool->file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0
               ? 0
               : -1;
}

static int map_file(struct pool *pool) {
    size_t bytes = pool->bytes + POOL_UNIT_BYTES;
    void *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, pool->file, 0);
    if (memory == MAP_FAILED)
        return -1;
    pool->memory = memory;
    madvise(memory, bytes, MADV_DONTDUMP); /* prompts can be read back from K and V */
    madvise(memory, bytes, MADV_HUGEPAGE); /* a punched hole splits one */
    return 0;
}

static void reclaim(void *context, uint64_t bytes);

static struct pool *allocate(struct budget *budget) {
    struct pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->touched, NULL);
    pool->budget = budget;
    pool->file = -1;
    pool->free_capacity = 64;
    pool->free_extents = calloc(pool->free_capacity, sizeof *pool->free_extents);
    if (pool->free_extents)
        return pool;
    pool_free(pool);
    return NULL;
}

static struct pool *begin(struct pool *pool) {
    pool->budget->reclaim_context = pool;
    pool->budget->reclaim = reclaim;
    return pool;
}

struct pool *pool_new(struct budget *budget) {
    uint64_t bytes = pool_round(atomic_load(&budget->limit_bytes)) * ADDRESS_SPACE_FACTOR;
    struct pool *pool = allocate(budget);
    if (pool)
        pool->bytes = bytes;
    if (!pool || make_file(pool) < 0 || map_file(pool) < 0) {
        log_error("cannot make a pool of %llu bytes: %s", (unsigned long long)bytes,
                  strerror(errno));
        pool_free(pool);
        return NULL;
    }
    pool->free_extents[pool->free_count++] = (struct pool_extent){.bytes = pool->bytes};
    return begin(pool);
}

/* Of a file that could shrink, a page may go while it is read. */
static const char *fault_of(int file, const struct budget *budget, uint64_t *bytes) {
    struct stat status;
    int seals = fcntl(file, F_GET_SEALS);
    if (seals < 0 || fstat(file, &status) < 0 || (seals & F_SEAL_SHRINK) == 0 ||
        (seals & F_SEAL_WRITE) != 0 || status.st_size % POOL_UNIT_BYTES != 0 ||
        status.st_size < 2 * POOL_UNIT_BYTES)
        return "is no pool";
    *bytes = (uint64_t)status.st_size - POOL_UNIT_BYTES;
    return limit_bytes_max(*bytes) < atomic_load(&budget->limit_bytes)
               ? "was made with less than half of the memory limit"
               : NULL;
}

struct pool *pool_open(struct budget *budget, int file, const char **fault) {
    uint64_t bytes;
    *fault = fault_of(file, budget, &bytes);
    if (*fault)
        return NULL;
    *fault = "cannot be mapped";
    struct pool *pool = allocate(budget);
    if (!pool)
        return NULL;
    pool->bytes = bytes;
    pool->file = fcntl(file, F_DUPFD_CLOEXEC, 0);
    if (pool->file >= 0 && map_file(pool) == 0)
        return begin(pool);
    pool_free(pool);
    return NULL;
}

void pool_free(struct pool *pool) {
    if (!pool)
        return;
    pool->budget->reclaim = NULL;
    if (pool->memory)
        munmap(pool->memory, pool->bytes + POOL_UNIT_BYTES);
    if (pool->file >= 0)
        close(pool->file);
    pthread_cond_destroy(&pool->touched);
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
    if (bytes > 0 && !pool->frozen &&
        fallocate(pool->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                  (off_t)bytes) < 0)
        memset(pool->memory + offset, 0, bytes);
}

/* Gives an extent's warm bytes back to the system and the budget. */
static void cool(struct pool *pool, struct pool_extent *extent) {
    punch(pool, extent->offset, extent->warm_bytes);
    budget_release(pool->budget, extent->warm_bytes);
    extent->warm_bytes = 0;
}

/* First fit by address: what is long in use gathers at the pool's start. Warm memory is preferred.
 */
static size_t find_fit(const struct pool *pool, uint64_t bytes) {
    size_t fit = pool->free_count;
    for (size_t i = 0; i < pool->free_count; i++) {
        const struct pool_extent *extent = &pool->free_extents[i];
        if (extent->warm_bytes >= bytes)
            return i;
        if (extent->bytes >= bytes && fit == pool->free_count)
            fit = i;
    }
    return fit;
}

static int take_locked(struct pool *pool, uint64_t bytes, struct pool_extent *extent) {
    size_t i = find_fit(pool, bytes);
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

/* Whether b follows a and may be joined to it. Warm is only what is warm from the beginning on:
 * where much would have to be cooled for that, which takes long, they stay two. */
static bool can_join(const struct pool_extent *a, const struct pool_extent *b) {
    return a->offset + a->bytes == b->offset &&
           (a->warm_bytes == a->bytes || b->warm_bytes <= COOL_BYTES_MAX);
}

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
    if (next && can_join(&extent, next)) {
        join(pool, &extent, next);
        remove_free(pool, i);
    }
    if (before && can_join(before, &extent)) {
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

/* What was taken is not, after all. */
static void give_back(struct pool *pool, struct pool_extent *extent) {
    pthread_mutex_lock(&pool->lock);
    pool->warm_bytes += extent->warm_bytes;
    insert_free(pool, *extent);
    pthread_mutex_unlock(&pool->lock);
    *extent = (struct pool_extent){0};
}

int pool_take(struct pool *pool, uint64_t bytes, struct budget *budget,
              struct pool_extent *extent) {
    pthread_mutex_lock(&pool->lock);
    int status =
        bytes > 0 && bytes <= pool->bytes ? take_locked(pool, pool_round(bytes), extent) : -1;
    pthread_mutex_unlock(&pool->lock);
    if (status < 0)
        return -1;
    if (!budget_is_of(budget, pool->budget)) {
        cool(pool, extent);
    } else if (!budget_assign(budget, extent->warm_bytes)) {
        give_back(pool, extent);
        return -1;
    }
    return 0;
}

/* How many of so many reserved bytes may stay warm. */
static uint64_t warm_room(const struct pool *pool, const struct budget *budget, uint64_t bytes) {
    uint64_t most = atomic_load(&pool->budget->limit_bytes) / WARM_SHARE;
    uint64_t room = most > pool->warm_bytes ? most - pool->warm_bytes : 0;
    if (!budget_is_of(budget, pool->budget))
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
    budget_unassign(budget, rest.warm_bytes);
    budget_release(budget, reserved_bytes - rest.warm_bytes);
}

/* Gives so many warm bytes back to the system and the budget. What is left to give back. */
static uint64_t cool_bytes(struct pool *pool, uint64_t want) {
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
    return want;
}

/* The budget is at its limit: so many bytes of what is warm, or all, go back; somewhat more, so
 * that it is not asked for each page. */
static void reclaim(void *context, uint64_t bytes) {
    struct pool *pool = context;
    pthread_mutex_lock(&pool->lock);
    uint64_t want = cool_bytes(pool, bytes > UINT64_MAX / 2 ? bytes : bytes + WARM_STEP_BYTES);
    while (want > 0 && pool->touching)
        pthread_cond_wait(&pool->touched, &pool->lock);
    cool_bytes(pool, want);
    pthread_mutex_unlock(&pool->lock);
}

static struct pool_extent *first_to_warm(struct pool *pool) {
    for (size_t i = 0; i < pool->free_count; i++)
        if (pool->free_extents[i].warm_bytes < pool->free_extents[i].bytes)
            return &pool->free_extents[i];
    return NULL;
}

/* What is taken and freed in turn, as when pages are coded anew, is not touched each time: not
 * before half of what was touched ahead is gone. */
static bool needs_warmth(struct pool *pool) {
    uint64_t share = atomic_load(&pool->budget->limit_bytes) / WARM_SHARE;
    uint64_t ahead = share - share / WARM_FREED_SHARE;
    uint64_t most = ahead < WARM_AHEAD_BYTES_MAX ? ahead : (uint64_t)WARM_AHEAD_BYTES_MAX;
    pool->warming = pool->warm_bytes + WARM_STEP_BYTES <= most &&
                    (pool->warming || pool->warm_bytes <= most / 2);
    return pool->warming;
}

/* Takes out some free memory that is to be touched, and counts as warm already; what lies behind it
 * becomes a stretch of its own. Without bytes there is none, enough is warm, or no room for more.
 */
static struct pool_extent take_cold(struct pool *pool) {
    struct pool_extent cold = {0};
    struct pool_extent *extent = needs_warmth(pool) ? first_to_warm(pool) : NULL;
    if (!extent)
        return cold;
    uint64_t bytes = extent->bytes - extent->warm_bytes;
    uint64_t step = bytes < WARM_STEP_BYTES ? bytes : (uint64_t)WARM_STEP_BYTES;
    if (!budget_reserve_spare(pool->budget, step))
        return cold;
    pool->warm_bytes += step;
    cold.offset = extent->offset + extent->warm_bytes;
    cold.bytes = cold.warm_bytes = step;
    struct pool_extent behind = {.offset = cold.offset + cold.bytes, .bytes = bytes - cold.bytes};
    extent->bytes = extent->warm_bytes;
    if (extent->bytes == 0)
        remove_free(pool, (size_t)(extent - pool->free_extents));
    if (behind.bytes > 0)
        insert_free(pool, behind);
    return cold;
}

/* The keeper may lose its processor while it touches: nobody waits for the lock meanwhile. */
bool pool_warm_up(struct pool *pool) {
    pthread_mutex_lock(&pool->lock);
    struct pool_extent extent = take_cold(pool);
    pool->touching = extent.bytes > 0;
    pthread_mutex_unlock(&pool->lock);
    if (extent.bytes == 0)
        return false;
    bool warm = madvise(pool->memory + extent.offset, extent.bytes, MADV_POPULATE_WRITE) == 0;
    pthread_mutex_lock(&pool->lock);
    if (!warm) { /* Linux before 5.14 */
        pool->warm_bytes -= extent.warm_bytes;
        cool(pool, &extent);
    }
    insert_free(pool, extent);
    pool->touching = false;
    pthread_cond_broadcast(&pool->touched);
    pthread_mutex_unlock(&pool->lock);
    return warm;
}

uint64_t pool_used_bytes(struct pool *pool) {
    pthread_mutex_lock(&pool->lock);
    uint64_t warm = pool->warm_bytes, used = atomic_load(&pool->budget->used_bytes);
    pthread_mutex_unlock(&pool->lock);
    return used > warm ? used - warm : 0;
}

uint64_t pool_limit_bytes_max(const struct pool *pool) {
    return limit_bytes_max(pool->bytes);
}

uint8_t *pool_note(const struct pool *pool) {
    return (uint8_t *)pool->memory + pool->bytes;
}

void pool_freeze(struct pool *pool) {
    pthread_mutex_lock(&pool->lock);
    pool->frozen = true;
    pthread_mutex_unlock(&pool->lock);
}

int pool_file(const struct pool *pool) {
    return pool->file;
}

uint64_t pool_bytes(const struct pool *pool) {
    return pool->bytes;
}

int pool_read(const struct pool *pool, const struct pool_extent *extent, void *to, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        ssize_t got =
            pread(pool->file, (char *)to + done, bytes - done, (off_t)(extent->offset + done));
        if (got <= 0)
            return -1;
        done += (size_t)got;
    }
    return 0;
}

/* --- what was in use before --- */

static int compare(const void *a, const void *b) {
    const struct pool_extent *left = a, *right = b;
    return (left->offset > right->offset) - (left->offset < right->offset);
}

static bool are_apart(const struct pool *pool, const struct pool_extent *used, size_t count) {
    uint64_t end = 0;
    for (size_t i = 0; i < count; i++) {
        const struct pool_extent *extent = &used[i];
        if (extent->offset % POOL_UNIT_BYTES != 0 || extent->bytes % POOL_UNIT_BYTES != 0 ||
            extent->bytes == 0 || extent->offset < end || extent->offset > pool->bytes ||
            extent->bytes > pool->bytes - extent->offset)
            return false;
        end = extent->offset + extent->bytes;
    }
    return true;
}

static void add_gap(struct pool *pool, uint64_t offset, uint64_t end) {
    if (offset == end)
        return;
    punch(pool, offset, end - offset);
    pool->free_extents[pool->free_count++] =
        (struct pool_extent){.offset = offset, .bytes = end - offset};
}

int pool_adopt(struct pool *pool, struct pool_extent *used, size_t count) {
    if (count > 0)
        qsort(used, count, sizeof *used, compare);
    if (!are_apart(pool, used, count))
        return -1;
    struct pool_extent *grown =
        realloc(pool->free_extents, (count + 64) * sizeof *pool->free_extents);
    if (!grown)
        return -1;
    pool->free_extents = grown;
    pool->free_capacity = count + 64;
    uint64_t end = 0;
    for (size_t i = 0; i < count; i++) {
        add_gap(pool, end, used[i].offset);
        end = used[i].offset + used[i].bytes;
    }
    add_gap(pool, end, pool->bytes);
    return 0;
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
