/* Saving: bringing a session to disk as it is, so that a restart finds it.
 *
 * A save writes the chunks and attachments that are not on disk, the tail's rows that are not, and
 * behind them a manifest, which is durable when all of that is. One save of a session is under way
 * at a time; who waits for one asks again when there was progress.
 */
#ifndef DAEMON_STORE_SAVING_H
#define DAEMON_STORE_SAVING_H

#include "daemon/store/store.h"

/* With the session locked: whether what was done to it may only be acknowledged when it is on disk.
 * So it is with a session that wants that, and with one that was cut since it was saved, or while
 * it is: what was cut off must not come back, nor an attachment that was deleted or replaced. And
 * with one that may be coarser than when it was saved, which it becomes only then. */
bool saving_is_owed(const struct session *session);

/* STORE_OK when the session is on disk as it was at that point or later; STORE_WAIT until then;
 * STORE_DISK if that failed, STORE_MISS if it was deleted. */
int saving_step(struct store *store, struct session *session, struct session_point point)
    __attribute__((warn_unused_result));

/* The same from the beginning where it failed before, or was used since. The point to wait for. */
struct session_point saving_retry(struct session *session);

/* With the session locked, which is about to be deleted: what of it is on disk goes, too. promise
 * becomes NULL if nothing is. STORE_OK, or STORE_FULL, and nothing was done. */
int saving_delete(struct disk_tier *tier, struct session *session, struct disk_promise **promise)
    __attribute__((warn_unused_result));

/* With the session locked, of which something is gone that its manifest has: that goes, too. Until
 * it is saved again nothing of it comes back. */
void saving_withdraw(struct disk_tier *tier, struct session *session);

/* Saves all sessions, those used last first, as many as there is room for on disk, and logs what
 * came of it. Waits; nobody else uses the store any more, and its keeper has ended. */
void saving_save_all(struct store *store);

#endif
