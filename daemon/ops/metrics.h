/* The daemon's metrics: what STATS says, and histograms of time, quality and what coding took.
 *
 * Labels take few values that are known beforehand; nothing a client names is among them. Tenants
 * are, so many of them, where whoever asks may know of them.
 */
#ifndef DAEMON_OPS_METRICS_H
#define DAEMON_OPS_METRICS_H

#include "daemon/ops/exposition.h"
#include "daemon/server/reactor.h"
#include "daemon/server/tls_context.h"

/* Where they come from. */
struct metrics_sources {
    struct rpc_daemon *rpc;
    const struct reactor *reactors;
    size_t reactor_count;
    struct lease_pool *leases;
    const struct tls_context *tls;
    bool tells_names; /* of tenants and sessions */
};

/* Writes all of them. From any thread. */
void metrics_write(const struct metrics_sources *sources, struct exposition *exposition);

/* The name of a level, as metrics and the status page have it. */
const char *metrics_level_name(int level);

#endif
