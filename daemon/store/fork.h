/* Fork and truncate: a session's first tokens as a session of their own, or all that stays of it.
 *
 * Neither copies nor codes a value. A cut through a page leaves a slice with a part of its chunk;
 * what is appended behind begins a chunk of its own.
 */
#ifndef DAEMON_STORE_FORK_H
#define DAEMON_STORE_FORK_H

#include "daemon/store/store.h"

struct fork_request {
    struct store_name session, target;
    uint64_t tokens;     /* 0: all */
    uint64_t if_version; /* 0: not compared */
};

/* STORE_OK, STORE_MISS, STORE_EXISTS, STORE_VERSION_CHANGED, STORE_FULL, STORE_UNSUPPORTED, or what
 * disk_tier_admit() says of the target's name. state is that of the new session. */
int store_fork(struct store *store, const struct fork_request *request, struct session_state *state)
    __attribute__((warn_unused_result));

struct truncate_request {
    struct store_name session;
    uint64_t tokens;
    uint64_t if_version; /* 0: not compared */
};

/* STORE_OK, STORE_MISS, STORE_BUSY, STORE_VERSION_CHANGED or STORE_FULL. What the session no longer
 * has is handed out, the caller's to free; NULL if that is nothing. */
int store_truncate(struct store *store, const struct truncate_request *request,
                   struct session_state *state, struct session_discard **discard)
    __attribute__((warn_unused_result));

#endif
