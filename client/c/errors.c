/* Names and sentences of errors; the protocol's come from proto/wire. */
#include "proto/wire/errors.h"
#include "client/c/kvq.h"
#include "proto/page/page.h"
#include "proto/wire/frame.h"
#include "proto/wire/kvq.pb-c.h"

#include <assert.h>

static_assert((int)KVQ_PROTOCOL == (int)WIRE_PROTOCOL, "");
static_assert((int)KVQ_VERSION == (int)WIRE_VERSION, "");
static_assert((int)KVQ_TOO_LARGE == (int)WIRE_TOO_LARGE, "");
static_assert((int)KVQ_UNKNOWN_OPERATION == (int)WIRE_UNKNOWN_OPERATION, "");
static_assert((int)KVQ_BAD_CONTROL == (int)WIRE_BAD_CONTROL, "");
static_assert((int)KVQ_INVALID == (int)WIRE_INVALID, "");
static_assert((int)KVQ_MODEL_MISMATCH == (int)WIRE_MODEL_MISMATCH, "");
static_assert((int)KVQ_WRONG_FIRST == (int)WIRE_WRONG_FIRST, "");
static_assert((int)KVQ_TAIL_MOVED == (int)WIRE_TAIL_MOVED, "");
static_assert((int)KVQ_BUSY == (int)WIRE_BUSY, "");
static_assert((int)KVQ_FULL == (int)WIRE_FULL, "");
static_assert((int)KVQ_MISS == (int)WIRE_MISS, "");
static_assert((int)KVQ_VERSION_CHANGED == (int)WIRE_VERSION_CHANGED, "");
static_assert((int)KVQ_EXISTS == (int)WIRE_EXISTS, "");
static_assert((int)KVQ_CANCELLED == (int)WIRE_CANCELLED, "");
static_assert((int)KVQ_TOO_MANY_REQUESTS == (int)WIRE_TOO_MANY_REQUESTS, "");
static_assert((int)KVQ_SHUTTING_DOWN == (int)WIRE_SHUTTING_DOWN, "");
static_assert((int)KVQ_UNSUPPORTED == (int)WIRE_UNSUPPORTED, "");
static_assert((int)KVQ_INCOMPLETE == (int)WIRE_INCOMPLETE, "");
static_assert((int)KVQ_INTERNAL == (int)WIRE_INTERNAL, "");
static_assert((int)KVQ_READ_ONLY == (int)WIRE_READ_ONLY, "");
static_assert((int)KVQ_DISK == (int)WIRE_DISK, "");
static_assert((int)KVQ_UNAUTHENTICATED == (int)WIRE_UNAUTHENTICATED, "");
static_assert((int)KVQ_PERMISSION_DENIED == (int)WIRE_PERMISSION_DENIED, "");
static_assert((int)KVQ_QUOTA == (int)WIRE_QUOTA, "");
static_assert((int)WIRE_ERROR_COUNT <= (int)KVQ_NO_MEMORY, "local errors must not collide");

