#include "daemon/store/chunk.h"

#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/store/disk_tier.h"
#include "daemon/store/error.h"
#include "daemon/store/record_disk.h"

#define TRY_AGAIN_NS CLOCK_NS_PER_S

struct chunk *chunk_new(struct budget *budget, struct usage *usage,
                        const struct geometry *geometry) {
    if (!budget_reserve(budget, CHUNK_HANDLE_BYTES))
        return NULL;
    struct chunk *chunk = calloc(1, sizeof *chunk);
    if (!chunk) {
        budget_release(budget, CHUNK_HANDLE_BYTES);
        return NULL;
    }
    chunk->budget = budget;
    chunk->usage = usage;
    chunk->token_bytes = geometry_token_bytes(geometry);
    chunk->id = usage_next_id(usage, 1);
    pthread_mutex_init(&chunk->lock, NULL);
    atomic_init(&chunk->references, 1);
    return chunk;
}

void chunk_ref(struct chunk *chunk) {
    atomic_fetch_add(&chunk->references, 1);
}

void chunk_unref(struct chunk *chunk) {
    if (atomic_fetch_sub(&chunk->references, 1) > 1)
        return;
    if (chunk->on_disk.tier)
        disk_tier_forget_chunk(chunk->on_disk.tier, chunk);
    chunk_put_on_disk(chunk, (struct chunk_on_disk){0});
    if (chunk->record)
        record_unpin(chunk->record);
    key_summary_deinit(&chunk->summary);
    pthread_mutex_destroy(&chunk->lock);
    budget_release(chunk->budget, CHUNK_HANDLE_BYTES);
    free(chunk);
}

void chunk_complete(struct chunk *chunk, struct record *record) {
    chunk->record = record;
    chunk->tokens = record->tokens;
}

static uint64_t bytes_of(const struct chunk *chunk, const struct record *record) {
    return record->reserved_bytes + chunk_fixed_bytes(chunk);
}

/* Sums wrap around like the counters: subtracting is adding the negative. */
static void count_share(struct usage *usage, struct usage_count *count, struct record_share share,
                        uint64_t token_bytes, uint64_t times) {
    if (share.tokens == 0 && share.bytes == 0)
        return;
    usage_add(usage, &count->tokens, times * share.tokens);
    usage_add(usage, &count->bytes, times * share.bytes);
    usage_add(usage, &count->logical_bytes, times * share.tokens * token_bytes);
}

static void count_on_disk(const struct chunk *chunk, int sign) {
    const struct chunk_on_disk *on_disk = &chunk->on_disk;
    struct record_share share = {chunk->tokens, on_disk->bytes + on_disk->summary_bytes};
    if (on_disk->tier)
        count_share(chunk->usage, &chunk->usage->disk[on_disk->level - PAGE_LEVEL_MIN], share,
                    chunk->token_bytes, (uint64_t)(int64_t)sign);
}

uint64_t chunk_written_bytes(const struct chunk *chunk, const struct record *record) {
    return record->bytes + chunk->summary.bytes;
}

void chunk_put_on_disk(struct chunk *chunk, struct chunk_on_disk on_disk) {
    count_on_disk(chunk, -1);
    charge_release(&chunk->disk_charge);
    chunk->on_disk = on_disk;
    count_on_disk(chunk, 1);
    if (on_disk.tier)
        charge_anyway(&chunk->disk_charge, chunk->usage->disk_quota,
                      on_disk.bytes + on_disk.summary_bytes);
}

static void count_once(const struct chunk *chunk, const struct record *record, int sign) {
    struct usage *usage = chunk->usage;
    uint64_t times = (uint64_t)(int64_t)sign, bytes = record->reserved_bytes + CHUNK_HANDLE_BYTES;
    uint64_t summary_bytes = key_summary_reserved_bytes(&chunk->summary);
    struct record_share coded = {record->tokens - record->exact_tokens,
                                 bytes - record->exact_bytes};
    struct record_share levels[USAGE_LEVELS];
    record_divide(record, coded, levels);
    uint64_t token_bytes = record_is_absent(record) ? 0 : chunk->token_bytes;
    usage_add(usage, &usage->pages_bytes, times * (bytes + summary_bytes));
    usage_add(usage, &usage->key_summaries_bytes, times * summary_bytes);
    for (int i = 0; i < USAGE_LEVELS; i++)
        count_share(usage, &usage->levels[i], levels[i], token_bytes, times);
    struct record_share exact = {record->exact_tokens, record->exact_bytes};
    count_share(usage, &usage->sinks, exact, token_bytes, times);
}

