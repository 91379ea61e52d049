#include "daemon/base/budget.h"

void budget_init(struct budget *budget, uint64_t limit_bytes) {
    *budget = (struct budget){.limit_bytes = limit_bytes};
}

static bool reserve_below(struct budget *budget, uint64_t limit, uint64_t bytes) {
    uint64_t used = atomic_load(&budget->used_bytes);
    do {
        if (used > limit || bytes > limit - used)
            return false;
    } while (!atomic_compare_exchange_weak(&budget->used_bytes, &used, used + bytes));
    return true;
}

bool budget_reserve_spare(struct budget *budget, uint64_t bytes) {
    return reserve_below(budget, atomic_load(&budget->limit_bytes), bytes);
}

static bool reserve_or_reclaim(struct budget *budget, uint64_t limit, uint64_t bytes) {
    if (reserve_below(budget, limit, bytes))
        return true;
    if (!budget->reclaim)
        return false;
    uint64_t used = atomic_load(&budget->used_bytes);
    budget->reclaim(budget->reclaim_context, used > limit ? used - limit + bytes : bytes);
    return reserve_below(budget, limit, bytes);
}

bool budget_reserve(struct budget *budget, uint64_t bytes) {
    return reserve_or_reclaim(budget, atomic_load(&budget->limit_bytes), bytes);
}

bool budget_reserve_bulk(struct budget *budget, uint64_t bytes) {
    uint64_t limit = atomic_load(&budget->limit_bytes);
    if (budget->small_share > 0)
        limit -= limit / budget->small_share;
    return reserve_or_reclaim(budget, limit, bytes);
}

void budget_tell_waiting(struct budget *budget) {
    if (atomic_load(&budget->waiting) > 0 && budget->on_release)
        budget->on_release(budget->context);
}

void budget_return(struct budget *budget, uint64_t bytes) {
    atomic_fetch_sub(&budget->used_bytes, bytes);
}

void budget_release(struct budget *budget, uint64_t bytes) {
    if (bytes == 0)
        return;
    atomic_fetch_sub(&budget->used_bytes, bytes);
    budget_tell_waiting(budget);
}

void budget_wait_begin(struct budget *budget) {
    atomic_fetch_add(&budget->waiting, 1);
}

void budget_wait_end(struct budget *budget) {
    atomic_fetch_sub(&budget->waiting, 1);
}
