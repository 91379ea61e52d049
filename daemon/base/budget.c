#include "daemon/base/budget.h"

void budget_init(struct budget *budget, uint64_t limit_bytes) {
    *budget = (struct budget){.limit_bytes = limit_bytes};
}

bool budget_reserve_spare(struct budget *budget, uint64_t bytes) {
    uint64_t limit = atomic_load(&budget->limit_bytes), used = atomic_load(&budget->used_bytes);
    do {
        if (used > limit || bytes > limit - used)
            return false;
    } while (!atomic_compare_exchange_weak(&budget->used_bytes, &used, used + bytes));
    return true;
}

bool budget_reserve(struct budget *budget, uint64_t bytes) {
    if (budget_reserve_spare(budget, bytes))
        return true;
    if (!budget->reclaim)
        return false;
    uint64_t limit = atomic_load(&budget->limit_bytes), used = atomic_load(&budget->used_bytes);
    budget->reclaim(budget->reclaim_context, used > limit ? used - limit + bytes : bytes);
    return budget_reserve_spare(budget, bytes);
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
