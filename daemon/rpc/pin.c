/* PIN: for so long the daemon does not remove the session on its own. */
#include "daemon/base/clock.h"
#include "daemon/rpc/messages.h"

#define LEASE_MS_MAX (UINT64_MAX / CLOCK_NS_PER_MS / 2)

static uint32_t begin(struct rpc_request *request, const uint8_t *control, size_t control_bytes) {
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
    request->pinned_ms = message->lease_ms;
    int status =
        policy_pin(request->context->daemon->store, name, message->lease_ms * CLOCK_NS_PER_MS);
    return status == STORE_OK ? WIRE_OK : rpc_fail_store(request, status, NULL);
}

static enum rpc_step step(struct rpc_request *request, struct rpc_frame *frame) {
    Kvq__PinReply reply = KVQ__PIN_REPLY__INIT;
    reply.pinned_ms = request->pinned_ms;
    return rpc_reply(request, frame, &reply.base);
}

const struct rpc_operation rpc_pin = {.name = "pin", .begin = begin, .step = step};
