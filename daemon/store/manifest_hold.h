/* What the manifest on disk names and the session has no more: attachments and batches that were
 * replaced or deleted. They stay on disk until a manifest without them is there: else a crash in
 * between would take what was there, and what was to take its place. */
#ifndef DAEMON_STORE_MANIFEST_HOLD_H
#define DAEMON_STORE_MANIFEST_HOLD_H

#include "daemon/store/attachment.h"
#include "daemon/store/session_point.h"

struct session;

struct manifest_hold {
    struct manifest_hold *next;
    struct attachment *attachment; /* a reference */
    struct session_point point;    /* the session's when it still had it */
};

/* With the session locked, before its version or changes rise. */
void manifest_hold(struct session *session, struct attachment *attachment);

/* The manifest of this point is on disk: lets go of what the session had no more by then. */
void manifest_release(struct manifest_hold **holds, struct session_point point);

/* Lets go of all. */
void manifest_release_all(struct manifest_hold **holds);

#endif
