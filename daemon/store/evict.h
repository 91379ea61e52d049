/* Eviction: a session loses its newest tokens, a chunk at a time. What is left of it is a hit, and
 * an append continues there.
 */
#ifndef DAEMON_STORE_EVICT_H
#define DAEMON_STORE_EVICT_H

#include "daemon/store/store.h"

/* Where bytes are to become free. */
enum evict_place { EVICT_FROM_MEMORY, EVICT_FROM_DISK, EVICT_FROM_BOTH };

struct evict_request {
    uint64_t want_bytes; /* as many tokens go as free this, or a bounded number of them */
    uint64_t idle_ns;    /* a session that was used since stays */
    enum evict_place place;
    bool shared_too;      /* also what others have, which frees nothing yet */
    bool keeps_spillable; /* not what could go to disk instead */
};

struct evict_result {
    uint64_t tokens, bytes;
    bool deleted; /* no token was left */
};

/* STORE_OK, or with nothing done: STORE_BUSY (pinned), STORE_WAIT (appended to, or just used),
 * STORE_UNSUPPORTED (that would free nothing) or STORE_MISS (deleted). */
int evict_session(struct store *store, struct session *session, const struct evict_request *request,
                  struct evict_result *result) __attribute__((warn_unused_result));

/* What of the session was on disk alone and cannot be read goes, and all behind it: what is left is
 * a hit. Not while it is appended to. Its length then, or 0 if it is deleted. */
uint64_t evict_lost(struct store *store, struct session *session);

#endif
