/* How a session is kept: between kvq.h and the messages, and the call that asks and changes. */
#include "client/c/client.h"

static Kvq__Number *number(bool given, uint64_t value, Kvq__Number *message) {
    kvq__number__init(message);
    message->value = value;
    return given ? message : NULL;
}

static Kvq__Level *level(bool given, int value, Kvq__Level *message) {
    kvq__level__init(message);
    message->level = value;
    return given ? message : NULL;
}

Kvq__Policy *kvq_policy_to_wire(const struct kvq_policy_options *options,
                                struct kvq_policy_message *message) {
    struct kvq_policy_options known = {0};
    if (options)
        kvq_copy_options(&known, sizeof known, options, options->size);
    unsigned given = known.given;
    const struct kvq_policy *policy = &known.policy;
    kvq__policy__init(&message->policy);
    message->policy.newest_tokens =
        number(given & KVQ_POLICY_NEWEST_TOKENS, policy->newest_tokens, &message->newest_tokens);
    message->policy.newest_level =
        level(given & KVQ_POLICY_NEWEST_LEVEL, policy->newest_level, &message->newest_level);
    message->policy.floor = level(given & KVQ_POLICY_FLOOR, policy->floor, &message->floor);
    message->policy.idle_step_ms =
        number(given & KVQ_POLICY_IDLE_STEP, policy->idle_step_ms, &message->idle_step_ms);
    message->policy.ttl_ms = number(given & KVQ_POLICY_TTL, policy->ttl_ms, &message->ttl_ms);
    return given ? &message->policy : NULL;
}

/* What an older daemon does not say is 0: exact levels, no times. */
struct kvq_policy kvq_policy_from_wire(const Kvq__Policy *wire) {
    struct kvq_policy policy = {.newest_level = KVQ_LEVEL_EXACT, .floor = KVQ_LEVEL_EXACT};
    if (!wire)
        return policy;
    if (wire->newest_tokens)
        policy.newest_tokens = wire->newest_tokens->value;
    if (wire->newest_level)
        policy.newest_level = wire->newest_level->level;
    if (wire->floor)
        policy.floor = wire->floor->level;
    if (wire->idle_step_ms)
        policy.idle_step_ms = wire->idle_step_ms->value;
    if (wire->ttl_ms)
        policy.ttl_ms = wire->ttl_ms->value;
    return policy;
}

static int finish_policy(struct kvq_client *client, const ProtobufCMessage *message) {
    struct kvq_policy *policy = client->call.request.result;
    if (policy)
        *policy = kvq_policy_from_wire(((const Kvq__PolicyReply *)message)->policy);
    return KVQ_OK;
}

int kvq_policy(struct kvq_client *client, const char *session,
               const struct kvq_policy_options *options, struct kvq_policy *policy) {
    int error = kvq_begin_call(client, 0);
    if (!error)
        error = kvq_check_name(client, "session's name", session, KVQ_SESSION_BYTES_MAX);
    if (error)
        return error;
    struct kvq_policy_message message;
    Kvq__PolicyRequest request = KVQ__POLICY_REQUEST__INIT;
    request.session = kvq_text(session);
    request.policy = kvq_policy_to_wire(options, &message);
    return kvq_request(client, WIRE_POLICY, true, &request.base, &kvq__policy_reply__descriptor,
                       finish_policy, policy);
}
