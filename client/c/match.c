/* Finding the session that begins with the most of some tokens. */
#include "client/c/client.h"

#include <stdio.h>
#include <string.h>

enum { PREPARE, SEND, RECEIVE };

static int queue(struct kvq_client *client) {
    struct kvq_match_call *match = &client->call.match;
    struct kvq_connection *connection = client->connections[0];
    Kvq__MatchRequest message = KVQ__MATCH_REQUEST__INIT;
    Kvq__Geometry geometry;
    Kvq__Rope rope;
    message.model = kvq_text(match->model);
    message.tokens = match->tokens;
    message.salts = match->salts;
    message.n_salts = match->salt_count;
    if (match->has_geometry) {
        kvq_geometry_to_wire(&match->geometry, &geometry, &rope);
        message.geometry = &geometry;
    }
    match->request_id = kvq_new_request_id(client);
    int error = kvq_queue_with_ids(client, connection,
                                   &(struct kvq_ids_request){.type = WIRE_MATCH,
                                                             .request_id = match->request_id,
                                                             .message = &message.base,
                                                             .ids = match->ids,
                                                             .count = match->tokens});
    if (!error)
        kvq_queue_control(connection, WIRE_COMMIT, match->request_id, NULL, 0);
    return error;
}

static int take(struct kvq_client *client, const Kvq__MatchReply *reply) {
    const struct kvq_match_call *call = &client->call.match;
    if (reply->tokens > call->tokens || reply->session.len > KVQ_SESSION_BYTES_MAX)
        return kvq_impossible(client, "a match");
    if (reply->tokens == 0)
        return kvq_fail(client, KVQ_MISS, "no session begins with these tokens");
    struct kvq_match *match = call->result;
    *match = (struct kvq_match){.tokens = reply->tokens,
                                .version = reply->version,
                                .session_tokens = reply->session_tokens,
                                .level = reply->level};
    memcpy(match->session, reply->session.data, reply->session.len);
    return KVQ_OK;
}

static int take_answer(struct kvq_client *client) {
    ProtobufCMessage *reply;
    int error = kvq_receive_answer(client, client->connections[0], client->call.match.request_id,
                                   &kvq__match_reply__descriptor, &reply);
    return error ? error : take(client, (const Kvq__MatchReply *)reply);
}

static int step(struct kvq_client *client) {
    struct kvq_call *call = &client->call;
    int error = KVQ_OK;
    if (call->stage == PREPARE) {
        error = kvq_connection_ready(client, client->connections[0]);
        if (!error)
            error = queue(client);
        call->stage = error ? PREPARE : SEND;
    }
    if (!error && call->stage == SEND) {
        error = kvq_send_with_data(client, client->connections[0], call->match.request_id);
        call->stage = error ? SEND : RECEIVE;
    }
    return error ? error : take_answer(client);
}

static void leave(struct kvq_client *client) {
    kvq_leave(client->connections[0], client->call.match.request_id);
}

int kvq_match(struct kvq_client *client, const struct kvq_match_options *options,
              struct kvq_match *match) {
    struct kvq_match_options known;
    struct kvq_match_call *call = &client->call.match;
    kvq_copy_options(&known, sizeof known, options, options->size);
    int error = kvq_begin_call(client, known.deadline_ms);
    if (!error)
        error = kvq_check_name(client, "model's fingerprint", known.model, KVQ_MODEL_BYTES_MAX);
    if (error)
        return error;
    if (known.tokens > KVQ_MATCH_TOKENS_MAX || (known.tokens > 0 && !known.token_ids))
        return kvq_fail(client, KVQ_ARGUMENT, "at most %d tokens are matched",
                        KVQ_MATCH_TOKENS_MAX);
    *call = (struct kvq_match_call){.ids = known.token_ids,
                                    .tokens = known.tokens,
                                    .salt_count = known.salt_count,
                                    .result = match};
    snprintf(call->model, sizeof call->model, "%s", known.model);
    if (known.geometry) {
        call->has_geometry = true;
        call->geometry = *known.geometry;
    }
    error = kvq_salts_to_wire(client, known.salts, known.salt_count, &call->salts);
    if (error)
        return error;
    client->call.safe = true;
    client->call.stage = PREPARE;
    return kvq_run_call(client, step, leave);
}