static int finest_level(const struct chunk *chunk) {
    int level = PAGE_LEVEL_MIN;
    while (level < PAGE_LEVEL_MAX && chunk->owners[level - PAGE_LEVEL_MIN] == 0)
        level++;
    return chunk->owner_count > 0 ? level : PAGE_LEVEL_MIN;
}

static void own_locked(struct chunk *chunk, int level) {
    chunk_ref(chunk);
    chunk->owners[level - PAGE_LEVEL_MIN]++;
    if (chunk->owner_count++ == 0)
        count_once(chunk, chunk->record, 1);
    usage_add(chunk->usage, &chunk->usage->pages_full_bytes, bytes_of(chunk, chunk->record));
}

void chunk_own(struct chunk *chunk, int level) {
    pthread_mutex_lock(&chunk->lock);
    own_locked(chunk, level);
    pthread_mutex_unlock(&chunk->lock);
}

bool chunk_adopt(struct chunk *chunk, const struct record *record, int level) {
    pthread_mutex_lock(&chunk->lock);
    bool adopts = chunk->owner_count > 0 && chunk->record == record;
    if (adopts)
        own_locked(chunk, level);
    pthread_mutex_unlock(&chunk->lock);
    return adopts;
}

uint64_t chunk_disown(struct chunk *chunk, int level) {
    uint64_t freed_bytes = 0;
    pthread_mutex_lock(&chunk->lock);
    int finest_before = finest_level(chunk);
    chunk->owners[level - PAGE_LEVEL_MIN]--;
    usage_sub(chunk->usage, &chunk->usage->pages_full_bytes, bytes_of(chunk, chunk->record));
    if (--chunk->owner_count == 0) {
        count_once(chunk, chunk->record, -1);
        freed_bytes = bytes_of(chunk, chunk->record);
    }
    if (finest_level(chunk) > finest_before)
        usage_add(chunk->usage, &chunk->usage->loosened, 1);
    bool is_withdrawn = chunk->owner_count == 0 && chunk->offer.index;
    pthread_mutex_unlock(&chunk->lock);
    if (is_withdrawn)
        prefix_withdraw(chunk);
    if (freed_bytes > 0 && atomic_load(&chunk->references) > 1)
        chunk_drop_bytes(chunk); /* for a manifest that names it the disk is enough */
    chunk_unref(chunk);
    return freed_bytes;
}

void chunk_move_owner(struct chunk *chunk, int from, int to) {
    pthread_mutex_lock(&chunk->lock);
    chunk->owners[from - PAGE_LEVEL_MIN]--;
    chunk->owners[to - PAGE_LEVEL_MIN]++;
    pthread_mutex_unlock(&chunk->lock);
}

struct chunk_view chunk_view(struct chunk *chunk) {
    pthread_mutex_lock(&chunk->lock);
    struct chunk_view view = {.record = chunk->record,
                              .disk_bytes = chunk->on_disk.bytes + chunk->on_disk.summary_bytes,
                              .shared = chunk->owner_count > 1,
                              .finest_level = finest_level(chunk),
                              .used_ns = atomic_load(&chunk->used_ns)};
    record_pin(view.record);
    pthread_mutex_unlock(&chunk->lock);
    return view;
}

struct record *chunk_pin(struct chunk *chunk) {
    return chunk_view(chunk).record;
}

void chunk_use(struct chunk *chunk) {
    atomic_store(&chunk->used_ns, clock_now_ns());
}

/* With the chunk locked. */
static void put_record(struct chunk *chunk, struct record *record) {
    const struct record *old = chunk->record;
    if (chunk->owner_count > 0) {
        count_once(chunk, old, -1);
        count_once(chunk, record, 1);
    }
    usage_add(chunk->usage, &chunk->usage->pages_full_bytes,
              chunk->owner_count * (record->reserved_bytes - old->reserved_bytes));
    chunk->record = record;
}

