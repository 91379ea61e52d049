/* How a session is kept: how coarse it may be, how long it is pinned, and which sessions a deletion
 * in bulk is about. */
#ifndef DAEMON_STORE_POLICY_H
#define DAEMON_STORE_POLICY_H

#include "daemon/store/info.h"
#include "daemon/store/store.h"

/* The session's level becomes this; before is what it was like. STORE_OK, STORE_MISS if it was
 * deleted, or STORE_INVALID if it is coarser already. */
int policy_age(struct session *session, int level, struct session_info *before)
    __attribute__((warn_unused_result));

/* Changes what is given, and tells what the session then is: what is coarser already stays.
 * STORE_OK, STORE_MISS, or STORE_INVALID as session_policy_change() says. */
int policy_change(struct store *store, struct session *session,
                  const struct session_policy_change *change, struct session_state *state)
    __attribute__((warn_unused_result));

/* Asks the keeper to heed what was changed, once that is saved if saving is owed. Its ticket. */
uint64_t policy_heed(struct store *store, struct session *session);

/* Until so long from now; 0 ends a pin. STORE_OK or STORE_MISS. */
int policy_pin(struct store *store, struct session *session, uint64_t lease_ns)
    __attribute__((warn_unused_result));

#endif
