#include "daemon/server/lease.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/base/private_memory.h"
#include "daemon/rpc/rpc.h"

enum { LARGE_BYTES = (RPC_BUFFER_BYTES + 4095) / 4096 * 4096 };

uint64_t lease_pool_bytes(size_t count) {
    return (uint64_t)count * LARGE_BYTES;
}

int lease_pool_init(struct lease_pool *pool, size_t count, struct budget *budget,
                    void (*on_return)(void *context), void *context) {
    *pool = (struct lease_pool){.budget = budget, .on_return = on_return, .context = context};
    pthread_mutex_init(&pool->lock, NULL);
    pool->free_buffers = calloc(count, sizeof *pool->free_buffers);
    pool->count = pool->free_count = count;
    pool->memory = private_memory_new(lease_pool_bytes(count));
    if (!pool->memory || !pool->free_buffers)
        return -1;
    for (size_t i = 0; i < count; i++) /* the first is lent first, so that few are touched */
        pool->free_buffers[count - 1 - i] = (uint8_t *)pool->memory + i * LARGE_BYTES;
    return 0;
}

void lease_pool_deinit(struct lease_pool *pool) {
    private_memory_free(pool->memory, lease_pool_bytes(pool->count));
    free(pool->free_buffers);
    pthread_mutex_destroy(&pool->lock);
}

static uint8_t *take_small(struct lease_pool *pool) {
    if (!budget_reserve(pool->budget, LEASE_SMALL_BYTES))
        return NULL;
    uint8_t *buffer = malloc(LEASE_SMALL_BYTES); /* aligned ones leave holes in glibc before 2.38 */
    if (!buffer)
        budget_return(pool->budget, LEASE_SMALL_BYTES);
    return buffer;
}

static void enter(struct lease_pool *pool, struct lease_place *place) {
    *place = (struct lease_place){.previous = pool->last, .taken = true};
    *(pool->last ? &pool->last->next : &pool->first) = place;
    pool->last = place;
    pool->waiting++;
}

static void leave(struct lease_pool *pool, struct lease_place *place) {
    *(place->previous ? &place->previous->next : &pool->first) = place->next;
    *(place->next ? &place->next->previous : &pool->last) = place->previous;
    place->taken = false;
    pool->waiting--;
}

/* Whether there is a buffer for this place, and one for each before it. */
static bool is_its_turn(const struct lease_pool *pool, const struct lease_place *place) {
    const struct lease_place *other = pool->first;
    size_t ahead = 0;
    if (!place->taken)
        return pool->free_count > pool->waiting;
    for (; other != place && ahead < pool->free_count; other = other->next)
        ahead++;
    return ahead < pool->free_count;
}

static uint8_t *take_large(struct lease_pool *pool, struct lease_place *place) {
    uint8_t *buffer = NULL;
    pthread_mutex_lock(&pool->lock);
    if (is_its_turn(pool, place)) {
        buffer = pool->free_buffers[--pool->free_count];
        if (place->taken)
            leave(pool, place);
    } else if (!place->taken) {
        enter(pool, place);
    }
    pthread_mutex_unlock(&pool->lock);
    return buffer;
}

void lease_leave(struct lease_pool *pool, struct lease_place *place) {
    if (!place->taken)
        return;
    pthread_mutex_lock(&pool->lock);
    leave(pool, place);
    bool others_turn = pool->free_count > 0 && pool->waiting > 0;
    pthread_mutex_unlock(&pool->lock);
    if (others_turn)
        pool->on_return(pool->context);
}

/* False beyond the quota of who receives. */
static bool charge(struct lease_pool *pool, struct lease_payer payer, struct lease *lease) {
    if (payer.bytes && !payer.receives)
        charge_anyway(&lease->charge, payer.bytes, LARGE_BYTES);
    else if (!charge_take(&lease->charge, payer.bytes, LARGE_BYTES))
        atomic_store(&pool->refused, true);
    return !payer.bytes || lease->charge.quota;
}

/* At the memory limit a small frame takes a large buffer. */
bool lease_take(struct lease_pool *pool, size_t bytes, struct lease_payer payer,
                struct lease *lease, struct lease_place *place) {
    *lease = (struct lease){0};
    lease->buffer = bytes <= LEASE_SMALL_BYTES ? take_small(pool) : NULL;
    lease->bytes = LEASE_SMALL_BYTES;
    if (lease->buffer) {
        lease_leave(pool, place);
        return true;
    }
    lease->bytes = LARGE_BYTES;
    if (!charge(pool, payer, lease)) {
        lease_leave(pool, place); /* those behind it are not kept waiting */
        return false;
    }
    lease->buffer = take_large(pool, place);
    if (!lease->buffer)
        charge_release(&lease->charge);
    return lease->buffer != NULL;
}

bool lease_take_spare(struct lease_pool *pool, struct lease_payer payer, struct lease *lease) {
    *lease = (struct lease){.bytes = LARGE_BYTES};
    if (pool->waiting > 0 || !charge(pool, payer, lease))
        return false;
    pthread_mutex_lock(&pool->lock);
    bool is_spare = pool->waiting == 0 && pool->free_count > pool->count / 2;
    if (is_spare)
        lease->buffer = pool->free_buffers[--pool->free_count];
    pthread_mutex_unlock(&pool->lock);
    if (!is_spare)
        charge_release(&lease->charge);
    return is_spare;
}

static void return_large(struct lease_pool *pool, uint8_t *buffer) {
    pthread_mutex_lock(&pool->lock);
    pool->free_buffers[pool->free_count++] = buffer;
    pthread_mutex_unlock(&pool->lock);
    if (pool->waiting > 0 || atomic_exchange(&pool->refused, false))
        pool->on_return(pool->context);
}

void lease_return(struct lease_pool *pool, struct lease *lease) {
    if (lease->buffer && lease->bytes == LEASE_SMALL_BYTES) {
        free(lease->buffer);
        budget_return(pool->budget, LEASE_SMALL_BYTES);
    } else if (lease->buffer) {
        charge_release(&lease->charge);
        return_large(pool, lease->buffer);
    }
    lease->buffer = NULL;
}

void lease_shrink(struct lease_pool *pool, struct lease *lease, size_t bytes) {
    struct lease small = {.bytes = LEASE_SMALL_BYTES};
    if (lease->bytes == LEASE_SMALL_BYTES || bytes > LEASE_SMALL_BYTES ||
        !(small.buffer = take_small(pool)))
        return;
    memcpy(small.buffer, lease->buffer, bytes);
    lease_return(pool, lease);
    *lease = small;
}

struct lease_counts lease_counts(struct lease_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    struct lease_counts counts = {pool->count, pool->free_count, pool->waiting};
    pthread_mutex_unlock(&pool->lock);
    return counts;
}

bool lease_is_short(struct lease_pool *pool) {
    return pool->waiting > 0;
}
