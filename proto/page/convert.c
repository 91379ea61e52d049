#include "proto/page/convert.h"
#include "proto/page/compact.h"
#include "proto/page/kernels.h"

static float load_one(enum page_dtype dtype, const uint8_t *at) {
    switch (dtype) {
    case PAGE_F16:
        return half_to_float(*(const unaligned_u16 *)at);
    case PAGE_BF16:
        return bfloat_to_float(*(const unaligned_u16 *)at);
    default:
        break;
    }
    return *(const unaligned_float *)at;
}

static uint16_t ieee_float_to_half(float x) {
    uint32_t magnitude = float_bits(x) & 0x7fffffffu;
    uint16_t sign = (uint16_t)(float_bits(x) >> 16 & 0x8000u);
    if (magnitude > 0x7f800000u) /* a quiet NaN with what fits of the payload */
        return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x1ffu));
    if (magnitude >= 0x477ff000u) /* halfway from 65504 to 65536 */
        return sign | 0x7c00u;
    return float_to_half(x);
}

static uint16_t ieee_float_to_bfloat(float x) {
    uint32_t bits = float_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)(bfloat_bits(x) >> 16);
}

static void store_one(enum page_dtype dtype, float x, uint8_t *at) {
    switch (dtype) {
    case PAGE_F16:
        *(unaligned_u16 *)at = ieee_float_to_half(x);
        return;
    case PAGE_BF16:
        *(unaligned_u16 *)at = ieee_float_to_bfloat(x);
        return;
    default:
        break;
    }
    uint32_t bits = float_bits(x);
    *(unaligned_u32 *)at = (bits & 0x7fffffffu) > 0x7f800000u ? bits | 0x400000u : bits;
}

/* Between dtypes of numbers. */
static void convert_numbers(enum page_dtype from, const uint8_t *in, enum page_dtype to,
                            uint8_t *out, size_t count) {
    size_t from_bytes = page_value_bytes(from), to_bytes = page_value_bytes(to);
    for (size_t i = 0; i < count; i++)
        store_one(to, load_one(from, in + i * from_bytes), out + i * to_bytes);
}

void page_convert_row(enum page_dtype from, const void *source, enum page_dtype to, void *target,
                      size_t count) {
    if (from == to) {
        memcpy(target, source, page_row_bytes(from, count));
        return;
    }
    if (from == PAGE_F16 && to == PAGE_F32) {
        page_kernels()->widen(source, target, count);
        return;
    }
    if (!page_is_compact(from)) {
        convert_numbers(from, source, to, target, count);
        return;
    }
    float numbers[BLOCK_VALUES];
    for (size_t i = 0, run; i < count; i += run) {
        run = count - i < BLOCK_VALUES ? count - i : BLOCK_VALUES;
        page_compact_load(from, (const uint8_t *)source + page_row_bytes(from, i), run, numbers);
        convert_numbers(PAGE_F32, (const uint8_t *)numbers, to,
                        (uint8_t *)target + page_row_bytes(to, i), run);
    }
}
