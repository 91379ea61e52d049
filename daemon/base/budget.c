#include "daemon/base/budget.h"

void budget_init(struct budget *budget, uint64_t limit_bytes) {
    *budget = (struct budget){.limit_bytes = limit_bytes};
}

void budget_init_part(struct budget *part, struct budget *whole) {
    *part = (struct budget){
        .whole = whole, .limit_bytes = UINT64_MAX, .small_share = whole->small_share};
}

static bool reserve_below(struct budget *budget, uint64_t limit, uint64_t bytes) {
    uint64_t used = atomic_load(&budget->used_bytes);
    do {
        if (used > limit || bytes > limit - used)
            return false;
    } while (!atomic_compare_exchange_weak(&budget->used_bytes, &used, used + bytes));
    return true;
}

static uint64_t bulk_limit(const struct budget *budget) {
    uint64_t limit = atomic_load(&budget->limit_bytes);
    return budget->small_share > 0 ? limit - limit / budget->small_share : limit;
}

struct budget *budget_short_of(struct budget *budget) {
    uint64_t used = atomic_load(&budget->used_bytes), wanted = atomic_load(&budget->wanted_bytes);
    uint64_t limit = bulk_limit(budget);
    bool is_short = wanted > 0 && (used > limit || wanted > limit - used);
    return !budget->whole || is_short ? budget : budget->whole;
}

/* Of the part's own limit. */
static bool reserve_part(struct budget *part, uint64_t limit, uint64_t bytes) {
    if (reserve_below(part, limit, bytes))
        return true;
    atomic_store(&part->wanted_bytes, bytes);
    atomic_fetch_add(&part->refused, 1);
    return false;
}

/* The whole did not let it through. */
static bool give_up(struct budget *part, uint64_t bytes) {
    atomic_fetch_sub(&part->used_bytes, bytes);
    atomic_store(&part->wanted_bytes, 0);
    return false;
}

bool budget_assign(struct budget *budget, uint64_t bytes) {
    return !budget->whole || reserve_part(budget, bulk_limit(budget), bytes);
}

void budget_unassign(struct budget *budget, uint64_t bytes) {
    if (budget->whole)
        atomic_fetch_sub(&budget->used_bytes, bytes);
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
    uint64_t limit = atomic_load(&budget->limit_bytes);
    if (!budget->whole)
        return reserve_or_reclaim(budget, limit, bytes);
    if (!reserve_part(budget, limit, bytes))
        return false;
    return budget_reserve(budget->whole, bytes) || give_up(budget, bytes);
}

bool budget_reserve_bulk(struct budget *budget, uint64_t bytes) {
    if (!budget->whole)
        return reserve_or_reclaim(budget, bulk_limit(budget), bytes);
    if (!reserve_part(budget, bulk_limit(budget), bytes))
        return false;
    return budget_reserve_bulk(budget->whole, bytes) || give_up(budget, bytes);
}

void budget_tell_waiting(struct budget *budget) {
    const struct budget *whole = budget->whole ? budget->whole : budget;
    if (atomic_load(&budget->waiting) + atomic_load(&whole->waiting) > 0 && whole->on_release)
        whole->on_release(whole->context);
}

void budget_return(struct budget *budget, uint64_t bytes) {
    atomic_fetch_sub(&budget->used_bytes, bytes);
    if (budget->whole)
        budget_return(budget->whole, bytes);
}

void budget_release(struct budget *budget, uint64_t bytes) {
    if (bytes == 0)
        return;
    budget_return(budget, bytes);
    budget_tell_waiting(budget);
}

void budget_wait_begin(struct budget *budget) {
    atomic_fetch_add(&budget->waiting, 1);
}

void budget_wait_end(struct budget *budget) {
    atomic_fetch_sub(&budget->waiting, 1);
}
