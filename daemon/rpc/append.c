/* APPEND: take a session's new tokens, part by part, and make them visible at COMMIT.
 *
 * The happy path: begin -> data for each run, layer and part -> commit -> step until all is coded
 * and visible -> reply. Possible failure modes are: the session is not where the client thinks
 * (refused at begin), a part that is none (refused), the memory limit (waits, then refused), the
 * session deleted meanwhile (a miss), the disk (of a session that wants to be there: then it
 * is in memory only), the client gone or cancelling (end drops everything).
 */
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/rpc/messages.h"

enum { BUFFERS_LEFT = 4 };
#define FULL_SAID_EVERY_NS (10 * CLOCK_NS_PER_S)

/* Several connections that send one append together. */
static uint32_t read_group(struct rpc_request *request, const Kvq__AppendRequest *message,
                           struct append_request *append) {
    bool grouped = message->group.len > 0;
    append->members = grouped ? message->group_connections : 1;
    if (!grouped && message->group_connections == 0)
        return WIRE_OK;
    if (message->group.len != APPEND_GROUP_BYTES || append->members == 0 ||
        append->members > APPEND_MEMBERS_MAX)
        return rpc_fail(request, WIRE_INVALID,
                        "a group is %d bytes, with group_connections from 1 to %d",
                        APPEND_GROUP_BYTES, APPEND_MEMBERS_MAX);
    memcpy(append->group, message->group.data, APPEND_GROUP_BYTES);
    return WIRE_OK;
}

static uint32_t read_salts(struct rpc_request *request, const Kvq__AppendRequest *message,
                           struct append_request *append) {
    struct messages_salts salts = {message->salts, message->n_salts, append->first, append->tokens};
    if (!append->token_ids && salts.count > 0)
        return rpc_fail(request, WIRE_INVALID, "salts go with token_ids");
    append->salt_count = salts.count;
    return messages_read_salts(request, &salts, &append->salts);
}

/* What an append may stage at a time: some buffers' worth of the quota stays for what those that
 * have begun are sent. */
