/* Coding the tail of a session that is idle, so that it takes less than its raw rows, and may go to
 * disk. It stays the session's tail: an append decodes it as it begins.
 */
#ifndef DAEMON_STORE_IDLE_TAIL_H
#define DAEMON_STORE_IDLE_TAIL_H

#include "daemon/store/recode.h"

struct store;
struct session;

/* Codes the session's tail at that level, which may be PAGE_EXACT or PAGE_FAST8; it is exact where
 * the session's own is finer. result says what became of its bytes: nothing, if the session has
 * changed meanwhile, or it stays raw: because others have it too and there is no room for both,
 * or where coding saves nothing and there is no disk. What is coded takes the place of the raw rows
 * and needs no other. The keeper's thread's. */
void idle_tail_code(struct store *store, struct session *session, int level,
                    struct recode_result *result);

#endif