static_assert((int)KVQ_F16 == (int)PAGE_F16 && (int)KVQ_F16 == (int)KVQ__DTYPE__DTYPE_F16, "");
static_assert((int)KVQ_BF16 == (int)PAGE_BF16 && (int)KVQ_BF16 == (int)KVQ__DTYPE__DTYPE_BF16, "");
static_assert((int)KVQ_F32 == (int)PAGE_F32 && (int)KVQ_F32 == (int)KVQ__DTYPE__DTYPE_F32, "");
static_assert((int)KVQ_FP8_E4M3 == (int)PAGE_F8E4M3, "");
static_assert((int)KVQ_FP8_E4M3 == (int)KVQ__DTYPE__DTYPE_FP8_E4M3, "");
static_assert((int)KVQ_FP8_E5M2 == (int)PAGE_F8E5M2, "");
static_assert((int)KVQ_FP8_E5M2 == (int)KVQ__DTYPE__DTYPE_FP8_E5M2, "");
static_assert((int)KVQ_INT8 == (int)PAGE_I8, "");
static_assert((int)KVQ_INT8 == (int)KVQ__DTYPE__DTYPE_INT8, "");
static_assert((int)KVQ_K == (int)PAGE_K && (int)KVQ_V == (int)PAGE_V, "");
static_assert((int)KVQ_LEVEL_EXACT == (int)PAGE_EXACT, "");
static_assert((int)KVQ_LEVEL_FAST8 == (int)PAGE_FAST8, "");
static_assert((int)KVQ_LEVEL_COARSEST == (int)PAGE_LEVEL_MAX, "");
static_assert((int)KVQ_LEVELS == (int)PAGE_LEVEL_MAX - (int)PAGE_LEVEL_MIN + 1, "");
static_assert((int)KVQ_SESSION_BYTES_MAX == (int)WIRE_SESSION_BYTES_MAX, "");
static_assert((int)KVQ_MODEL_BYTES_MAX == (int)WIRE_MODEL_BYTES_MAX, "");
static_assert((int)KVQ_SNR_DB_MAX == (int)WIRE_SNR_DB_MAX, "");
static_assert((int)KVQ_OPEN_EXISTING == (int)KVQ__OPEN_MODE__OPEN_EXISTING, "");
static_assert((int)KVQ_OPEN_NEW == (int)KVQ__OPEN_MODE__OPEN_NEW, "");
static_assert((int)KVQ_PAIRING_INTERLEAVED == (int)KVQ__PAIRING__PAIRING_INTERLEAVED, "");
static_assert((int)KVQ_PAIRING_HALF == (int)KVQ__PAIRING__PAIRING_HALF, "");
static_assert((int)KVQ_STATE_NORMAL == (int)KVQ__STATE__STATE_NORMAL, "");
static_assert((int)KVQ_STATE_DRAINED == (int)KVQ__STATE__STATE_DRAINED, "");
static_assert((int)KVQ_STATE_READ_ONLY == (int)KVQ__STATE__STATE_READ_ONLY, "");
static_assert((int)KVQ_ROLE_ADMIN == (int)KVQ__ROLE__ROLE_ADMIN, "");
static_assert((int)KVQ_PLACE_TAIL == (int)KVQ__PLACE__PLACE_TAIL, "");
static_assert((int)KVQ_PLACE_SINKS == (int)KVQ__PLACE__PLACE_SINKS, "");

static const struct wire_error_info local_errors[] = {
    [0] = {"no_memory", false, "no memory"},
    [KVQ_ARGUMENT - KVQ_NO_MEMORY] = {"argument", false, "an argument has a value that cannot be"},
    [KVQ_CANNOT_CONNECT - KVQ_NO_MEMORY] = {"cannot_connect", true, "cannot connect to the daemon"},
    [KVQ_CONNECTION_LOST - KVQ_NO_MEMORY] = {"connection_lost", true, "the connection is gone"},
    [KVQ_DEADLINE - KVQ_NO_MEMORY] = {"deadline", true, "no answer in time"},
    [KVQ_DAEMON_PROTOCOL -
        KVQ_NO_MEMORY] = {"daemon_protocol", false, "the daemon broke the protocol"},
    [KVQ_AGAIN - KVQ_NO_MEMORY] = {"again", false, "the call goes on with kvq_step()"},
};

static const struct wire_error_info *find(int error) {
    static const struct wire_error_info unknown = {"unknown", false, "an error without a name"};
    const int local_count = sizeof local_errors / sizeof local_errors[0];
    if (error >= KVQ_NO_MEMORY && error < KVQ_NO_MEMORY + local_count)
        return &local_errors[error - KVQ_NO_MEMORY];
    if (error < 0 || error >= (int)WIRE_ERROR_COUNT)
        return &unknown;
    return wire_error_info((uint32_t)error);
}

const char *kvq_error_name(int error) {
    return find(error)->name;
}

const char *kvq_error_sentence(int error) {
    return find(error)->sentence;
}

bool kvq_error_retryable(int error) {
    return find(error)->retryable;
}

size_t kvq_dtype_bytes(enum kvq_dtype dtype) {
    switch (dtype) {
    case KVQ_F32:
        return 4;
    case KVQ_F16:
    case KVQ_BF16:
        return 2;
    case KVQ_FP8_E4M3:
    case KVQ_FP8_E5M2:
    case KVQ_INT8:
        return 1;
    case KVQ_DTYPE_UNSET:
        break;
    }
    return 0;
}

const char *kvq_version(void) {
    return KVQUANT_VERSION;
}
