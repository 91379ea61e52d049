/* Restoring: a session out of a dump, part by part, that nobody sees before its commit.
 *
 * A dump may come from anybody. Whose the session becomes and what it is called is said by who
 * restores it; what its parts say of themselves is checked as what is on disk is, and numbers are
 * given anew. All memory is reserved when a part begins.
 */
#ifndef DAEMON_STORE_RESTORING_H
#define DAEMON_STORE_RESTORING_H

#include "daemon/store/dump.h"

struct restoring;

struct restoring_request {
    struct store_name session;
    bool replace; /* one of that name, at the commit */
};

/* STORE_OK, STORE_EXISTS or STORE_FULL. */
int restoring_begin(struct store *store, const struct restoring_request *request,
                    struct restoring **begun) __attribute__((warn_unused_result));

/* What the next part is. STORE_OK; STORE_FULL, to be repeated; or STORE_INVALID: it cannot be. */
int restoring_part(struct restoring *restoring, enum dump_kind kind, uint64_t bytes)
    __attribute__((warn_unused_result));

/* The next bytes of it, no more than it has; workspace is PAGE_WORKSPACE_BYTES. STORE_OK or
 * STORE_INVALID. */
int restoring_put(struct restoring *restoring, const uint8_t *bytes, size_t count, void *workspace)
    __attribute__((warn_unused_result));

/* All of it has come. STORE_OK; STORE_FULL, to be repeated; STORE_INVALID; or, of a manifest,
 * STORE_UNSUPPORTED: such sessions do not fit the memory limit. */
int restoring_part_end(struct restoring *restoring) __attribute__((warn_unused_result));

/* After the manifest: what the session will be. Else NULL. */
const struct manifest *restoring_manifest(const struct restoring *restoring);

/* The session is there. STORE_OK, or STORE_INCOMPLETE, STORE_EXISTS, or what store_replace() can
 * come to. What was replaced is handed out, as by that. */
int restoring_commit(struct restoring *restoring, struct session_state *state,
                     struct session_discard **replaced) __attribute__((warn_unused_result));

/* After the commit. */
struct session *restoring_session(const struct restoring *restoring);

/* Frees it; what was not committed is dropped. */
void restoring_end(struct restoring *restoring);

#endif
