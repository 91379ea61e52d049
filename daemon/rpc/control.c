/* CONTROL: what an operator changes of a daemon that runs: what it takes, and the memory limit. */
#include "daemon/base/log.h"
#include "daemon/rpc/messages.h"

static const char *const state_names[] = {
    [RPC_NORMAL] = "normal", [RPC_DRAINED] = "drained", [RPC_READ_ONLY] = "read-only"};

static void set_state(struct rpc_daemon *daemon, int state) {
    if (atomic_exchange(&daemon->state, state) != state)
        log_info("the daemon is %s", state_names[state]);
}

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct rpc_daemon *daemon = request->context->daemon;
    const Kvq__ControlRequest *message =
        rpc_unpack(request, &kvq__control_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    if (message->state > KVQ__STATE__STATE_READ_ONLY)
        return rpc_fail(request, WIRE_INVALID, "state is none of State");
    struct store_limits limits = store_limits(daemon->store);
    if (message->limit_bytes > 0 && store_set_limit(daemon->store, message->limit_bytes) < 0)
        return rpc_fail(request, WIRE_INVALID,
                        "without a restart the memory limit can be from %llu to %llu bytes",
                        (unsigned long long)limits.least_bytes,
                        (unsigned long long)limits.most_bytes);
    if (message->state != KVQ__STATE__STATE_UNSET)
        set_state(daemon, (int)message->state);
    request->irrevocable = true;
    return WIRE_OK;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    struct rpc_daemon *daemon = request->context->daemon;
    Kvq__ControlReply reply = KVQ__CONTROL_REPLY__INIT;
    reply.state = (Kvq__State)atomic_load(&daemon->state);
    reply.limit_bytes = atomic_load(&daemon->store->budget.limit_bytes);
    reply.used_bytes = store_used_bytes(daemon->store);
    return rpc_reply(request, frame, &reply.base);
}

const struct rpc_operation rpc_control = {.name = "control", .begin = begin, .step = step};
