#include "daemon/ops/timeline.h"

#include "daemon/base/clock.h"

void timeline_init(struct timeline *timeline) {
    pthread_mutex_init(&timeline->lock, NULL);
    timeline->last = 0;
}

void timeline_deinit(struct timeline *timeline) {
    pthread_mutex_destroy(&timeline->lock);
}

static uint64_t disk_bytes(struct disk_tier *tier) {
    struct disk_stats stats;
    if (!disk_tier_is_on(tier))
        return 0;
    disk_read_stats(tier->disk, &stats);
    return stats.live_bytes;
}

struct timeline_sample timeline_sample(struct rpc_daemon *rpc) {
    struct usage *usage = &rpc->store->usage;
    uint64_t disk_hits = atomic_load(&rpc->disk_hits), hits = atomic_load(&rpc->fetch_hits);
    struct timeline_sample sample = {
        .uptime_ms = (clock_now_ns() - rpc->started_ns) / CLOCK_NS_PER_MS,
        .sinks_bytes = atomic_load(&usage->sinks.bytes),
        .tails_bytes = atomic_load(&usage->tails_bytes),
        .disk_bytes = disk_bytes(&rpc->store->disk),
        .appended_bytes = atomic_load(&usage->appended_bytes),
        .fetched_bytes = atomic_load(&rpc->fetched_bytes),
        .disk_hits = disk_hits,
        .memory_hits = hits - disk_hits,
    };
    for (int i = 0; i < USAGE_LEVELS; i++)
        sample.levels_bytes[i] = atomic_load(&usage->levels[i].bytes);
    for (int why = 0; why < RPC_MISSES; why++)
        sample.misses += atomic_load(&rpc->fetch_misses[why]);
    return sample;
}

void timeline_add(struct timeline *timeline, struct timeline_sample sample) {
    pthread_mutex_lock(&timeline->lock);
    sample.number = ++timeline->last;
    timeline->samples[sample.number % TIMELINE_SAMPLES] = sample;
    pthread_mutex_unlock(&timeline->lock);
}

size_t timeline_read(struct timeline *timeline, uint64_t after,
                     struct timeline_sample samples[TIMELINE_SAMPLES]) {
    size_t count = 0;
    pthread_mutex_lock(&timeline->lock);
    uint64_t last = timeline->last;
    if (last > TIMELINE_SAMPLES && after < last - TIMELINE_SAMPLES)
        after = last - TIMELINE_SAMPLES;
    for (uint64_t number = after; number < last;)
        samples[count++] = timeline->samples[++number % TIMELINE_SAMPLES];
    pthread_mutex_unlock(&timeline->lock);
    return count;
}
