/* Attachments on their way to disk and back. A value of theirs has the record's header as its first
 * part, then a part for each piece. */
#ifndef DAEMON_STORE_ATTACHMENT_DISK_H
#define DAEMON_STORE_ATTACHMENT_DISK_H

#include "daemon/store/attachment.h"
#include "daemon/store/session.h"

/* Begins to write it, unless it is on disk or on its way, as one of this session's; with `drop` its
 * memory is given back then. Bytes that will be free, or are. */
uint64_t attachment_write(struct disk_tier *tier, struct attachment *attachment,
                          struct session *session, bool drop);

/* Begins to load one whose bytes are on disk only: STORE_WAIT until on_progress, STORE_OK if they
 * are in memory by now, STORE_FULL at the memory limit, STORE_MISS if they are lost. */
int attachment_load(struct attachment *attachment) __attribute__((warn_unused_result));

#endif
