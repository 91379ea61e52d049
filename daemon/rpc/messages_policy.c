/* Between Policy of kvq.proto and the store's. */
#include "daemon/base/clock.h"
#include "daemon/rpc/messages.h"

#define TIME_MS_MAX (UINT64_MAX / CLOCK_NS_PER_MS / 2)

static void read_number(const Kvq__Number *message, bool *given, uint64_t *value) {
    *given = message != NULL;
    *value = message ? message->value : 0;
}

static uint32_t read_level(struct rpc_request *request, const Kvq__Level *message, bool *given,
                           int *level) {
    *given = message != NULL;
    *level = message ? message->level : 0;
    return message ? messages_check_level(request, *level) : WIRE_OK;
}

uint32_t messages_read_policy(struct rpc_request *request, const Kvq__Policy *message,
                              struct session_policy_change *change) {
    struct session_policy *to = &change->to;
    uint32_t code;
    *change = (struct session_policy_change){0};
    if (!message)
        return WIRE_OK;
    read_number(message->newest_tokens, &change->newest_tokens, &to->newest_tokens);
    read_number(message->idle_step_ms, &change->idle_step, &to->idle_step_ms);
    read_number(message->ttl_ms, &change->ttl, &to->ttl_ms);
    if (to->idle_step_ms > TIME_MS_MAX || to->ttl_ms > TIME_MS_MAX)
        return rpc_fail(request, WIRE_INVALID, "a time is at most %llu ms",
                        (unsigned long long)TIME_MS_MAX);
    code = read_level(request, message->newest_level, &change->newest_level, &to->newest_level);
    return code ? code : read_level(request, message->floor, &change->floor, &to->floor);
}

static Kvq__Number *write_number(uint64_t value, Kvq__Number *message) {
    kvq__number__init(message);
    message->value = value;
    return message;
}

static Kvq__Level *write_level(int level, Kvq__Level *message) {
    kvq__level__init(message);
    message->level = level;
    return message;
}

void messages_write_policy(const struct session_policy *policy, struct messages_policy *message) {
    kvq__policy__init(&message->policy);
    message->policy.newest_tokens = write_number(policy->newest_tokens, &message->newest_tokens);
    message->policy.newest_level = write_level(policy->newest_level, &message->newest_level);
    message->policy.floor = write_level(policy->floor, &message->floor);
    message->policy.idle_step_ms = write_number(policy->idle_step_ms, &message->idle_step_ms);
    message->policy.ttl_ms = write_number(policy->ttl_ms, &message->ttl_ms);
}

uint32_t messages_fail_policy(struct rpc_request *request, int level) {
    return rpc_fail(request, WIRE_INVALID,
                    "the session's level is %d: newest_level is no coarser, floor no finer", level);
}

/* A level that is named is a promise: no floor below it. Decibels alone choose among all levels. */
static struct session_policy default_policy(const struct rpc_request *request,
                                            const struct messages_quality *message) {
    const struct rpc_default_policy *defaults = &request->context->daemon->default_policy;
    struct session_policy policy = {.level = defaults->level,
                                    .min_snr_db = message->min_snr_db,
                                    .newest_tokens = defaults->newest_tokens,
                                    .newest_level = defaults->newest_level,
                                    .floor = defaults->floor,
                                    .idle_step_ms = defaults->idle_step_ms,
                                    .ttl_ms = defaults->ttl_ms};
    if (message->level)
        policy.level = policy.floor = message->level->level;
    else if (message->min_snr_db > 0)
        policy.level = PAGE_LEVEL_MAX;
    return session_policy_bounded(policy);
}

uint32_t messages_read_quality(struct rpc_request *request, const struct messages_quality *message,
                               struct session_policy *policy) {
    struct session_policy_change change;
    *policy = default_policy(request, message);
    if (!(policy->min_snr_db >= 0 && policy->min_snr_db <= WIRE_SNR_DB_MAX))
        return rpc_fail(request, WIRE_INVALID, "min_snr_db is 0 (none) to %d", WIRE_SNR_DB_MAX);
    uint32_t code = messages_check_level(request, policy->level);
    if (code || (code = messages_read_policy(request, message->policy, &change)))
        return code;
    return session_policy_change(policy, &change) ? WIRE_OK
                                                  : messages_fail_policy(request, policy->level);
}
