#include "tests/bench/summing_read.h"

enum { LINE_BYTES = 64, BLOCK_LINES = 8 };

typedef uint64_t line __attribute__((vector_size(LINE_BYTES)));

/* Compiled for each instruction set; the loader picks. Within this file alone: clang 14 names the
 * pick as no other file does. */
#ifdef __x86_64__
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

FOR_EACH_PROCESSOR
static uint64_t sum_of(const void *memory, size_t bytes, size_t ahead_bytes) {
    const line *at = memory, *end = at + bytes / LINE_BYTES;
    line sums[BLOCK_LINES] = {0};
    for (; at < end; at += BLOCK_LINES) {
        for (size_t i = 0; ahead_bytes > 0 && i < BLOCK_LINES; i++)
            __builtin_prefetch((const char *)(at + i) + ahead_bytes);
        for (size_t i = 0; i < BLOCK_LINES; i++)
            sums[i] += at[i];
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < BLOCK_LINES; i++)
        for (size_t lane = 0; lane < LINE_BYTES / sizeof(uint64_t); lane++)
            sum += sums[i][lane];
    return sum;
}

uint64_t summing_read(const void *memory, size_t bytes, size_t ahead_bytes) {
    return sum_of(memory, bytes, ahead_bytes);
}
