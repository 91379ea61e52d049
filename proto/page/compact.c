#include "proto/page/compact.h"
#include "proto/page/convert.h"

/* ---- 8-bit floats ---- */

/* An 8-bit float's digits: `mantissa` bits, exponents from `least` on, finite up to `most`. */
struct small_float {
    int mantissa, least;
    float most;
};

static const struct small_float e4m3 = {3, -6, 448.0f}, e5m2 = {2, -14, 57344.0f};

static float e4m3_to_float(uint8_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x80) << 24, magnitude = bits & 0x7fu;
    float x = bits_float(magnitude << 20) * 0x1p120f;
    return bits_float(sign | (magnitude == 0x7f ? 0x7fc00000u : float_bits(x)));
}

static float e5m2_to_float(uint8_t bits) {
    return half_to_float((uint16_t)(bits << 8));
}

static float power_of_two(int exponent) {
    return bits_float((uint32_t)(exponent + 127) << 23);
}

/* To an integer, ties to even, for magnitudes below 2^22. */
static int round_to_integer(float x) {
    return (int32_t)(float_bits(x + 0x1.8p23f) - float_bits(0x1.8p23f));
}

static uint8_t float_to_small(struct small_float to, float x) {
    uint32_t sign = float_bits(x) >> 24 & 0x80;
    float magnitude = clamp(bits_float(float_bits(x) & 0x7fffffffu), to.most);
    int exponent = (int)(float_bits(magnitude) >> 23) - 127;
    exponent = exponent > to.least ? exponent : to.least;
    int digits = round_to_integer(magnitude * power_of_two(to.mantissa - exponent));
    return (uint8_t)(sign | (uint32_t)(((exponent - to.least) << to.mantissa) + digits));
}

/* ---- blocks ---- */

static float half_at(const uint8_t *at) {
    return half_to_float(*(const unaligned_u16 *)at);
}

static void put_half(uint8_t *at, float x) {
    *(unaligned_u16 *)at = float_to_half(x);
}

static void load_q8_0(const uint8_t *block, float *numbers) {
    float d = half_at(block);
    for (int i = 0; i < BLOCK_VALUES; i++)
        numbers[i] = d * (float)(int8_t)block[2 + i];
}

static void load_q4_0(const uint8_t *block, float *numbers) {
    float d = half_at(block);
    for (int i = 0; i < BLOCK_VALUES / 2; i++) {
        numbers[i] = d * (float)((block[2 + i] & 15) - 8);
        numbers[i + BLOCK_VALUES / 2] = d * (float)((block[2 + i] >> 4) - 8);
    }
}

/* The number of the largest magnitude. */
static float farthest(const float *numbers) {
    float most = 0;
    for (int i = 0; i < BLOCK_VALUES; i++)
        if (numbers[i] * numbers[i] > most * most)
            most = numbers[i];
    return most;
}

static int within(int x, int least, int most) {
    return x < least ? least : x > most ? most : x;
}

static void store_q8_0(const float *numbers, uint8_t *block) {
    float most = farthest(numbers), d = (most < 0 ? -most : most) / 127;
    float inverse = d > 0x1p-120f ? 1 / d : 0;
    put_half(block, d);
    for (int i = 0; i < BLOCK_VALUES; i++)
        block[2 + i] = (uint8_t)within(round_to_integer(numbers[i] * inverse), -127, 127);
}

static void store_q4_0(const float *numbers, uint8_t *block) {
    float most = farthest(numbers), d = most / -8;
    float inverse = d > 0x1p-120f || d < -0x1p-120f ? 1 / d : 0;
    put_half(block, d);
    for (int i = 0; i < BLOCK_VALUES / 2; i++) {
        int low = within(round_to_integer(numbers[i] * inverse) + 8, 0, 15);
        int high = within(round_to_integer(numbers[i + BLOCK_VALUES / 2] * inverse) + 8, 0, 15);
        block[2 + i] = (uint8_t)(low | high << 4);
    }
}

/* ---- rows ---- */

void page_compact_load(enum page_dtype dtype, const void *values, size_t count, float *numbers) {
    const uint8_t *in = values;
    if (page_block_values(dtype) == BLOCK_VALUES) {
        for (size_t i = 0; i < count; i += BLOCK_VALUES) {
            if (dtype == PAGE_Q8_0)
                load_q8_0(in + i / BLOCK_VALUES * Q8_0_BLOCK_BYTES, numbers + i);
            else
                load_q4_0(in + i / BLOCK_VALUES * Q4_0_BLOCK_BYTES, numbers + i);
        }
        return;
    }
    for (size_t i = 0; i < count; i++)
        numbers[i] = dtype == PAGE_F8E4M3   ? e4m3_to_float(in[i])
                     : dtype == PAGE_F8E5M2 ? e5m2_to_float(in[i])
                                            : (float)(int8_t)in[i];
}

void page_compact_store(enum page_dtype dtype, const float *numbers, size_t count, void *values) {
    uint8_t *out = values;
    if (page_block_values(dtype) == BLOCK_VALUES) {
        for (size_t i = 0; i < count; i += BLOCK_VALUES) {
            if (dtype == PAGE_Q8_0)
                store_q8_0(numbers + i, out + i / BLOCK_VALUES * Q8_0_BLOCK_BYTES);
            else
                store_q4_0(numbers + i, out + i / BLOCK_VALUES * Q4_0_BLOCK_BYTES);
        }
        return;
    }
    for (size_t i = 0; i < count; i++)
        out[i] = dtype == PAGE_I8
                     ? (uint8_t)within(round_to_integer(clamp(numbers[i], 1000)), -128, 127)
                     : float_to_small(dtype == PAGE_F8E4M3 ? e4m3 : e5m2, numbers[i]);
}
