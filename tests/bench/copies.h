/* The ceilings that need no socket: copies of the workload from memory to memory. */
#ifndef TESTS_BENCH_COPIES_H
#define TESTS_BENCH_COPIES_H

#include "tests/bench/workload.h"

/* Copies all sources to the targets with so many threads, for so many rounds, and prints lines of
 * kind "copy": "memcpy", and "streaming", a copy with non-temporal stores, where the processor has
 * them. */
void copies_measure(struct workload *workload, uint32_t threads, size_t rounds);

#endif
