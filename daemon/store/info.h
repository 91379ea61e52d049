/* What a session takes and how true it is. */
#ifndef DAEMON_STORE_INFO_H
#define DAEMON_STORE_INFO_H

#include "daemon/store/store.h"

enum { INFO_LEVELS = USAGE_LEVELS };

struct info_count {
    uint64_t tokens, bytes;
};

struct session_info {
    uint64_t id;
    struct session_state state;
    uint64_t values, logical_bytes, stored_bytes;
    uint64_t unique_bytes; /* what others do not have, too */
    uint64_t disk_bytes; /* of chunks, attachments and entries, and of what is in memory as well */
    uint64_t chunks;
    uint64_t key_summaries_bytes; /* of stored_bytes */
    enum session_sharing sharing;
    uint64_t token_ids_tokens; /* that have ids: from the first on */
    struct info_attachments {
        uint64_t count, given_bytes, memory_bytes;
    } attachments;
    struct batch_sums batches;
    uint64_t age_ns, idle_ns, pinned_ns;
    int idle_steps;
    struct loss loss[GEOMETRY_PARTS];      /* of all that is, or once was, coded */
    struct info_count levels[INFO_LEVELS]; /* by level - PAGE_LEVEL_MIN, sinks left out */
    struct info_count sinks, tail;
    int tail_level;
    bool tail_coded;
};

/* STORE_OK, or STORE_MISS if it was deleted. */
int info_read(struct session *session, struct session_info *info)
    __attribute__((warn_unused_result));

/* What a range of a session's tokens takes: its share of what holds them, and the coarsest of their
 * levels. Of tokens that are gone nothing. */
struct info_range {
    int level;
    uint64_t bytes;
};
struct info_range info_range(struct session *session, uint64_t first, uint64_t end);

/* Sums over all sessions, at no cost. */
struct store_totals {
    uint64_t sessions, tokens, values;
    uint64_t logical_bytes; /* of the values as they came */
    uint64_t stored_bytes;  /* as each session says, what is shared with each */
    uint64_t unique_bytes;  /* what is shared once: the three that follow together */
    uint64_t sessions_bytes, pages_bytes, tails_bytes;
    uint64_t key_summaries_bytes; /* of pages_bytes */
    uint64_t disk_bytes;          /* of chunks, attachments and entries, what is shared once */
};

void info_totals(struct store *store, struct store_totals *totals);

/* Of a tenant's alone, without what indexes take. */
void info_totals_of(const struct tenant *tenant, struct store_totals *totals);

#endif
