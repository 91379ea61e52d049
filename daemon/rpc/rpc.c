#include "daemon/rpc/rpc.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "proto/wire/kvq.pb-c.h"

static const struct rpc_operation *const operations[RPC_TYPES] = {
    [WIRE_HELLO] = &rpc_hello,
    [WIRE_PING] = &rpc_ping,
    [WIRE_OPEN] = &rpc_open,
    [WIRE_APPEND] = &rpc_append,
    [WIRE_FETCH] = &rpc_fetch,
    [WIRE_INFO] = &rpc_info,
    [WIRE_LIST] = &rpc_list,
    [WIRE_DELETE] = &rpc_delete,
    [WIRE_STATS] = &rpc_stats,
    [WIRE_FORK] = &rpc_fork,
    [WIRE_TRUNCATE] = &rpc_truncate,
    [WIRE_AGE] = &rpc_age,
    [WIRE_PIN] = &rpc_pin,
    [WIRE_DELETE_MANY] = &rpc_delete_many,
    [WIRE_POLICY] = &rpc_policy,
    [WIRE_MATCH] = &rpc_match,
    [WIRE_ATTACH_PUT] = &rpc_attach_put,
    [WIRE_ATTACH_GET] = &rpc_attach_get,
    [WIRE_ATTACH_LIST] = &rpc_attach_list,
    [WIRE_ATTACH_DELETE] = &rpc_attach_delete,
    [WIRE_BLOCK_PUT] = &rpc_block_put,
    [WIRE_BLOCK_GET] = &rpc_block_get,
    [WIRE_BLOCK_CONTROL] = &rpc_block_control,
    [WIRE_CONTROL] = &rpc_control,
    [WIRE_FLUSH] = &rpc_flush,
    [WIRE_INDEX_PUT] = &rpc_index_put,
    [WIRE_INDEX_DELETE] = &rpc_index_delete,
    [WIRE_RECALL] = &rpc_recall,
    [WIRE_RECALL_KEYS] = &rpc_recall_keys,
    [WIRE_DUMP] = &rpc_dump,
    [WIRE_RESTORE] = &rpc_restore,
};

const struct rpc_operation *rpc_find(uint8_t type) {
    return type < RPC_TYPES ? operations[type] : NULL;
}

bool rpc_allows(const struct rpc_daemon *daemon, enum rpc_effect effect) {
    int state = atomic_load(&daemon->state);
    return effect == RPC_READS || state == RPC_NORMAL ||
           (state == RPC_DRAINED && effect != RPC_ADDS);
}

/* A token beside a certificate takes away from what that may do: nothing is left where it is
 * another tenant's. */
static struct identity narrowed(const struct identity *side, struct identity identity) {
    if (strcmp(identity.tenant, side->tenant) != 0)
        identity.role = ROLE_NONE;
    else if (identity.role > side->role)
        identity.role = side->role;
    return identity;
}

static struct identity identity_of(struct rpc_daemon *daemon, const struct rpc_peer *peer) {
    if (!peer->has_token)
        return peer->side;
    struct identity identity = credentials_of_token(daemon->credentials, &peer->token);
    return peer->certificate ? narrowed(&peer->side, identity) : identity;
}

void rpc_identify(struct rpc_daemon *daemon, struct rpc_peer *peer) {
    struct tenants *tenants = &daemon->store->tenants;
    struct identity identity = identity_of(daemon, peer);
    peer->tenant = identity.role == ROLE_NONE
                       ? NULL
                       : tenants_find(tenants, identity.tenant, strlen(identity.tenant));
    peer->role = peer->tenant ? identity.role : ROLE_NONE;
}

bool rpc_identify_again(struct rpc_daemon *daemon, struct rpc_peer *peer) {
    struct identity identity = identity_of(daemon, peer);
    if (identity.role == ROLE_NONE || strcmp(identity.tenant, peer->tenant->name) != 0)
        return false;
    peer->role = identity.role;
    return true;
}

uint32_t rpc_fail(struct rpc_request *request, uint32_t code, const char *format, ...) {
    struct rpc_fault *fault = &request->fault;
    fault->code = code;
    if (!format) {
        snprintf(fault->message, sizeof fault->message, "%s", wire_error_info(code)->sentence);
        return code;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fault->message, sizeof fault->message, format, arguments);
    va_end(arguments);
    return code;
}

