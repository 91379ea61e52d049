/* A token bucket: so many a second, and up to a second's worth at once after a pause. Safe from any
 * thread.
 */
#ifndef DAEMON_BASE_RATE_H
#define DAEMON_BASE_RATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define RATE_NONE UINT64_MAX

struct rate {
    _Atomic uint64_t per_second; /* may change at any time; RATE_NONE: no limit */
    _Atomic uint64_t paid_ns;    /* up to then the bucket is empty by what was taken */
};

/* Takes one, at this time of the clock; false if there is none. */
bool rate_take(struct rate *rate, uint64_t now_ns) __attribute__((warn_unused_result));

#endif
