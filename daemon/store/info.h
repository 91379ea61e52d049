/* What a session takes and how true it is. */
#ifndef DAEMON_STORE_INFO_H
#define DAEMON_STORE_INFO_H

#include "daemon/store/store.h"

enum { INFO_LEVELS = PAGE_LEVEL_MAX - PAGE_LEVEL_MIN + 1 };

struct info_count {
    uint64_t tokens, bytes;
};

struct session_info {
    uint64_t id;
    struct session_state state;
    uint64_t values, logical_bytes, stored_bytes;
    struct loss loss[GEOMETRY_PARTS];      /* of coded pages; the tail is exact and not counted */
    struct info_count levels[INFO_LEVELS]; /* by level - PAGE_LEVEL_MIN, sinks left out */
    struct info_count sinks, tail;
};

/* STORE_OK, or STORE_MISS if it was deleted. */
int info_read(struct session *session, struct session_info *info)
    __attribute__((warn_unused_result));

/* Sums over all sessions. */
struct store_totals {
    uint64_t sessions, tokens, values, stored_bytes;
};

void info_totals(struct store *store, struct store_totals *totals);

#endif
