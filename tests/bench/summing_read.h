/* How fast one core reads memory: all of it added up, as fast as the processor knows how. */
#ifndef TESTS_BENCH_SUMMING_READ_H
#define TESTS_BENCH_SUMMING_READ_H

#include <stddef.h>
#include <stdint.h>

/* The sum of the memory's 64-bit numbers; it is 64-byte aligned, and bytes are a multiple of 512.
 * Lines are prefetched so many bytes ahead; 0: by the processor alone. */
uint64_t summing_read(const void *memory, size_t bytes, size_t ahead_bytes);

#endif
