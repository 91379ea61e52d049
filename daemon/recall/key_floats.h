/* What of the kernels is done in floats, without a branch, so that compilers make vectors of its
 * loops: each table compiles it for its own target, and no operation is fused with another. */
#ifndef DAEMON_RECALL_KEY_FLOATS_H
#define DAEMON_RECALL_KEY_FLOATS_H

#include <stdbool.h>
#include <string.h>

#include "daemon/recall/key_kernels.h"

static inline float key_fold(const float lanes[KEY_LANES]) {
    float eight[8], four[4];
    for (int i = 0; i < 8; i++)
        eight[i] = lanes[i] + lanes[i + 8];
    for (int i = 0; i < 4; i++)
        four[i] = eight[i] + eight[i + 4];
    return (four[0] + four[2]) + (four[1] + four[3]);
}

/* e^x of x from 0 down: 2^whole * 2^part, part from -1/2 to 1/2 by its series. Off by no more than
 * 2^-21, and by |x| * 2^-23, of it. */
static inline float key_exponential(float x) {
    const float shift = 0x1.8p23F, least = -126;
    float scaled = x * 0x1.715476p0F;
    float kept = scaled > least ? scaled : least;
    float whole = kept + shift;
    float part = kept - (whole - shift);
    float power = 0x1.43089ep-13F * part + 0x1.5d87fep-10F;
    power = power * part + 0x1.3b2ab6p-7F;
    power = power * part + 0x1.c6b08ep-5F;
    power = power * part + 0x1.ebfbep-3F;
    power = power * part + 0x1.62e43p-1F;
    power = power * part + 1.0F;
    uint32_t bits, exponent;
    memcpy(&exponent, &whole, sizeof exponent);
    memcpy(&bits, &power, sizeof bits);
    bits += exponent << 23;
    bits &= -(uint32_t)(scaled > least);
    memcpy(&power, &bits, sizeof power);
    return power;
}

static inline float key_exponentials(const float *x, size_t count, float largest) {
    float lanes[KEY_LANES] = {0};
    size_t i = 0;
    for (; i + KEY_LANES <= count; i += KEY_LANES)
        for (size_t lane = 0; lane < KEY_LANES; lane++)
            lanes[lane] += key_exponential(x[i + lane] - largest);
    for (; i < count; i++)
        lanes[i % KEY_LANES] += key_exponential(x[i] - largest);
    return key_fold(lanes);
}

/* Of floats that are not negative integers order as they do. */
static inline float key_multiply(struct key_weighing *weighing) {
    float *restrict products = weighing->products;
    const float *restrict query = weighing->query;
    int32_t largest = 0;
    for (size_t c = 0; c < weighing->channels; c++) {
        int32_t magnitude;
        products[c] = query[c] * (float)weighing->steps[c];
        memcpy(&magnitude, &products[c], sizeof magnitude);
        magnitude &= 0x7fffffff;
        largest = magnitude > largest ? magnitude : largest;
    }
    float value;
    memcpy(&value, &largest, sizeof value);
    return value;
}

/* Adding leaves the nearest integer in the low bits. */
static inline int32_t key_round(const float *restrict products, size_t count, float scale,
                                int8_t *restrict weights) {
    const float shift = 0x1.8p23F;
    int32_t sum = 0, zero;
    memcpy(&zero, &shift, sizeof zero);
    for (size_t c = 0; c < count; c++) {
        float shifted = products[c] * scale + shift;
        int32_t weight;
        memcpy(&weight, &shifted, sizeof weight);
        weight -= zero;
        weights[c] = (int8_t)weight;
        sum += weight;
    }
    return sum;
}

static inline float key_dot(const float *restrict query, const int8_t *restrict centres,
                            size_t count) {
    float lanes[KEY_LANES] = {0};
    for (size_t c = 0; c < count; c += KEY_LANES)
        for (size_t lane = 0; lane < KEY_LANES; lane++)
            lanes[lane] += query[c + lane] * (float)centres[c + lane];
    return key_fold(lanes);
}

static inline void key_weigh(struct key_weighing *weighing) {
    const float most = 127, least = 0x1p-100F;
    float largest = key_multiply(weighing);
    bool any = largest > least;
    weighing->unit = any ? largest / most : 0;
    weighing->sum = key_round(weighing->products, weighing->channels, any ? most / largest : 0,
                              weighing->weights);
    weighing->centre = key_dot(weighing->query, weighing->centres, weighing->channels);
}

#endif
