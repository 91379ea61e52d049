/* What libFuzzer, or replay.c in its place, and a target call each other by. */
#ifndef TESTS_FUZZ_FUZZER_H
#define TESTS_FUZZ_FUZZER_H

#include <stddef.h>
#include <stdint.h>

/* The target's. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);
/* The target's, where it knows better than to change any byte; else nobody's. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t length, size_t length_max, unsigned seed)
    __attribute__((weak));

size_t LLVMFuzzerMutate(uint8_t *bytes, size_t length, size_t length_max);

#endif
