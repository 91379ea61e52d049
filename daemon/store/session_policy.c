#include "daemon/store/session_policy.h"

#include "daemon/base/clock.h"
#include "proto/page/page.h"

enum { IDLE_STEPS_MAX = PAGE_LEVEL_MAX - PAGE_LEVEL_MIN };

bool session_policy_change(struct session_policy *policy,
                           const struct session_policy_change *change) {
    const struct session_policy *to = &change->to;
    if ((change->newest_level && to->newest_level > policy->level) ||
        (change->floor && to->floor < policy->level))
        return false;
    if (change->newest_tokens)
        policy->newest_tokens = to->newest_tokens;
    if (change->newest_level)
        policy->newest_level = to->newest_level;
    if (change->floor)
        policy->floor = to->floor;
    if (change->idle_step)
        policy->idle_step_ms = to->idle_step_ms;
    if (change->ttl)
        policy->ttl_ms = to->ttl_ms;
    return true;
}

struct session_policy session_policy_bounded(struct session_policy policy) {
    if (policy.newest_level > policy.level)
        policy.newest_level = policy.level;
    if (policy.floor < policy.level)
        policy.floor = policy.level;
    return policy;
}

int session_policy_level(const struct session_policy *policy, uint64_t end, uint64_t tokens) {
    return tokens - end < policy->newest_tokens ? policy->newest_level : policy->level;
}

int session_policy_idle_steps(const struct session_policy *policy, uint64_t idle_ns) {
    if (policy->idle_step_ms == 0)
        return 0;
    uint64_t steps = idle_ns / CLOCK_NS_PER_MS / policy->idle_step_ms;
    return steps < IDLE_STEPS_MAX ? (int)steps : (int)IDLE_STEPS_MAX;
}

int session_policy_level_idle(const struct session_policy *policy, uint64_t end, uint64_t tokens,
                              int idle_steps) {
    int level = session_policy_level(policy, end, tokens) + idle_steps;
    return level < policy->floor ? level : policy->floor;
}