static uint32_t wire_code(int store_error) {
    switch (store_error) {
    case STORE_MISS:
        return WIRE_MISS;
    case STORE_BUSY:
        return WIRE_BUSY;
    case STORE_EXISTS:
        return WIRE_EXISTS;
    case STORE_WRONG_FIRST:
        return WIRE_WRONG_FIRST;
    case STORE_TAIL_MOVED:
        return WIRE_TAIL_MOVED;
    case STORE_MODEL_MISMATCH:
        return WIRE_MODEL_MISMATCH;
    case STORE_VERSION_CHANGED:
        return WIRE_VERSION_CHANGED;
    case STORE_UNSUPPORTED:
        return WIRE_UNSUPPORTED;
    case STORE_INVALID:
        return WIRE_INVALID;
    case STORE_INCOMPLETE:
        return WIRE_INCOMPLETE;
    case STORE_CANCELLED:
        return WIRE_CANCELLED;
    case STORE_DISK:
        return WIRE_DISK;
    default:
        return WIRE_INTERNAL;
    }
}

uint32_t rpc_fail_full(struct rpc_request *request) {
    struct tenant *tenant = request->peer->tenant;
    if (budget_short_of(&tenant->memory) != &tenant->memory)
        return rpc_fail(request, WIRE_FULL, NULL);
    return rpc_fail(request, WIRE_QUOTA,
                    "the tenant %s has all the memory that its quota allows, %llu MiB: delete "
                    "sessions of it, or have the quota raised",
                    tenant->name,
                    (unsigned long long)atomic_load(&tenant->memory.limit_bytes) >> 20);
}

static uint32_t fail_sessions(struct rpc_request *request) {
    const struct tenant *tenant = request->peer->tenant;
    return rpc_fail(request, WIRE_QUOTA,
                    "the tenant %s has as many sessions as its quota allows, %llu: delete some, "
                    "or have the quota raised",
                    tenant->name, (unsigned long long)atomic_load(&tenant->session_count.limit));
}

bool rpc_await_memory(const struct rpc_request *request, struct budget **waits_for) {
    struct budget *short_of = budget_short_of(&request->peer->tenant->memory);
    bool is_new = !*waits_for;
    if (*waits_for == short_of)
        return false;
    rpc_stop_awaiting(waits_for);
    *waits_for = short_of;
    budget_wait_begin(short_of);
    keeper_poke(&request->context->daemon->store->keeper);
    return is_new;
}

void rpc_stop_awaiting(struct budget **waits_for) {
    if (*waits_for)
        budget_wait_end(*waits_for);
    *waits_for = NULL;
}

uint32_t rpc_fail_store(struct rpc_request *request, int store_error,
                        const struct session_state *state) {
    if (store_error == STORE_TOO_MANY)
        return fail_sessions(request);
    if (store_error == STORE_FULL) {
        keeper_poke(&request->context->daemon->store->keeper);
        return rpc_fail_full(request);
    }
    if (state) {
        request->fault.tokens = state->tokens;
        request->fault.tail_tokens = state->tail_tokens;
    }
    if (store_error == STORE_WRONG_FIRST && state && state->lost_tokens > 0)
        return rpc_fail(request, WIRE_WRONG_FIRST,
                        "of the session's %llu tokens the first %llu are left; append from there",
                        (unsigned long long)state->tokens + state->lost_tokens,
                        (unsigned long long)state->tokens);
    if (store_error == STORE_WRONG_FIRST && state)
        return rpc_fail(request, WIRE_WRONG_FIRST, "the session has %llu tokens; append from there",
                        (unsigned long long)state->tokens);
    return rpc_fail(request, wire_code(store_error), NULL);
}

uint32_t rpc_fail_name(struct rpc_request *request) {
    return rpc_fail(request, WIRE_BUSY,
                    "the session that had this name could not be deleted on disk: try again");
}

uint64_t rpc_memory_wait_ns(const struct rpc_request *request, uint64_t wait_ms) {
    return (wait_ms ? wait_ms : request->context->daemon->append_wait_ms) * CLOCK_NS_PER_MS;
}

void rpc_changed(const struct rpc_request *request) {
    const struct rpc_daemon *daemon = request->context->daemon;
    if (daemon->on_change)
        daemon->on_change(daemon->change_context);
}

/* What was freed is told to the keeper: others may be coarser now. */
static void end_discard(struct rpc_request *request) {
    struct rpc_discard *discard = &request->discard;
    discard->freed_bytes = discard->discard->freed_bytes;
    session_discard_free(discard->discard);
    discard->discard = NULL;
    keeper_poke(&request->context->daemon->store->keeper);
}

