/* What the status page shows, as JSON. */
#ifndef DAEMON_OPS_STATUS_JSON_H
#define DAEMON_OPS_STATUS_JSON_H

#include "daemon/ops/metrics.h"
#include "daemon/ops/session_table.h"
#include "daemon/ops/timeline.h"

struct status_sources {
    struct metrics_sources metrics;
    struct timeline *timeline;
    struct session_table *table;
};

/* The text, to be freed, with the history's samples after that number; NULL without memory. */
char *status_json(const struct status_sources *sources, uint64_t after)
    __attribute__((warn_unused_result));

#endif
