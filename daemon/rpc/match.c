/* MATCH: which session begins with the most of these tokens.
 *
 * The happy path: begin -> data with token ids -> commit, which finds -> reply.
 */
#include "daemon/rpc/messages.h"

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct match_request match = {0};
    struct geometry geometry;
    uint32_t code;
    const Kvq__MatchRequest *message =
        rpc_unpack(request, &kvq__match_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    struct messages_salts salts = {message->salts, message->n_salts, 0, message->tokens};
    if ((code = messages_read_model(request, &message->model, &match.model)))
        return code;
    if (match.model.bytes == 0)
        return rpc_fail(request, WIRE_INVALID, "tokens are those of a model");
    if (message->tokens > WIRE_MATCH_TOKENS_MAX)
        return rpc_fail(request, WIRE_TOO_LARGE, "at most %d tokens are matched",
                        WIRE_MATCH_TOKENS_MAX);
    if (message->geometry) {
        if ((code = messages_read_geometry(request, message->geometry, &geometry)))
            return code;
        match.geometry = &geometry;
    }
    if ((code = messages_read_salts(request, &salts, &match.salts)))
        return code;
    match.salt_count = salts.count;
    match.tokens = message->tokens;
    int status = match_begin(request->context->daemon->store, &match, &request->match.match);
    return status == STORE_OK ? WIRE_OK : rpc_fail_store(request, status, NULL);
}

static enum rpc_step data(struct rpc_request *request, const struct wire_data *data,
                          const void *payload, size_t payload_bytes) {
    if (data->part == WIRE_PART_TOKEN_IDS && messages_are_ids(data, payload_bytes) &&
        match_put_ids(request->match.match, data->first, payload, payload_bytes) == STORE_OK)
        return RPC_MORE;
    rpc_fail(request, WIRE_INVALID, "a DATA frame is not the next token ids to be matched");
    return RPC_FAILED;
}

static enum rpc_step commit(struct rpc_request *request) {
    struct rpc_daemon *daemon = request->context->daemon;
    struct match_result *result = &request->match.result;
    int status = match_find(request->match.match, result);
    if (status != STORE_OK) {
        rpc_fail(request, WIRE_INCOMPLETE, "not all token ids came before COMMIT");
        return RPC_FAILED;
    }
    atomic_fetch_add(&daemon->match_hits, result->tokens > 0);
    atomic_fetch_add(&daemon->matched_tokens, result->tokens);
    return RPC_MORE;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct match_result *result = &request->match.result;
    Kvq__MatchReply reply = KVQ__MATCH_REPLY__INIT;
    if (result->tokens > 0) {
        reply.tokens = result->tokens;
        reply.session = (ProtobufCBinaryData){result->name_bytes, (uint8_t *)result->name};
        reply.version = result->state.version;
        reply.session_tokens = result->state.tokens;
        reply.level = result->state.policy.level;
    }
    return rpc_reply(request, frame, &reply.base);
}

static void end(struct rpc_request *request) {
    match_end(request->match.match);
}

const struct rpc_operation rpc_match = {
    .name = "match", .begin = begin, .step = step, .data = data, .commit = commit, .end = end};