enum rpc_step rpc_discard_step(struct rpc_request *request) {
    struct session_discard *discard = request->discard.discard;
    if (!discard)
        return RPC_DONE;
    if (session_discard_step(discard))
        return RPC_MORE;
    int status = STORE_OK;
    if (discard->deleted_on_disk)
        status = disk_promise_status(discard->deleted_on_disk);
    if (status == STORE_WAIT)
        return RPC_WAIT;
    end_discard(request);
    if (status == STORE_OK)
        return RPC_DONE;
    rpc_fail_store(request, status, NULL);
    return RPC_FAILED;
}

struct session_point rpc_point_of(struct session *session) {
    pthread_mutex_lock(session->lock);
    struct session_point point = session_point(session);
    pthread_mutex_unlock(session->lock);
    return point;
}

enum rpc_step rpc_save_step(struct rpc_request *request, struct session *session,
                            struct session_point point) {
    pthread_mutex_lock(session->lock);
    bool owed = saving_is_owed(session);
    pthread_mutex_unlock(session->lock);
    int status = owed ? saving_step(request->context->daemon->store, session, point) : STORE_OK;
    if (status == STORE_WAIT)
        return RPC_WAIT;
    if (status == STORE_OK)
        return RPC_DONE;
    rpc_fail_store(request, status, NULL);
    return RPC_FAILED;
}

bool rpc_can_begin(const struct rpc_daemon *daemon, uint8_t type) {
    bool looks_none_up = type == WIRE_HELLO || type == WIRE_PING || type == WIRE_STATS;
    return looks_none_up || !store_is_recovering(daemon->store);
}

void rpc_discard_end(struct rpc_request *request) {
    struct session_discard *discard = request->discard.discard;
    if (discard)
        keeper_discard(&request->context->daemon->store->keeper, &discard->discard);
    request->discard.discard = NULL;
}

void *rpc_unpack(struct rpc_request *request, const ProtobufCMessageDescriptor *descriptor,
                 const uint8_t *control, size_t control_bytes) {
    struct wire_arena *arena = &request->context->arena;
    wire_arena_reset(arena);
    void *message =
        protobuf_c_message_unpack(descriptor, &arena->allocator, control_bytes, control);
    if (!message)
        rpc_fail(request, WIRE_BAD_CONTROL, NULL);
    return message;
}

static void write_control(uint8_t type, uint32_t request_id, const ProtobufCMessage *message,
                          struct rpc_frame *frame) {
    uint8_t *start = frame->buffer + RPC_FRAME_START;
    size_t control_bytes = protobuf_c_message_pack(message, start + WIRE_HEADER_BYTES);
    wire_header_write(start, &(struct wire_header){.type = type,
                                                   .request_id = request_id,
                                                   .control_bytes = (uint32_t)control_bytes});
    frame->bytes = WIRE_HEADER_BYTES + control_bytes;
}

enum rpc_step rpc_reply(const struct rpc_request *request, struct rpc_frame *frame,
                        const ProtobufCMessage *message) {
    write_control(WIRE_REPLY, request->id, message, frame);
    return RPC_DONE;
}

void rpc_write_fault(uint32_t request_id, const struct rpc_fault *fault, struct rpc_frame *frame) {
    Kvq__ErrorReply reply = KVQ__ERROR_REPLY__INIT;
    reply.code = fault->code;
    reply.retryable = wire_error_info(fault->code)->retryable;
    reply.message = (char *)fault->message;
    reply.tokens = fault->tokens;
    reply.tail_tokens = fault->tail_tokens;
    write_control(WIRE_ERROR, request_id, &reply.base, frame);
}

void *rpc_payload(const struct rpc_frame *frame) {
    return frame->buffer + RPC_FRAME_START + WIRE_HEADER_BYTES + WIRE_DATA_BYTES;
}

void rpc_write_data(const struct rpc_request *request, struct rpc_frame *frame,
                    const struct wire_data *data, size_t payload_bytes) {
    uint8_t *start = frame->buffer + RPC_FRAME_START;
    wire_header_write(start, &(struct wire_header){.type = WIRE_DATA,
                                                   .request_id = request->id,
                                                   .control_bytes = WIRE_DATA_BYTES,
                                                   .payload_bytes = (uint32_t)payload_bytes});
    wire_data_write(start + WIRE_HEADER_BYTES, data);
    frame->bytes = WIRE_HEADER_BYTES + WIRE_DATA_BYTES + payload_bytes;
}
