/* The pool: one memfd, mapped once, in which chunk records lie whole and by offset. It may outlive
 * the process, in the hands of a service manager, and be opened by the next one.
 *
 * The file is sparse and several times larger than the memory limit, so that a record finds a free
 * stretch however the pool was used before. Fresh memory is slow to touch, so a part of what is
 * free stays resident, "warm": freed stretches that are kept, and some touched ahead. Warm bytes
 * are reserved in the budget like those in use, and given back to the system when the budget asks.
 * All else that is freed goes back at once (a punched hole). Huge pages are used where the system
 * allows them for shared memory (transparent_hugepage/shmem_enabled). Safe from any thread.
 */
#ifndef DAEMON_STORE_POOL_H
#define DAEMON_STORE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/budget.h"

struct coding;
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

/* The same over the file of a pool that was before, of which nothing is given out until
 * pool_adopt(); the descriptor stays the caller's. NULL, with a sentence of why, if it is no such
 * file, or of too few bytes for the budget's limit. */
struct pool *pool_open(struct budget *budget, int file, const char **fault);

/* Of a pool that was opened: these extents, which become sorted, are in use; all else of it is
 * free, and given back to the system. 0, or -1, and nothing is done, if they cannot be. */
int pool_adopt(struct pool *pool, struct pool_extent *used, size_t count)
    __attribute__((warn_unused_result));

/* POOL_UNIT_BYTES at the file's end that the pool leaves to who hands it over to another. */
uint8_t *pool_note(const struct pool *pool);

/* From now on what is in the file stays there, whatever is given back. Nothing more is taken. */
void pool_freeze(struct pool *pool);

int pool_file(const struct pool *pool);
uint64_t pool_bytes(const struct pool *pool);

/* Copies from the file, so that nothing more of it is mapped. 0 or -1. */
int pool_read(const struct pool *pool, const struct pool_extent *extent, void *to, size_t bytes)
    __attribute__((warn_unused_result));

/* An extent of at least so many bytes. Its first warm_bytes hold anything and are reserved already;
 * the rest is zero and the caller's to reserve before touching it. For a caller whose budget is
 * neither the pool's nor a part of it nothing is warm. 0, or -1 if there is no free stretch of that
 * length, or what is warm of it is too much for that part. */
int pool_take(struct pool *pool, uint64_t bytes, struct budget *budget, struct pool_extent *extent)
    __attribute__((warn_unused_result));

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

/* What coding the pages of its records took. */
struct coding *pool_coding(struct pool *pool);

void *pool_memory(const struct pool *pool, const struct pool_extent *extent);

/* The pool's rounding: what so many bytes take of it. */
uint64_t pool_round(uint64_t bytes);

#endif
