/* PIN: for so long the daemon does not remove the session on its own; on disk before the reply if
 * the session wants to be there. */
#include "daemon/base/clock.h"
#include "daemon/rpc/messages.h"

#define LEASE_MS_MAX (UINT64_MAX / CLOCK_NS_PER_MS / 2)

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
    struct rpc_keeping *keeping = &request->keeping;
    struct store *store = request->context->daemon->store;
    struct store_name name;
    const Kvq__PinRequest *message =
        rpc_unpack(request, &kvq__pin_request__descriptor, control, control_bytes);
    if (!message)
        return request->fault.code;
    uint32_t code = messages_read_name(request, &message->session, &name);
    if (code)
        return code;
    if (message->lease_ms > LEASE_MS_MAX)
        return rpc_fail(request, WIRE_INVALID, "a lease is at most %llu ms",
                        (unsigned long long)LEASE_MS_MAX);
    *keeping =
        (struct rpc_keeping){.session = store_find(store, name), .pinned_ms = message->lease_ms};
    if (!keeping->session)
        return rpc_fail(request, WIRE_MISS, NULL);
    int status = policy_pin(store, keeping->session, message->lease_ms * CLOCK_NS_PER_MS);
    if (status != STORE_OK) {
        session_unref(keeping->session);
        return rpc_fail_store(request, status, NULL);
    }
    keeping->point = rpc_point_of(keeping->session);
    request->irrevocable = true;
    return WIRE_OK;
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    const struct rpc_keeping *keeping = &request->keeping;
    Kvq__PinReply reply = KVQ__PIN_REPLY__INIT;
    enum rpc_step status = rpc_save_step(request, keeping->session, keeping->point);
    reply.pinned_ms = keeping->pinned_ms;
    return status == RPC_DONE ? rpc_reply(request, frame, &reply.base) : status;
}

static void end(struct rpc_request *request) {
    session_unref(request->keeping.session);
}

const struct rpc_operation rpc_pin = {.name = "pin", .begin = begin, .step = step, .end = end};