bool chunk_replace(struct chunk *chunk, struct record *old, struct record *record) {
    pthread_mutex_lock(&chunk->lock);
    bool is_fine = chunk->owner_count == 0 || record->level_asked <= finest_level(chunk);
    bool replaces = chunk->record == old && is_fine;
    if (replaces)
        put_record(chunk, record);
    pthread_mutex_unlock(&chunk->lock);
    return replaces;
}

struct record *chunk_begin_write(struct chunk *chunk) {
    struct record *record = NULL;
    pthread_mutex_lock(&chunk->lock);
    if (!chunk->writing && !record_is_absent(chunk->record) &&
        chunk->on_disk.serial != chunk->record->serial) {
        record = chunk->record;
        record_pin(record);
        chunk->writing = true;
    }
    pthread_mutex_unlock(&chunk->lock);
    return record;
}

void chunk_end_write(struct chunk *chunk, const struct record *record, struct disk_tier *tier) {
    pthread_mutex_lock(&chunk->lock);
    chunk->writing = false;
    if (tier)
        chunk_put_on_disk(chunk, (struct chunk_on_disk){.tier = tier,
                                                        .serial = record->serial,
                                                        .bytes = record->bytes,
                                                        .summary_bytes = chunk->summary.bytes,
                                                        .level = record->level});
    pthread_mutex_unlock(&chunk->lock);
}

bool chunk_is_on_disk(struct chunk *chunk) {
    pthread_mutex_lock(&chunk->lock);
    bool is_there = chunk->on_disk.serial != 0 && chunk->lost_until_ns != UINT64_MAX;
    pthread_mutex_unlock(&chunk->lock);
    return is_there;
}

bool chunk_is_lost(struct chunk *chunk) {
    pthread_mutex_lock(&chunk->lock);
    bool lost = chunk->lost_until_ns == UINT64_MAX;
    pthread_mutex_unlock(&chunk->lock);
    return lost;
}

uint64_t chunk_drop_bytes(struct chunk *chunk) {
    struct record *absent = NULL, *old = NULL;
    pthread_mutex_lock(&chunk->lock);
    if (chunk->on_disk.serial == chunk->record->serial && !record_is_absent(chunk->record) &&
        (absent = record_without_bytes(chunk->record))) {
        old = chunk->record;
        put_record(chunk, absent);
    }
    pthread_mutex_unlock(&chunk->lock);
    uint64_t bytes = old ? old->reserved_bytes : 0;
    if (old)
        record_unpin(old);
    return bytes;
}

int chunk_begin_load(struct chunk *chunk, struct record **absent) {
    int status = STORE_MORE;
    pthread_mutex_lock(&chunk->lock);
    if (!record_is_absent(chunk->record)) {
        status = STORE_OK;
    } else if (chunk->loading) {
        status = STORE_WAIT;
    } else if (chunk->lost_until_ns > clock_now_ns()) {
        status = STORE_MISS;
    } else {
        *absent = chunk->record;
        record_pin(*absent);
        chunk->loading = true;
    }
    pthread_mutex_unlock(&chunk->lock);
    return status;
}

static uint64_t lost_until_ns(enum chunk_loss loss) {
    return loss == CHUNK_LOST ? UINT64_MAX
                              : (loss == CHUNK_LOST_FOR_NOW) * (clock_now_ns() + TRY_AGAIN_NS);
}

void chunk_end_load(struct chunk *chunk, struct record *absent, struct record *record,
                    enum chunk_loss loss) {
    pthread_mutex_lock(&chunk->lock);
    chunk->loading = false;
    chunk->lost_until_ns = lost_until_ns(loss);
    if (record) {
        put_record(chunk, record);
        chunk_use(chunk);
    }
    pthread_mutex_unlock(&chunk->lock);
    record_unpin(absent);
    if (record)
        record_unpin(absent); /* the chunk's own */
}

void chunk_leave_on_disk(struct chunk *chunk) {
    pthread_mutex_lock(&chunk->lock);
    struct chunk_on_disk on_disk = chunk->on_disk;
    on_disk.tier = NULL;
    chunk_put_on_disk(chunk, on_disk);
    pthread_mutex_unlock(&chunk->lock);
}
