/* A session's policy: how finely its tokens are kept, the newest and the others, how that changes
 * while nobody uses it, and for how long it is kept at all. */
#ifndef DAEMON_STORE_SESSION_POLICY_H
#define DAEMON_STORE_SESSION_POLICY_H

#include <stdbool.h>
#include <stdint.h>

struct session_policy {
    int level;              /* of tokens behind the newest */
    double min_snr_db;      /* that every page has at least, or 0; never changes */
    uint64_t newest_tokens; /* so many are at newest_level; 0: none */
    int newest_level;       /* no coarser than level */
    int floor; /* the coarsest that idle steps and pressure lead to; no finer than level */
    uint64_t idle_step_ms; /* one level coarser with each time of this without use; 0: never */
    uint64_t ttl_ms;       /* deleted after so long without use; 0: never */
};

/* What of a policy is to be another; its level and decibels are not. */
struct session_policy_change {
    bool newest_tokens, newest_level, floor, idle_step, ttl; /* which of these are given */
    struct session_policy to;
};

static inline bool session_policy_changes(const struct session_policy_change *change) {
    return change->newest_tokens || change->newest_level || change->floor || change->idle_step ||
           change->ttl;
}

/* False if newest_level would be coarser, or floor finer, than the level: nothing was changed. */
bool session_policy_change(struct session_policy *policy,
                           const struct session_policy_change *change)
    __attribute__((warn_unused_result));

/* The same with newest_level and floor where they may be: no coarser and no finer than level. */
struct session_policy session_policy_bounded(struct session_policy policy);

/* The level of tokens up to `end` of a session of so many when it is in use. Where some of them are
 * among the newest, all are as fine as these. */
int session_policy_level(const struct session_policy *policy, uint64_t end, uint64_t tokens);

/* Steps that a session has taken which was not used for so long. */
int session_policy_idle_steps(const struct session_policy *policy, uint64_t idle_ns);

/* The level of the same tokens after so many idle steps. */
int session_policy_level_idle(const struct session_policy *policy, uint64_t end, uint64_t tokens,
                              int idle_steps);

#endif
