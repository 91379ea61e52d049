/* The contest: rounds in which each contender takes and gives back the whole workload, in turn.
 *
 * The sessions are split among the connections, each with a thread of its own in this one process.
 * A round is: append by every contender, then fetch by every contender, so that each sample has the
 * others' as neighbours in time. A sample is the time from the threads' common start until the last
 * is done. The first round is a rehearsal: its times are told apart, because fresh memory is slow
 * in it.
 */
#ifndef TESTS_BENCH_ROUNDS_H
#define TESTS_BENCH_ROUNDS_H

#include "tests/bench/contender.h"

enum { ROUNDS_MAX = 100, CONTENDERS_MAX = 16, CONNECTIONS_MAX = WORKLOAD_SESSIONS_MAX };

struct rounds_result {
    size_t count;
    double first_append_seconds, first_fetch_seconds; /* of the rehearsal */
    double append_seconds[ROUNDS_MAX], fetch_seconds[ROUNDS_MAX];
    struct contender_memory memory; /* what the workload added to it, at the end of the rehearsal */
};

/* results: one a contender, all zero, or of an earlier call for the same, whose samples are added
 * to: then the rehearsal is not told again. At most ROUNDS_MAX rounds together. */
void rounds_run(struct workload *workload, const struct contender *contenders, size_t count,
                uint32_t connections, size_t rounds, struct rounds_result *results);

/* Prints two lines of kind "throughput" for a contender: append and fetch. transport: "unix" or
 * "tcp". */
void rounds_print(const struct workload *workload, const struct contender *contender,
                  const char *transport, uint32_t connections, const struct rounds_result *result);

#endif
