/* A value as a number, computed as the dtypes are defined and not as the codec does it. */
#ifndef TESTS_FUZZ_VALUE_NUMBER_H
#define TESTS_FUZZ_VALUE_NUMBER_H

#include "proto/page/page.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline double float_number(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return (double)x;
}

static inline double half_number(uint16_t half) {
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    double magnitude = exponent == 31  ? (mantissa ? (double)NAN : (double)INFINITY)
                       : exponent == 0 ? ldexp(mantissa, -24)
                                       : ldexp(1024 + mantissa, exponent - 25);
    return half & 0x8000 ? -magnitude : magnitude;
}

static inline double value_number(enum page_dtype dtype, const void *values, size_t i) {
    uint32_t bits = 0;
    memcpy(&bits, (const uint8_t *)values + i * page_value_bytes(dtype), page_value_bytes(dtype));
    return dtype == PAGE_F16    ? half_number((uint16_t)bits)
           : dtype == PAGE_BF16 ? float_number(bits << 16)
                                : float_number(bits);
}

#endif
