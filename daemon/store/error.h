/* What a call into the store can come to. */
#ifndef DAEMON_STORE_ERROR_H
#define DAEMON_STORE_ERROR_H

enum store_error {
    STORE_OK = 0,
    STORE_MORE,     /* call again: there is more to do */
    STORE_WAIT,     /* call again: others have to do something before */
    STORE_FULL,     /* the memory limit; nothing was done, the call may be repeated */
    STORE_TOO_MANY, /* the tenant's quota of sessions */
    STORE_MISS,
    STORE_BUSY,
    STORE_EXISTS,
    STORE_WRONG_FIRST,
    STORE_TAIL_MOVED,
    STORE_MODEL_MISMATCH,
    STORE_VERSION_CHANGED,
    STORE_UNSUPPORTED,
    STORE_INVALID,
    STORE_INCOMPLETE,
    STORE_CANCELLED,
    STORE_DISK, /* the disk failed or is full */
    STORE_INTERNAL,
};

#endif
