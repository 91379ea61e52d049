/* Numbers of 16 and 32 bits to float and back, element by element.
 *
 * Free of branches, so that a loop over them vectorises. The lossy direction (float_to_*) rounds to
 * nearest even and saturates at the largest finite value; ieee_* keeps infinities and NaNs.
 */
#ifndef PROTO_PAGE_CONVERT_H
#define PROTO_PAGE_CONVERT_H

#include "proto/page/page.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PAGE_F16_MAX 65504.0f
#define PAGE_BF16_MAX 0x1.fep127f
#define PAGE_F32_MAX 0x1.fffffep127f

/* Payload comes in at any alignment. */
typedef uint16_t __attribute__((aligned(1), may_alias)) unaligned_u16;
typedef uint32_t __attribute__((aligned(1), may_alias)) unaligned_u32;
typedef float __attribute__((aligned(1), may_alias)) unaligned_float;

static inline uint32_t float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float bits_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float clamp(float x, float limit) {
    x = x < limit ? x : limit;
    return x > -limit ? x : -limit;
}

/* Finite halves only: infinities and NaNs come out as numbers of 65536 and more. */
static inline float finite_half_to_float(uint16_t half) {
    uint32_t bits = (uint32_t)((int32_t)((uint32_t)half << 16) >> 3) & 0x8fffe000u;
    return bits_float(bits) * 0x1p112f;
}

static inline float half_to_float(uint16_t half) {
    uint32_t bits = float_bits(finite_half_to_float(half));
    uint32_t special = (bits & 0x7fffffffu) >= 0x47800000u ? 0x7f800000u : 0;
    return bits_float(bits | special);
}

static inline float bfloat_to_float(uint16_t bfloat) {
    return bits_float((uint32_t)bfloat << 16);
}

/* The power of two at or below |x|, but not below the smallest normal half. Compared as integers:
 * compilers make a branch of floats. */
static inline float half_power(float x) {
    int32_t power = (int32_t)(float_bits(x) & 0x7f800000u), least = 0x38800000;
    return bits_float((uint32_t)(power > least ? power : least));
}

/* What is no number becomes the largest, as what is too large does. In 32 bits, where compilers
 * keep vectors of it. `magic` is one and a half times a power of two, so large that adding it
 * leaves no more digits than a half has (or the fixed point of its subnormals). */
static inline uint32_t half_bits(float x) {
    uint32_t sign = float_bits(x) & 0x80000000u;
    int32_t integer = (int32_t)(float_bits(x) ^ sign), most = 0x477fe000;
    float magnitude = bits_float((uint32_t)(integer < most ? integer : most));
    uint32_t power = float_bits(half_power(magnitude)), magic = power + 0x06c00000u;
    uint32_t mantissa = float_bits(magnitude + bits_float(magic)) - magic;
    return sign >> 16 | (mantissa + (power >> 13) - (0x38800000u >> 13));
}

static inline uint16_t float_to_half(float x) {
    return (uint16_t)half_bits(x);
}

static inline uint32_t bfloat_bits(float x) {
    uint32_t bits = float_bits(x);
    return bits + 0x7fffu + (bits >> 16 & 1);
}

static inline float round_to_bfloat(float x) {
    return bits_float(bfloat_bits(x) & 0xffff0000u);
}

static inline uint16_t float_to_bfloat(float x) {
    return (uint16_t)(bfloat_bits(clamp(x, PAGE_BF16_MAX)) >> 16);
}

/* Copies `count` values, converting as IEEE 754 does: infinities stay, overflow becomes infinity,
 * NaNs stay NaNs (bit for bit where the dtypes are the same). Not to a compact dtype from another.
 */
void page_convert_row(enum page_dtype from, const void *source, enum page_dtype to, void *target,
                      size_t count);

#endif
