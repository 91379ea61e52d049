#include "daemon/store/policy.h"

#include "daemon/base/clock.h"

/* With the session locked. The keeper brings the slices to it. */
static int set_level(struct session *session, int level) {
    if (session->deleted)
        return STORE_MISS;
    if (level < session->policy.level)
        return STORE_INVALID;
    session->policy.level = session->policy.newest_level = level;
    if (session->policy.floor < level)
        session->policy.floor = level;
    session->changes++;
    return STORE_OK;
}

int policy_age(struct session *session, int level, struct session_info *before) {
    int status = info_read(session, before);
    if (status != STORE_OK)
        return status;
    pthread_mutex_lock(session->lock);
    status = set_level(session, level);
    pthread_mutex_unlock(session->lock);
    return status;
}

uint64_t policy_heed(struct store *store, struct session *session) {
    keeper_add(&store->keeper, session);
    return keeper_ticket(&store->keeper, session);
}

int policy_change(struct store *store, struct session *session,
                  const struct session_policy_change *change, struct session_state *state) {
    pthread_mutex_lock(session->lock);
    int status = session->deleted                                  ? STORE_MISS
                 : session_policy_change(&session->policy, change) ? STORE_OK
                                                                   : STORE_INVALID;
    bool changed = status == STORE_OK && session_policy_changes(change);
    if (changed) {
        session->changes++;
        ageing_schedule(&store->ageing, session);
    }
    session_read_state(session, state);
    pthread_mutex_unlock(session->lock);
    return status;
}

int policy_pin(struct store *store, struct session *session, uint64_t lease_ns) {
    uint64_t now = clock_now_ns();
    pthread_mutex_lock(session->lock);
    bool deleted = session->deleted;
    session->changes++;
    session->pinned_until_ns = lease_ns < UINT64_MAX - now ? now + lease_ns : UINT64_MAX;
    if (!deleted)
        ageing_schedule(&store->ageing, session);
    pthread_mutex_unlock(session->lock);
    return deleted ? STORE_MISS : STORE_OK;
}
