/* What a manifest says becomes a session again, piece by piece: its chunks and its tail's rows are
 * whose turn it is to have them, a disk's or a pool's that was taken over.
 *
 * The session is seen by nobody yet.
 */
#ifndef DAEMON_STORE_RESTORE_H
#define DAEMON_STORE_RESTORE_H

#include "daemon/store/manifest.h"
#include "daemon/store/store.h"

/* A session without tokens, with the manifest's id, version and policy and room for its slices.
 * NULL where the memory limit has no place for it. */
struct session *restore_session(struct store *store, const struct manifest *manifest)
    __attribute__((warn_unused_result));

/* One more slice of this chunk. False if there is none, or it has not these tokens as finely as the
 * session is promised to have them. */
bool restore_slice(struct session *session, const struct manifest_slice *slice,
                   struct chunk *chunk);

/* The same of the manifest's last slice, which is the tail. */
bool restore_coded_tail(struct session *session, const struct manifest *manifest,
                        struct chunk *chunk);

/* What rows of the tail have lost. */
void restore_losses(struct tail *tail, const struct manifest *manifest);

/* Ids of the tokens that are there. Without memory for them it is not found by them. */
void restore_ids(struct store *store, struct session *session, const struct manifest *manifest);

/* Blocks of a chain whose tokens are there; of another session there are none. STORE_OK, or
 * STORE_FULL without memory for one. */
int restore_blocks(struct store *store, struct session *session, const struct manifest *manifest)
    __attribute__((warn_unused_result));

/* Whether nothing is left of what it had. */
bool restore_left_nothing(const struct session *session, const struct manifest *manifest);

/* A batch with the rows that the manifest has of it, its bytes in memory. STORE_OK, STORE_MISS if
 * there is none or it is damaged, or STORE_FULL. */
int restore_batch(struct session *session, const struct manifest_batch *from,
                  struct attachment *batch) __attribute__((warn_unused_result));

/* What is missing at the end, of so many tokens, makes it another session: of a new version, to be
 * saved anew, and without the entries of these. */
void restore_note_missing(struct store *store, struct session *session, uint64_t tokens);

/* No number that was given before is given again. */
void restore_clock(_Atomic uint64_t *clock, uint64_t number);

#endif
