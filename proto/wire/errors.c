#include "proto/wire/errors.h"

static const struct wire_error_info errors[WIRE_ERROR_COUNT] = {
    [WIRE_OK] = {"ok", false, "done"},
    [WIRE_PROTOCOL] = {"protocol", false, "the bytes received are not this protocol"},
    [WIRE_VERSION] = {"version", false, "client and daemon share no protocol version"},
    [WIRE_TOO_LARGE] = {"too_large", false, "a length or count is above the daemon's limit"},
    [WIRE_UNKNOWN_OPERATION] = {"unknown_operation", false, "the daemon knows no such operation"},
    [WIRE_BAD_CONTROL] = {"bad_control", false, "the control message does not decode"},
    [WIRE_INVALID] = {"invalid", false, "a field has a value that cannot be"},
    [WIRE_MODEL_MISMATCH] = {"model_mismatch", false, "the session belongs to another model"},
    [WIRE_WRONG_FIRST] = {"wrong_first", false, "an append must start at the session's length"},
    [WIRE_TAIL_MOVED] = {"tail_moved", true, "the session's tail has changed; cut the append anew"},
    [WIRE_BUSY] = {"busy", true, "another append to this session is under way"},
    [WIRE_FULL] = {"full", true, "the daemon's memory limit is reached"},
    [WIRE_MISS] = {"miss", false, "no such session or token range"},
    [WIRE_VERSION_CHANGED] = {"version_changed", false, "the session has changed since"},
    [WIRE_EXISTS] = {"exists", false, "a session of this name exists"},
    [WIRE_CANCELLED] = {"cancelled", false, "the request was cancelled"},
    [WIRE_TOO_MANY_REQUESTS] = {"too_many_requests", true, "too many requests are in flight"},
    [WIRE_SHUTTING_DOWN] = {"shutting_down", true, "the daemon is shutting down"},
    [WIRE_UNSUPPORTED] = {"unsupported", false, "the store cannot hold or give this"},
    [WIRE_INCOMPLETE] = {"incomplete", false, "the append was committed before all parts came"},
    [WIRE_INTERNAL] = {"internal", false, "the daemon failed"},
    [WIRE_READ_ONLY] = {"read_only", true, "the daemon is drained or read-only and takes no more"},
    [WIRE_DISK] = {"disk", false, "the disk failed or is full: it is done, but in memory only"},
    [WIRE_UNAUTHENTICATED] = {"unauthenticated", false,
                              "the daemon does not know whose client this is"},
    [WIRE_PERMISSION_DENIED] = {"permission_denied", false,
                                "the client's role does not allow this"},
    [WIRE_QUOTA] = {"quota", true, "a quota of the tenant's is used up"},
};

const struct wire_error_info *wire_error_info(uint32_t code) {
    return &errors[code < WIRE_ERROR_COUNT ? code : WIRE_INTERNAL];
}
