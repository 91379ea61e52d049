/* What the benches share: sessions of drawn values, under names that begin with BENCH_PREFIX. */
#ifndef CLIENT_CLI_BENCH_H
#define CLIENT_CLI_BENCH_H

#include "client/cli/command.h"

#define BENCH_PREFIX "kvq-bench-"
#define BENCH_REMOVAL                                                                              \
    "All sessions it makes are deleted, also on Ctrl-C; should the machine end it, `kvq rm "       \
    "--prefix " BENCH_PREFIX "` does."

enum { BENCH_SEED = 1 };

/* float16 [layers, tokens, heads, head_dim]. Owns them; v NULL without V. */
struct bench_values {
    struct kvq_geometry geometry;
    uint64_t tokens;
    uint16_t *k, *v;
};

/* False: no memory; complained. */
bool bench_values_draw(struct bench_values *values, uint64_t seed);
void bench_values_free(struct bench_values *values);
uint64_t bench_values_bytes(const struct bench_values *values);

/* Makes a session of the values; returns when all is coded at the level. On failure there is none.
 * KVQ_CANCELLED after a signal. */
int bench_store(struct kvq_client *client, const struct bench_values *values, int level,
                struct kvq_session_state *state);

#endif
