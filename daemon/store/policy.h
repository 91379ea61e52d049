/* How a session is kept: how coarse it may be, how long it is pinned, and which sessions a deletion
 * in bulk is about. */
#ifndef DAEMON_STORE_POLICY_H
#define DAEMON_STORE_POLICY_H

#include "daemon/store/info.h"
#include "daemon/store/store.h"

/* The session's level becomes this, and the keeper is asked for it; before is what it was like,
 * ticket the keeper's. STORE_OK, STORE_MISS if it was deleted, or STORE_INVALID if it is coarser
 * already. */
int policy_age(struct store *store, struct session *session, int level, struct session_info *before,
               uint64_t *ticket) __attribute__((warn_unused_result));

/* Changes what is given, and tells what the session then is. The keeper is asked to heed it: what
 * is coarser already stays. STORE_OK, STORE_MISS, or STORE_INVALID as session_policy_change() says.
 */
int policy_change(struct store *store, struct session *session,
                  const struct session_policy_change *change, struct session_state *state)
    __attribute__((warn_unused_result));

/* Until so long from now; 0 ends a pin. STORE_OK or STORE_MISS. */
int policy_pin(struct store *store, struct session *session, uint64_t lease_ns)
    __attribute__((warn_unused_result));

#endif
