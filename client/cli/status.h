/* The daemon's statistics as JSON, and as a page for the person on call. */
#ifndef CLIENT_CLI_STATUS_H
#define CLIENT_CLI_STATUS_H

#include "client/c/kvq.h"

/* Of bytes, of all sessions, to what is stored; NaN of an empty store. */
double stats_ratio(const struct kvq_stats *stats, uint64_t bytes);

/* Fetches answered in full, of all; NaN before the first. */
double stats_hit_share(const struct kvq_stats *stats);

/* What used_bytes has beside the parts that are told singly. */
uint64_t stats_buffers_bytes(const struct kvq_stats *stats);

void print_stats_json(const struct kvq_stats *stats);
void print_stats_page(const struct kvq_stats *stats);

#endif
