#include "daemon/base/charge.h"

#include <stddef.h>

static bool take(struct quota *quota, uint64_t limit, uint64_t amount) {
    uint64_t used = atomic_load(&quota->used);
    do {
        if (used > limit || amount > limit - used)
            return false;
    } while (!atomic_compare_exchange_weak(&quota->used, &used, used + amount));
    return true;
}

bool charge_take_within(struct charge *charge, struct quota *quota, uint64_t amount,
                        uint64_t limit) {
    if (!quota)
        return true;
    uint64_t own_limit = atomic_load(&quota->limit);
    if (!take(quota, limit < own_limit ? limit : own_limit, amount)) {
        atomic_fetch_add(&quota->refused, 1);
        return false;
    }
    charge->quota = quota;
    charge->amount += amount;
    return true;
}

bool charge_take(struct charge *charge, struct quota *quota, uint64_t amount) {
    return charge_take_within(charge, quota, amount, QUOTA_NONE);
}

void charge_anyway(struct charge *charge, struct quota *quota, uint64_t amount) {
    if (!quota)
        return;
    atomic_fetch_add(&quota->used, amount);
    charge->quota = quota;
    charge->amount += amount;
}

void charge_release(struct charge *charge) {
    if (charge->quota)
        atomic_fetch_sub(&charge->quota->used, charge->amount);
    *charge = (struct charge){0};
}
