/* What the daemon held and did over the last hour: a sample every few seconds, for the status page.
 *
 * timeline_add() is called by one thread; timeline_read() by any.
 */
#ifndef DAEMON_OPS_TIMELINE_H
#define DAEMON_OPS_TIMELINE_H

#include <pthread.h>

#include "daemon/rpc/rpc.h"

enum { TIMELINE_PERIOD_MS = 5000, TIMELINE_SAMPLES = 720 };

struct timeline_sample {
    uint64_t number; /* from 1 on */
    uint64_t uptime_ms;
    uint64_t levels_bytes[USAGE_LEVELS], sinks_bytes, tails_bytes, disk_bytes;
    /* since the start */
    uint64_t appended_bytes, fetched_bytes, memory_hits, disk_hits, misses;
};

struct timeline {
    pthread_mutex_t lock;
    struct timeline_sample
        samples[TIMELINE_SAMPLES]; /* the one of number n at n % TIMELINE_SAMPLES */
    uint64_t last;                 /* number; 0: none yet */
};

void timeline_init(struct timeline *timeline);
void timeline_deinit(struct timeline *timeline);

/* What is now. Its number is 0. */
struct timeline_sample timeline_sample(struct rpc_daemon *rpc);

void timeline_add(struct timeline *timeline, struct timeline_sample sample);

/* Copies those after that number that are kept, oldest first. Returns how many. */
size_t timeline_read(struct timeline *timeline, uint64_t after,
                     struct timeline_sample samples[TIMELINE_SAMPLES]);

#endif
