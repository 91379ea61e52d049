/* Histograms: counts by bucket, that any thread adds to and any reads, without locks.
 *
 * Values are whole numbers of a small unit (nanoseconds, thousandths): a scale says which, and
 * where the buckets end.
 */
#ifndef DAEMON_BASE_HISTOGRAM_H
#define DAEMON_BASE_HISTOGRAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { HISTOGRAM_BOUNDS = 13 };

struct histogram {
    _Atomic uint64_t counts[HISTOGRAM_BOUNDS + 1]; /* the last: above all bounds */
    _Atomic uint64_t sum;
};

struct histogram_scale {
    double unit;                       /* what a value of 1 is */
    uint64_t bounds[HISTOGRAM_BOUNDS]; /* a bucket holds what is not above its own */
};

static inline void histogram_add(struct histogram *histogram, const struct histogram_scale *scale,
                                 uint64_t value) {
    size_t bucket = 0;
    while (bucket < HISTOGRAM_BOUNDS && value > scale->bounds[bucket])
        bucket++;
    atomic_fetch_add_explicit(&histogram->counts[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum, value, memory_order_relaxed);
}

/* Of nanoseconds, as seconds: from 50 us to 1 min. */
extern const struct histogram_scale histogram_seconds;

#endif
