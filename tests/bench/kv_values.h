/* Values as a model's K and V have them: Gaussian, with a mean and a deviation for each channel and
 * a size for each token. */
#ifndef TESTS_BENCH_KV_VALUES_H
#define TESTS_BENCH_KV_VALUES_H

#include <stddef.h>
#include <stdint.h>

/* Fills one layer's [tokens, channels] with float16; mean_scale is the deviation of the means. The
 * same seed gives the same values. For one thread at a time. */
void kv_values_fill(uint16_t *values, size_t tokens, size_t channels, float mean_scale,
                    uint64_t seed);

#endif
