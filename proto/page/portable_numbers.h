/* Floats and dtypes as the portable kernels need them, made for one dtype at a time. */
#ifndef PROTO_PAGE_PORTABLE_NUMBERS_H
#define PROTO_PAGE_PORTABLE_NUMBERS_H

#include "proto/page/convert.h"
#include "proto/page/portable.h"

static const float ROUND_SIGNED = 0x1.8p23f; /* adding it leaves an integer in the low bits */

/* The nearest integer, of at most 22 bits and a sign; of another number one that has more. */
SPECIALISED int32_t nearest(float x) {
    return (int32_t)(float_bits(x + ROUND_SIGNED) - float_bits(ROUND_SIGNED));
}

SPECIALISED float load(enum page_dtype dtype, const void *values, size_t i) {
    if (dtype == PAGE_F16)
        return half_to_float(((const unaligned_u16 *)values)[i]);
    if (dtype == PAGE_BF16)
        return bfloat_to_float(((const unaligned_u16 *)values)[i]);
    return ((const unaligned_float *)values)[i];
}

SPECIALISED void store(enum page_dtype dtype, float x, void *values, size_t i) {
    if (dtype == PAGE_F16)
        ((unaligned_u16 *)values)[i] = float_to_half(x);
    else if (dtype == PAGE_BF16)
        ((unaligned_u16 *)values)[i] = float_to_bfloat(x);
    else
        ((unaligned_float *)values)[i] = clamp(x, PAGE_F32_MAX);
}

/* Two values that stand side by side. */
SPECIALISED void store_pair(enum page_dtype dtype, float first, float second, void *pairs,
                            size_t i) {
    unaligned_u32 *words = pairs;
    if (dtype == PAGE_F16) {
        words[i] = half_bits(first) | half_bits(second) << 16;
    } else if (dtype == PAGE_BF16) {
        uint32_t upper = bfloat_bits(clamp(second, PAGE_BF16_MAX)) & 0xffff0000u;
        words[i] = bfloat_bits(clamp(first, PAGE_BF16_MAX)) >> 16 | upper;
    } else {
        store(dtype, first, pairs, 2 * i);
        store(dtype, second, pairs, 2 * i + 1);
    }
}

typedef float f32x4 __attribute__((vector_size(16)));

SPECIALISED f32x4 load4(const float *at) {
    f32x4 x;
    memcpy(&x, at, sizeof x);
    return x;
}

/* Squares of a row onto the lanes. */
SPECIALISED void add_squares(const float *row, size_t count, float *lanes) {
    f32x4 a = load4(lanes), b = load4(lanes + 4), c = load4(lanes + 8), d = load4(lanes + 12);
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        f32x4 x = load4(row + i), y = load4(row + i + 4);
        f32x4 z = load4(row + i + 8), w = load4(row + i + 12);
        a += x * x;
        b += y * y;
        c += z * z;
        d += w * w;
    }
    memcpy(lanes, &a, sizeof a);
    memcpy(lanes + 4, &b, sizeof b);
    memcpy(lanes + 8, &c, sizeof c);
    memcpy(lanes + 12, &d, sizeof d);
    for (size_t lane = 0; i < count; i++, lane++)
        lanes[lane] += row[i] * row[i];
}

#endif
