#include "client/cli/model_values.h"

#include <stdlib.h>

/* Fixed-point numbers have 16 bits after the point. */
enum { POINT = 16, ONE = 1 << POINT };

struct parameters {
    int64_t mean_median, mean_octaves; /* octaves: the standard deviation of the logarithm to 2 */
    int64_t deviation_octaves, scale_octaves;
    int64_t correlation_min, correlation_max;
};

/* In 1/65536: 0.33, 1.9, 0.55, 0.15, 0.1 and 0.8; 0.25, 1.25, 0.3, 0.28, 0 and 0.3. */
static const struct parameters k_parameters = {21627, 124518, 36045, 9830, 6554, 52429};
static const struct parameters v_parameters = {16384, 81920, 19661, 18350, 0, 19661};

struct channel {
    int64_t mean, deviation, correlation, innovation, noise;
};

/* splitmix64 */
static uint64_t draw(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/* Twelve uniform numbers have variance 1, and their sum is nearly normal. */
static int64_t draw_normal(uint64_t *state) {
    int64_t sum = -6 * (int64_t)ONE;
    for (int i = 0; i < 3; i++) {
        uint64_t bits = draw(state);
        sum += (int64_t)((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) +
                         (bits >> 48));
    }
    return sum;
}

static int64_t multiply(int64_t a, int64_t b) {
    return (a * b) >> POINT;
}

/* 2^x for -15 < x < 15, by a cubic that is exact at whole numbers and within 0.02 % between. */
static int64_t power_of_2(int64_t x) {
    int64_t whole = x >> POINT, f = x & (ONE - 1);
    int64_t power = ONE + multiply(f, 45583 + multiply(f, 14771 + multiply(f, 5182)));
    return whole >= 0 ? power << whole : power >> -whole;
}

static int64_t draw_log_normal(uint64_t *state, int64_t octaves) {
    return power_of_2(multiply(octaves, draw_normal(state)));
}

static int64_t square_root(int64_t number) {
    int64_t root = 0;
    for (int64_t bit = ONE; bit > 0; bit >>= 1)
        if ((root + bit) * (root + bit) <= number)
            root += bit;
    return root;
}

static void draw_channel(struct channel *channel, const struct parameters *parameters,
                         uint64_t *state) {
    int64_t mean =
        multiply(parameters->mean_median, draw_log_normal(state, parameters->mean_octaves));
    uint64_t bits = draw(state);
    int64_t range = parameters->correlation_max - parameters->correlation_min;
    channel->mean = bits & 1 ? mean : -mean;
    channel->correlation =
        parameters->correlation_min + multiply(range, (int64_t)(bits >> (64 - POINT)));
    channel->innovation =
        square_root((int64_t)ONE * ONE - channel->correlation * channel->correlation);
    channel->deviation = draw_log_normal(state, parameters->deviation_octaves);
    channel->noise = draw_normal(state);
}

/* The nearest float16, of two the even one. The numbers here are far below its largest. */
static uint16_t float16_of(int64_t number) {
    enum { MANTISSA = 10, BIAS = 15 };
    uint64_t sign = number < 0 ? 0x8000 : 0;
    uint64_t magnitude = number < 0 ? (uint64_t)-number : (uint64_t)number;
    if (magnitude < 4) /* below 2^-14, in units of 2^-24 */
        return (uint16_t)(sign | magnitude << 8);
    int top = 63 - __builtin_clzll(magnitude), drop = top - MANTISSA;
    uint64_t mantissa = drop <= 0 ? magnitude << -drop : magnitude >> drop;
    if (drop > 0) {
        uint64_t rest = magnitude & ((1ULL << drop) - 1), half = 1ULL << (drop - 1);
        mantissa += rest > half || (rest == half && mantissa & 1);
    }
    /* A mantissa that was rounded up to the next power of 2 raises the exponent by the sum. */
    uint64_t exponent = (uint64_t)(top - POINT + BIAS - 1);
    return (uint16_t)(sign | ((exponent << MANTISSA) + mantissa));
}

bool model_values_fill(uint16_t *values, uint64_t tokens, uint32_t heads, uint32_t head_dim,
                       enum kvq_part part, uint64_t seed) {
    const struct parameters *parameters = part == KVQ_K ? &k_parameters : &v_parameters;
    size_t channel_count = (size_t)heads * head_dim;
    struct channel *channels = calloc(channel_count, sizeof *channels);
    if (!channels)
        return false;
    uint64_t state = seed;
    state = draw(&state) + (uint64_t)part;
    for (size_t c = 0; c < channel_count; c++)
        draw_channel(&channels[c], parameters, &state);
    for (uint64_t t = 0; t < tokens; t++) {
        int64_t scale = draw_log_normal(&state, parameters->scale_octaves);
        for (size_t c = 0; c < channel_count; c++) {
            struct channel *channel = &channels[c];
            channel->noise = multiply(channel->correlation, channel->noise) +
                             multiply(channel->innovation, draw_normal(&state));
            int64_t spread = multiply(channel->deviation, scale);
            *values++ = float16_of(channel->mean + multiply(spread, channel->noise));
        }
    }
    free(channels);
    return true;
}
