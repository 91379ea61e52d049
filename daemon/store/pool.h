/* The pool: one memfd, mapped once, in which chunk records lie whole and by offset.
 *
 * The file is sparse and several times larger than the memory limit, so that a record finds a free
 * stretch however the pool was used before. Fresh memory is slow to touch, so a part of what is
 * free stays resident, "warm": freed stretches that are kept, and some touched ahead. Warm bytes
 * are reserved in the budget like those in use, and given back to the system when the budget asks.
 * All else that is freed goes back at once (a punched hole). Safe from any thread.
 */
#ifndef DAEMON_STORE_POOL_H
#define DAEMON_STORE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/budget.h"

struct pool;

struct pool_extent {
    uint64_t offset, bytes; /* multiples of POOL_UNIT_BYTES */
    uint64_t warm_bytes;    /* so many at its beginning are resident and reserved */
};

enum { POOL_UNIT_BYTES = 4096 };

/* NULL, logged, if the system refuses. Warm bytes are reserved in the budget, which must outlive
 * the pool and gets it as its reclaimer. */
struct pool *pool_new(struct budget *budget);
void pool_free(struct pool *pool);

/* An extent of at least so many bytes. Its first warm_bytes hold anything and are reserved already;
 * the rest is zero and the caller's to reserve before touching it. For a caller with another budget
 * than the pool's nothing is warm. 0, or -1 if there is no free stretch of that length. */
int pool_take(struct pool *pool, uint64_t bytes, const struct budget *budget,
              struct pool_extent *extent) __attribute__((warn_unused_result));

/* Gives back what lies behind the first keep_bytes of the extent, or all of it for 0. The first
 * reserved_bytes of what is given back are reserved in `budget`; the pool keeps or releases them.
 */
void pool_give(struct pool *pool, struct pool_extent *extent, uint64_t keep_bytes,
               struct budget *budget, uint64_t reserved_bytes);

/* Touches some free memory ahead. False when there is enough, or no room for more. */
bool pool_warm_up(struct pool *pool);

/* To so much the budget's limit may rise: twice what it was when the pool was made. */
uint64_t pool_limit_bytes_max(const struct pool *pool);

uint64_t pool_warm_bytes(struct pool *pool);

/* What is reserved in the budget for anything else than warm memory. */
uint64_t pool_used_bytes(struct pool *pool);

/* From 1 on; none comes twice. */
uint64_t pool_next_serial(struct pool *pool);

void *pool_memory(const struct pool *pool, const struct pool_extent *extent);

/* The pool's rounding: what so many bytes take of it. */
uint64_t pool_round(uint64_t bytes);

#endif
