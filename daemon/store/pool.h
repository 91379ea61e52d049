/* The pool: one memfd, mapped once, in which chunk records lie whole and by offset.
 *
 * The file is sparse and several times larger than the memory limit, so that a record finds a free
 * stretch however the pool was used before; what is freed is given back to the system at once (a
 * punched hole, which also zeroes it). The pool counts nothing: whoever writes to an extent has
 * reserved the bytes in the budget. Safe from any thread.
 */
#ifndef DAEMON_STORE_POOL_H
#define DAEMON_STORE_POOL_H

#include <stddef.h>
#include <stdint.h>

struct pool;

struct pool_extent {
    uint64_t offset, bytes; /* multiples of POOL_UNIT_BYTES */
};

enum { POOL_UNIT_BYTES = 4096 };

/* NULL, logged, if the system refuses. */
struct pool *pool_new(uint64_t limit_bytes);
void pool_free(struct pool *pool);

/* An extent of at least so many bytes, zeroed. 0, or -1 if there is no free stretch of that length.
 */
int pool_take(struct pool *pool, uint64_t bytes, struct pool_extent *extent)
    __attribute__((warn_unused_result));

/* Gives back what lies behind the first keep_bytes of the extent, or all of it for 0. */
void pool_trim(struct pool *pool, struct pool_extent *extent, uint64_t keep_bytes);

void *pool_memory(const struct pool *pool, const struct pool_extent *extent);

/* The pool's rounding: what so many bytes take of it. */
uint64_t pool_round(uint64_t bytes);

#endif
