/* What is done to whole sessions: fork, truncate, age, pin, delete in bulk. */
#include "client/c/client.h"

#include <stdio.h>
#include <string.h>

static ProtobufCBinaryData text(const char *string) {
    size_t bytes = string ? strlen(string) : 0;
    return (ProtobufCBinaryData){.len = bytes, .data = bytes ? (uint8_t *)string : NULL};
}

static int begin(struct kvq_client *client, const char *session, int64_t deadline_ms) {
    int error = kvq_begin_call(client, deadline_ms);
    return error ? error : kvq_check_name(client, "session's name", session, KVQ_SESSION_BYTES_MAX);
}

static int impossible_tail(struct kvq_client *client) {
    return kvq_break(client, KVQ_DAEMON_PROTOCOL,
                     "%s reports a tail that cannot be; the connection is closed", client->address);
}

int kvq_fork(struct kvq_client *client, const struct kvq_session_state *state,
             const struct kvq_fork_options *options, struct kvq_session_state *forked) {
    struct kvq_fork_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = begin(client, state->session, known.deadline_ms);
    if (!error)
        error = kvq_check_name(client, "fork's name", known.target, KVQ_SESSION_BYTES_MAX);
    if (error)
        return error;
    Kvq__ForkRequest request = KVQ__FORK_REQUEST__INIT;
    request.session = text(state->session);
    request.target = text(known.target);
    request.tokens = known.tokens;
    request.if_version = known.if_version;
    const Kvq__ForkReply *reply;
    error = kvq_request(client, WIRE_FORK, &request.base, &kvq__fork_reply__descriptor,
                        (ProtobufCMessage **)&reply);
    if (error)
        return error;
    if (reply->tail_tokens >= state->page_tokens)
        return impossible_tail(client);
    if (!forked)
        return KVQ_OK;
    struct kvq_session_state made = *state;
    snprintf(made.session, sizeof made.session, "%s", known.target);
    made.version = reply->version;
    made.tokens = reply->tokens;
    made.tail_tokens = reply->tail_tokens;
    made.created = true;
    *forked = made;
    return KVQ_OK;
}

int kvq_truncate(struct kvq_client *client, struct kvq_session_state *state, uint64_t tokens) {
    int error = begin(client, state->session, 0);
    if (error)
        return error;
    Kvq__TruncateRequest request = KVQ__TRUNCATE_REQUEST__INIT;
    request.session = text(state->session);
    request.tokens = tokens;
    const Kvq__TruncateReply *reply;
    error = kvq_request(client, WIRE_TRUNCATE, &request.base, &kvq__truncate_reply__descriptor,
                        (ProtobufCMessage **)&reply);
    if (error)
        return error;
    if (reply->tail_tokens >= state->page_tokens)
        return impossible_tail(client);
    state->version = reply->version;
    state->tokens = reply->tokens;
    state->tail_tokens = reply->tail_tokens;
    return KVQ_OK;
}

int kvq_age(struct kvq_client *client, const char *session, int level, bool settle,
            struct kvq_aged *aged) {
    int error = begin(client, session, 0);
    if (error)
        return error;
    Kvq__AgeRequest request = KVQ__AGE_REQUEST__INIT;
    request.session = text(session);
    request.level = level;
    request.settle = settle;
    const Kvq__AgeReply *reply;
    error = kvq_request(client, WIRE_AGE, &request.base, &kvq__age_reply__descriptor,
                        (ProtobufCMessage **)&reply);
    if (!error && aged)
        *aged = (struct kvq_aged){reply->level, reply->stored_bytes_before, reply->stored_bytes};
    return error;
}

int kvq_pin(struct kvq_client *client, const char *session, uint64_t lease_ms) {
    int error = begin(client, session, 0);
    if (error)
        return error;
    Kvq__PinRequest request = KVQ__PIN_REQUEST__INIT;
    request.session = text(session);
    request.lease_ms = lease_ms;
    ProtobufCMessage *reply;
    return kvq_request(client, WIRE_PIN, &request.base, &kvq__pin_reply__descriptor, &reply);
}

int kvq_delete_many(struct kvq_client *client, const struct kvq_delete_many_options *options,
                    struct kvq_deleted *deleted) {
    struct kvq_delete_many_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = kvq_begin_call(client, known.deadline_ms);
    if (error)
        return error;
    Kvq__DeleteManyRequest request = KVQ__DELETE_MANY_REQUEST__INIT;
    request.prefix = text(known.prefix);
    request.model = text(known.model);
    request.idle_ms = known.idle_ms;
    request.age_ms = known.age_ms;
    request.pinned_too = known.pinned_too;
    request.dry_run = known.dry_run;
    if (request.prefix.len > KVQ_SESSION_BYTES_MAX || request.model.len > KVQ_MODEL_BYTES_MAX)
        return kvq_fail(client, KVQ_ARGUMENT, "a prefix or model has more than 255 bytes");
    const Kvq__DeleteManyReply *reply;
    error = kvq_request(client, WIRE_DELETE_MANY, &request.base,
                        &kvq__delete_many_reply__descriptor, (ProtobufCMessage **)&reply);
    if (!error && deleted)
        *deleted = (struct kvq_deleted){reply->sessions, reply->freed_bytes};
    return error;
}
