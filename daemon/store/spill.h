/* Spilling: chunks of the coldest sessions go to disk and their memory is given back, those that
 * other sessions have too after all others; what is there as it is needs no writing. When the disk
 * is full, what is coldest there is evicted.
 *
 * For the keeper's thread alone.
 */
#ifndef DAEMON_STORE_SPILL_H
#define DAEMON_STORE_SPILL_H

#include <stdbool.h>
#include <stdint.h>

struct coldness;
struct store;

/* Sees to it that so many bytes become free, of sessions in that order, and of chunks, that were
 * not used for so long; waits a moment for those that are on their way. False if there is nothing
 * that could be spilled.
 */
bool spill(struct store *store, struct coldness *order, uint64_t want_bytes, uint64_t idle_ns);

/* If a write found the disk full, or a tenant's quota of it: makes room there, of a tenant's quota
 * by what is coldest of its own. False if nothing was to be evicted. */
bool spill_relieve_disk(struct store *store);

#endif
