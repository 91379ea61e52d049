/* Recovery: sessions of a daemon that ran before, from what its disk holds.
 *
 * The disk's scan tells every value that is there; then each manifest becomes a session again, in
 * the order of their ids, its chunks absent until they are fetched. What of a session cannot be
 * had, and all behind it, is cut off: the prefix that is left is what was stored. What no session
 * refers to is forgotten. All happens on the thread that scans, before any session is looked up.
 */
#ifndef DAEMON_STORE_RECOVERY_H
#define DAEMON_STORE_RECOVERY_H

#include <stdint.h>

struct disk_found;
struct recovery;
struct store;
struct takeover;

/* With sessions that came out of a pool, or NULL: what is on disk of these is theirs as it is in
 * memory, and the takeover is the recovery's. NULL without memory. */
struct recovery *recovery_new(struct store *store, struct takeover *takeover);

/* One that the disk was not opened with, or NULL. */
void recovery_free(struct recovery *recovery);

/* The store has the disk, and what came out of the pool: the others may be made. */
void recovery_begin(struct recovery *recovery);

/* The disk's callbacks; the context is the recovery. The second makes the sessions, once it may,
 * and frees it. */
void recovery_on_found(void *context, const struct disk_found *found);
void recovery_on_scanned(void *context);

#endif
