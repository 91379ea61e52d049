/* What is done to whole sessions: fork, truncate, age, pin, delete in bulk. */
#include "client/c/client.h"

#include <stdio.h>
#include <string.h>

static int begin(struct kvq_client *client, const char *session, int64_t deadline_ms) {
    int error = kvq_begin_call(client, deadline_ms);
    return error ? error : kvq_check_name(client, "session's name", session, KVQ_SESSION_BYTES_MAX);
}

static int finish_fork(struct kvq_client *client, const ProtobufCMessage *message) {
    const Kvq__ForkReply *reply = (const Kvq__ForkReply *)message;
    struct kvq_session_state *made = &client->call.request.state;
    if (reply->tail_tokens >= made->page_tokens)
        return kvq_impossible(client, "a tail");
    made->version = reply->version;
    made->tokens = reply->tokens;
    made->tail_tokens = reply->tail_tokens;
    made->created = true;
    struct kvq_session_state *forked = client->call.request.result;
    if (forked)
        *forked = *made;
    return KVQ_OK;
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
    struct kvq_session_state *made = &client->call.request.state;
    *made = *state;
    snprintf(made->session, sizeof made->session, "%s", known.target);
    Kvq__ForkRequest request = KVQ__FORK_REQUEST__INIT;
    request.session = kvq_text(state->session);
    request.target = kvq_text(known.target);
    request.tokens = known.tokens;
    request.if_version = known.if_version;
    return kvq_request(client, WIRE_FORK, false, &request.base, &kvq__fork_reply__descriptor,
                       finish_fork, forked);
}

static int finish_truncate(struct kvq_client *client, const ProtobufCMessage *message) {
    const Kvq__TruncateReply *reply = (const Kvq__TruncateReply *)message;
    struct kvq_session_state *state = client->call.request.result;
    if (reply->tail_tokens >= state->page_tokens)
        return kvq_impossible(client, "a tail");
    state->version = reply->version;
    state->tokens = reply->tokens;
    state->tail_tokens = reply->tail_tokens;
    return KVQ_OK;
}

int kvq_truncate(struct kvq_client *client, struct kvq_session_state *state, uint64_t tokens) {
    int error = begin(client, state->session, 0);
    if (error)
        return error;
    Kvq__TruncateRequest request = KVQ__TRUNCATE_REQUEST__INIT;
    request.session = kvq_text(state->session);
    request.tokens = tokens;
    return kvq_request(client, WIRE_TRUNCATE, false, &request.base,
                       &kvq__truncate_reply__descriptor, finish_truncate, state);
}

static int finish_age(struct kvq_client *client, const ProtobufCMessage *message) {
    const Kvq__AgeReply *reply = (const Kvq__AgeReply *)message;
    struct kvq_aged *aged = client->call.request.result;
    if (aged)
        *aged = (struct kvq_aged){reply->level, reply->stored_bytes_before, reply->stored_bytes};
    return KVQ_OK;
}

int kvq_age_of(struct kvq_client *client, const char *tenant, const char *session, int level,
               bool settle, struct kvq_aged *aged) {
    int error = begin(client, session, 0);
    if (error)
        return error;
    if (strlen(tenant) > KVQ_TENANT_BYTES_MAX)
        return kvq_fail(client, KVQ_ARGUMENT, "a tenant's name is at most %d bytes",
                        KVQ_TENANT_BYTES_MAX);
    Kvq__AgeRequest request = KVQ__AGE_REQUEST__INIT;
    request.tenant = (char *)tenant;
    request.session = kvq_text(session);
    request.level = level;
    request.settle = settle;
    return kvq_request(client, WIRE_AGE, true, &request.base, &kvq__age_reply__descriptor,
                       finish_age, aged);
}

int kvq_age(struct kvq_client *client, const char *session, int level, bool settle,
            struct kvq_aged *aged) {
    return kvq_age_of(client, "", session, level, settle, aged);
}

int kvq_pin(struct kvq_client *client, const char *session, uint64_t lease_ms) {
    int error = begin(client, session, 0);
    if (error)
        return error;
    Kvq__PinRequest request = KVQ__PIN_REQUEST__INIT;
    request.session = kvq_text(session);
    request.lease_ms = lease_ms;
    return kvq_request(client, WIRE_PIN, true, &request.base, &kvq__pin_reply__descriptor, NULL,
                       NULL);
}

static int finish_flush(struct kvq_client *client, const ProtobufCMessage *message) {
    uint64_t *sessions = client->call.request.result;
    if (sessions)
        *sessions = ((const Kvq__FlushReply *)message)->sessions;
    return KVQ_OK;
}

int kvq_flush(struct kvq_client *client, const char *session, uint64_t *sessions) {
    int error = session ? begin(client, session, 0) : kvq_begin_call(client, 0);
    if (error)
        return error;
    Kvq__FlushRequest request = KVQ__FLUSH_REQUEST__INIT;
    request.session = kvq_text(session);
    return kvq_request(client, WIRE_FLUSH, true, &request.base, &kvq__flush_reply__descriptor,
                       finish_flush, sessions);
}

static int finish_delete_many(struct kvq_client *client, const ProtobufCMessage *message) {
    const Kvq__DeleteManyReply *reply = (const Kvq__DeleteManyReply *)message;
    struct kvq_deleted *deleted = client->call.request.result;
    if (deleted)
        *deleted = (struct kvq_deleted){reply->sessions, reply->freed_bytes};
    return KVQ_OK;
}

int kvq_delete_many(struct kvq_client *client, const struct kvq_delete_many_options *options,
                    struct kvq_deleted *deleted) {
    struct kvq_delete_many_options known;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = kvq_begin_call(client, known.deadline_ms);
    if (error)
        return error;
    Kvq__DeleteManyRequest request = KVQ__DELETE_MANY_REQUEST__INIT;
    request.prefix = kvq_text(known.prefix);
    request.model = kvq_text(known.model);
    request.idle_ms = known.idle_ms;
    request.age_ms = known.age_ms;
    request.pinned_too = known.pinned_too;
    request.dry_run = known.dry_run;
    if (request.prefix.len > KVQ_SESSION_BYTES_MAX || request.model.len > KVQ_MODEL_BYTES_MAX)
        return kvq_fail(client, KVQ_ARGUMENT, "a prefix or model has more than 255 bytes");
    return kvq_request(client, WIRE_DELETE_MANY, known.dry_run, &request.base,
                       &kvq__delete_many_reply__descriptor, finish_delete_many, deleted);
}
