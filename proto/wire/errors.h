/* Error numbers of the protocol: stable, each with a name, a retryable flag and a sentence. */
#ifndef PROTO_WIRE_ERRORS_H
#define PROTO_WIRE_ERRORS_H

#include <stdbool.h>
#include <stdint.h>

enum wire_error {
    WIRE_OK = 0,
    WIRE_PROTOCOL = 1,  /* the bytes are not this protocol; the connection is closed */
    WIRE_VERSION = 2,   /* no common protocol version; the connection is closed */
    WIRE_TOO_LARGE = 3, /* a length or count above the limits of hello */
    WIRE_UNKNOWN_OPERATION = 4,
    WIRE_BAD_CONTROL = 5,      /* the control message does not decode */
    WIRE_INVALID = 6,          /* a field's value cannot be */
    WIRE_MODEL_MISMATCH = 7,   /* the session belongs to another model or geometry */
    WIRE_WRONG_FIRST = 8,      /* the append does not start at the session's length */
    WIRE_TAIL_MOVED = 9,       /* the tail is not what the append was cut for */
    WIRE_BUSY = 10,            /* somebody else is appending to the session */
    WIRE_FULL = 11,            /* the memory limit is reached */
    WIRE_MISS = 12,            /* no such session, range or attachment, or it went away */
    WIRE_VERSION_CHANGED = 13, /* if_version does not hold */
    WIRE_EXISTS = 14,          /* a session of this name exists */
    WIRE_CANCELLED = 15,
    WIRE_TOO_MANY_REQUESTS = 16, /* more in flight than hello allows */
    WIRE_SHUTTING_DOWN = 17,
    WIRE_UNSUPPORTED = 18, /* well-formed, but not something this store can hold */
    WIRE_INCOMPLETE = 19,  /* an append committed before all its parts came */
    WIRE_INTERNAL = 20,
    WIRE_READ_ONLY = 21, /* drained or read-only; another daemon may take it */
    WIRE_DISK = 22,      /* the disk failed or is full; what was sent is in memory only */
    WIRE_UNAUTHENTICATED =
        23, /* no credential that stands for a tenant; the connection is closed */
    WIRE_PERMISSION_DENIED = 24, /* another role is needed */
    WIRE_QUOTA = 25,             /* a quota of the tenant's is used up */
    WIRE_ERROR_COUNT
};

struct wire_error_info {
    const char *name;
    bool retryable;
    const char *sentence;
};

/* The row of code; that of WIRE_INTERNAL for a number that is none. */
const struct wire_error_info *wire_error_info(uint32_t code);

#endif
