/* Coding the tail of a session that is idle, so that it takes less than its raw rows. It stays the
 * session's tail: an append decodes it as it begins.
 */
#ifndef DAEMON_STORE_IDLE_TAIL_H
#define DAEMON_STORE_IDLE_TAIL_H

#include "daemon/store/recode.h"

struct store;
struct session;

/* Codes the session's tail at that level. STORE_OK, also if the session has changed meanwhile;
 * STORE_UNSUPPORTED if that saves nothing, so that it stays raw; STORE_FULL. level may be
 * PAGE_EXACT or PAGE_FAST8; it is exact where the tail's own is finer. result says what became of
 * its bytes. The keeper's thread's. */
int idle_tail_code(struct store *store, struct session *session, int level, struct recoder *recoder,
                   struct recode_result *result) __attribute__((warn_unused_result));

#endif
