/* What a session is at a moment, as far as it outlasts a restart. */
#ifndef DAEMON_STORE_SESSION_POINT_H
#define DAEMON_STORE_SESSION_POINT_H

#include <stdint.h>

/* Both only grow. */
struct session_point {
    uint64_t version;
    uint64_t changes; /* of what its version says nothing of: policy, pin, durability, blocks */
};

#endif