static bool charge_in_flight(struct rpc_request *request, const struct append_request *append,
                             const struct session_state *state) {
    struct quota *quota = &request->peer->tenant->in_flight_bytes;
    uint64_t limit = atomic_load(&quota->limit), most = limit - BUFFERS_LEFT * RPC_BUFFER_BYTES;
    uint64_t tokens = append->tokens < state->page_tokens ? append->tokens : state->page_tokens;
    uint64_t bytes = tokens * geometry_token_bytes(&state->geometry);
    if (append->members > 1) { /* the others wait for it */
        charge_anyway(&request->append.in_flight, quota, bytes / append->members);
        return true;
    }
    return charge_take_within(&request->append.in_flight, quota, bytes < most ? bytes : most, most);
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct rpc_daemon *daemon = request->context->daemon;
    struct append_request append = {.runs_max = WIRE_APPEND_RUNS_MAX};
    struct session_state state = {0};
    const Kvq__AppendRequest *message =
        rpc_unpack(request, &kvq__append_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    uint32_t code = messages_read_name(request, &message->session, &append.session);
    if (code)
        return code;
    if (message->layout > KVQ__LAYOUT__LAYOUT_HEADS_TOKENS_DIM)
        return rpc_fail(request, WIRE_INVALID, "layout is none of Layout");
    append.first = message->first;
    append.tokens = message->tokens;
    append.tail_tokens = message->tail_tokens;
    append.heads_first = message->layout == KVQ__LAYOUT__LAYOUT_HEADS_TOKENS_DIM;
    append.settle = message->settle;
    append.token_ids = message->token_ids;
    if ((code = read_salts(request, message, &append)))
        return code;
    request->append = (struct rpc_append){
        .settle = message->settle,
        .wait_ns = rpc_memory_wait_ns(request, message->wait_ms),
    };
    if ((code = read_group(request, message, &append)))
        return code;
    append.join_ns = request->append.wait_ns;
    int status = append_begin(daemon->store, &append, &request->append.member, &state);
    if (status == STORE_UNSUPPORTED)
        return rpc_fail(request, WIRE_TOO_LARGE, "an append has at most %d runs",
                        WIRE_APPEND_RUNS_MAX);
    if (status != STORE_OK)
        return rpc_fail_store(request, status, &state);
    if (charge_in_flight(request, &append, &state))
        return WIRE_OK;
    append_end(request->append.member);
    return RPC_LATER;
}

void rpc_stop_waiting(struct rpc_request *request) {
    rpc_stop_awaiting(&request->append.waits_for);
}

/* Once in a while: the refusals themselves are counted in the statistics. */
static void say_full(struct rpc_daemon *daemon, uint64_t now) {
    uint64_t last = atomic_load(&daemon->full_said_ns);
    if ((last == 0 || now - last > FULL_SAID_EVERY_NS) &&
        atomic_compare_exchange_strong(&daemon->full_said_ns, &last, now))
        log_warning("the memory limit is reached and appends are refused");
}

static enum rpc_step wait_for_memory(struct rpc_request *request) {
    struct rpc_append *append = &request->append;
    uint64_t now = clock_now_ns();
    if (rpc_await_memory(request, &append->waits_for))
        append->deadline_ns = now + append->wait_ns;
    if (now < append->deadline_ns)
        return RPC_WAIT;
    if (rpc_fail_full(request) == WIRE_FULL)
        say_full(request->context->daemon, now);
    return RPC_FAILED;
}

enum rpc_step rpc_append_step(struct rpc_request *request, int status) {
    if (status == STORE_FULL)
        return wait_for_memory(request);
    rpc_stop_waiting(request);
    if (status == STORE_WAIT)
        return RPC_WAIT;
    if (status == STORE_OK || status == STORE_MORE)
        return RPC_MORE;
    if (status == STORE_UNSUPPORTED)
        rpc_fail(request, WIRE_TOO_LARGE,
                 "the append takes more than the memory limit leaves to sessions: send fewer "
                 "tokens at a time, or start kvquantd with more --memory");
    else
        rpc_fail_store(request, status, NULL);
    return RPC_FAILED;
}

struct append_part rpc_append_part(const struct wire_data *data, const void *payload,
                                   size_t payload_bytes) {
    return (struct append_part){.first = data->first,
                                .tokens = data->tokens,
                                .layer = data->layer,
                                .part = data->part == WIRE_PART_V ? PAGE_V : PAGE_K,
                                .values = payload,
                                .bytes = payload_bytes};
}

static int put(struct rpc_request *request, const struct wire_data *data, const void *payload,
               size_t payload_bytes) {
    struct append_member *member = request->append.member;
    if (data->part == WIRE_PART_TOKEN_IDS)
        return messages_are_ids(data, payload_bytes)
                   ? append_put_ids(member, data->first, payload, payload_bytes)
                   : STORE_INVALID;
    if (data->part > WIRE_PART_V)
        return STORE_INVALID;
    struct append_part part = rpc_append_part(data, payload, payload_bytes);
    return append_put(member, &part, request->context->workspace);
}

static enum rpc_step data(struct rpc_request *request, const struct wire_data *data,
                          const void *payload, size_t payload_bytes) {
    int status = put(request, data, payload, payload_bytes);
    if (status != STORE_INVALID)
        return rpc_append_step(request, status);
    rpc_stop_waiting(request);
    rpc_fail(request, WIRE_INVALID,
             "a DATA frame is not one run of one layer and part of this append, nor its next "
             "token ids");
    return RPC_FAILED;
}

static enum rpc_step reply(struct rpc_request *request, struct rpc_frame *frame) {
    Kvq__AppendReply message = KVQ__APPEND_REPLY__INIT;
    message.version = request->append.result.version;
    message.tokens = request->append.result.tokens;
    message.tail_tokens = request->append.result.tail_tokens;
    return rpc_reply(request, frame, &message.base);
}

static enum rpc_step step_commit(struct rpc_request *request) {
    struct rpc_append *append = &request->append;
    int status = append_commit(append->member, request->context->workspace, &append->result);
    if (status == STORE_OK) {
        append->phase = APPEND_SETTLING;
        request->irrevocable = true;
        rpc_changed(request);
    }
    return rpc_append_step(request, status);
}

/* The first step is taken at once: what the client sends behind COMMIT finds its effect, unless
 * other connections are waited for. */
static enum rpc_step commit(struct rpc_request *request) {
    request->append.phase = APPEND_COMMITTING;
    enum rpc_step status = step_commit(request);
    return status == RPC_WAIT && !request->append.waits_for ? RPC_MORE : status;
}

/* A durable session takes what others have before it is saved: then that is not written again. */
static bool is_settled(const struct rpc_append *append) {
    bool shares = append->result.durability == SESSION_ON_DISK && append_may_share(append->member);
    return !(append->settle || shares) || append_is_settled(append->member);
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct rpc_append *append = &request->append;
    if (append->phase == APPEND_RECEIVING)
        return RPC_WAIT;
    if (append->phase == APPEND_COMMITTING) {
        enum rpc_step status = step_commit(request);
        if (status != RPC_MORE || append->phase == APPEND_COMMITTING)
            return status;
    }
    if (append->phase == APPEND_SETTLING && !is_settled(append))
        return RPC_WAIT;
    append->phase = APPEND_SAVING;
    enum rpc_step status = rpc_save_step(request, append_session(append->member),
                                         (struct session_point){append->result.version, 0});
    return status == RPC_DONE ? reply(request, frame) : status;
}

static void end(struct rpc_request *request) {
    rpc_stop_waiting(request);
    append_end(request->append.member);
    charge_release(&request->append.in_flight);
}

const struct rpc_operation rpc_append = {.name = "append",
                                         .effect = RPC_ADDS,
                                         .begin = begin,
                                         .step = step,
                                         .data = data,
                                         .commit = commit,
                                         .end = end};
