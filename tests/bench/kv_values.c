#include "tests/bench/kv_values.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* Values are drawn from a table at random places: fast, and Gaussian enough for a coder. */
enum { TABLE = 1 << 16, CHANNELS_MAX = 1 << 14 };

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static float gaussian(uint64_t *state) {
    double u = (double)(next_random(state) >> 11) * 0x1p-53 + 0x1p-54;
    double v = (double)(next_random(state) >> 11) * 0x1p-53;
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

/* Cut, not rounded; what is below float16's normal numbers becomes 0. */
static uint16_t to_half(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 23 & 255) - 112;
    if (exponent <= 0)
        return 0;
    return (uint16_t)((bits >> 16 & 0x8000) | (unsigned)exponent << 10 | (bits >> 13 & 0x3ff));
}

static const float *table(void) {
    static float values[TABLE];
    static bool filled;
    uint64_t state = 88172645463325252u;
    for (size_t i = 0; !filled && i < TABLE; i++)
        values[i] = gaussian(&state);
    filled = true;
    return values;
}

void kv_values_fill(uint16_t *values, size_t tokens, size_t channels, float mean_scale,
                    uint64_t seed) {
    static float means[CHANNELS_MAX], deviations[CHANNELS_MAX];
    const float *normal = table();
    uint64_t state = seed * 2654435761u + 88172645463325252u;
    for (size_t c = 0; c < channels; c++) {
        means[c] = mean_scale * gaussian(&state);
        deviations[c] = expf(0.4f * gaussian(&state));
    }
    for (size_t t = 0; t < tokens; t++) {
        float size = expf(0.2f * gaussian(&state));
        for (size_t c = 0; c < channels; c++)
            values[t * channels + c] =
                to_half(means[c] + size * deviations[c] * normal[next_random(&state) % TABLE]);
    }
}
