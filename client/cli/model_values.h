/* K and V like a model's, out of a seed: in integers, so that they are the same on every machine.
 *
 * A value is mean[channel] + deviation[channel] * scale[token] * noise[channel, token]. Means (of
 * random sign), deviations and scales are log-normal; noise is a channel's own first-order
 * autoregression over tokens. The parameters of K and of V are near the medians over layers, pages
 * of 128 tokens and three texts of what SmolLM2-135M's caches show.
 */
#ifndef CLIENT_CLI_MODEL_VALUES_H
#define CLIENT_CLI_MODEL_VALUES_H

#include "client/c/kvq.h"

/* The above for people, in one paragraph. */
#define MODEL_VALUES_TEXT                                                                          \
    "The values are drawn: K and V are independent, and each value is its channel's mean plus "    \
    "the channel's deviation times the token's scale times noise. Means (of random sign; "         \
    "medians 0.33 for K and 0.25 for V, spread 1.9 and 1.25 octaves), deviations (median 1; "      \
    "0.55 and 0.3 octaves) and the scales of tokens, which all heads share (median 1; 0.15 "       \
    "and 0.28 octaves), are log-normal; so tails are heavier than Gaussian. A channel's noise "    \
    "follows its token before with a correlation of its own, from 0.1 to 0.8 for K and 0 to "      \
    "0.3 for V. That is near what SmolLM2-135M's caches show in pages of 128 tokens; other "       \
    "models differ, and no generator has what only a model's values have: `kvq import` a "         \
    "cache of yours."

/* Writes float16 [tokens, heads, head_dim]. False: no memory. */
bool model_values_fill(uint16_t *values, uint64_t tokens, uint32_t heads, uint32_t head_dim,
                       enum kvq_part part, uint64_t seed);

#endif
