/* The sessions that every contender stores and gives back: their shape and their values.
 *
 * Sessions of one model, each with K and V of all its tokens as float16, [layers, tokens, heads,
 * head_dim], K before V. Together they take more than a processor's caches hold.
 */
#ifndef TESTS_BENCH_WORKLOAD_H
#define TESTS_BENCH_WORKLOAD_H

#include "client/c/kvq.h"

#include <stdbool.h>

enum { WORKLOAD_SESSIONS_MAX = 64 };

struct workload {
    const char *shape; /* its name */
    struct kvq_geometry geometry;
    uint32_t tokens, sessions;
    size_t part_bytes;    /* of a session's K, or V */
    size_t session_bytes; /* of both */
    size_t page_bytes;    /* of 128 tokens of one layer's K, or V */
    char *source[WORKLOAD_SESSIONS_MAX];
    char *target[WORKLOAD_SESSIONS_MAX];
};

/* shape: "8x128" is 32 layers, 8 heads, 128 dims, 256 tokens (32 MiB); "3x64" is 30 layers, 3
 * heads, 64 dims, 1,024 tokens (22.5 MiB). Fails for others. */
void workload_init(struct workload *workload, const char *shape, uint32_t sessions);
void workload_deinit(struct workload *workload);

/* Before a fetch: no page of the targets is what was sent. */
void workload_spoil_targets(struct workload *workload);
/* After it: the targets are what was sent, or, lossy, their first tokens, which are exact at any
 * level. Fails and names the contender if not. */
void workload_verify(const struct workload *workload, bool exact, const char *contender);

#endif
