#include "daemon/base/rate.h"

#include "daemon/base/clock.h"

bool rate_take(struct rate *rate, uint64_t now_ns) {
    uint64_t per_second = atomic_load(&rate->per_second);
    if (per_second == RATE_NONE)
        return true;
    uint64_t each_ns = per_second < CLOCK_NS_PER_S ? CLOCK_NS_PER_S / per_second : 1;
    uint64_t paid_ns = atomic_load(&rate->paid_ns), next_ns;
    do {
        next_ns = (paid_ns > now_ns ? paid_ns : now_ns) + each_ns;
        if (next_ns > now_ns + CLOCK_NS_PER_S)
            return false;
    } while (!atomic_compare_exchange_weak(&rate->paid_ns, &paid_ns, next_ns));
    return true;
}
