/* The rANS kernels in plain C, without a branch on the data but for escapes. */
#include "proto/page/portable.h"
#include "proto/page/workspace.h"

#include <string.h>

#define SPECIALISED static inline __attribute__((always_inline))

typedef uint16_t u16x8 __attribute__((vector_size(16)));

/* Reads at most `count` bytes of refill and returns how many. In steps over all lanes, so that only
 * the table look-ups and the refill stay scalar. */
SPECIALISED size_t decode_symbols(uint16_t *restrict state,
                                  const struct rans_decode_model *restrict model,
                                  const uint8_t *restrict refill, uint8_t *restrict symbols,
                                  size_t count) {
    PAGE_SCRATCH uint16_t step[RANS_LANES];
    PAGE_SCRATCH int8_t low[RANS_LANES];
    for (size_t lane = 0; lane < count; lane++) {
        step[lane] = model->step[state[lane] & 255];
        symbols[lane] = model->symbol[state[lane] & 255];
    }
    for (size_t lane = 0; lane < count; lane++) {
        uint16_t x = (uint16_t)((step[lane] >> 8) * (state[lane] >> 8) + (step[lane] & 255));
        int16_t needs = x < RANS_STATE_MIN ? -1 : 0;
        low[lane] = (int8_t)needs;
        state[lane] = (uint16_t)((x << 8 & needs) | (x & ~needs));
    }
    const uint8_t *next = refill;
    for (size_t lane = 0; lane < count; lane++) {
        state[lane] |= (uint16_t)(*next & low[lane]);
        next -= low[lane];
    }
    return (size_t)(next - refill);
}

static bool read_escapes(struct rans_decoder *decoder, const uint8_t *symbols, int16_t *high,
                         size_t count) {
    size_t width = decoder->wide_escapes ? 2 : 1;
    for (size_t i = 0; i < count; i++) {
        if (symbols[i] != RANS_ESCAPE)
            continue;
        const uint8_t *at = decoder->escape;
        if ((size_t)(decoder->escape_end - at) < width)
            return false;
        high[i] = (int16_t)(width == 1 ? (int8_t)at[0] : (int16_t)(at[0] | at[1] << 8));
        decoder->escape += width;
    }
    return true;
}

/* Appends `low_bits` planes' bits to eight values; `planes` points at the first plane's byte. */
SPECIALISED u16x8 with_planes(u16x8 high, const uint8_t *planes, size_t plane_stride,
                              unsigned low_bits) {
    const u16x8 bit = {1, 2, 4, 8, 16, 32, 64, 128};
    for (unsigned plane = low_bits; plane-- > 0;) {
        uint16_t byte = planes[plane * plane_stride];
        u16x8 bits = {byte, byte, byte, byte, byte, byte, byte, byte};
        high = high + high - (u16x8)((bits & bit) == bit);
    }
    return high;
}

static void append_planes(int16_t *values, size_t count, const uint8_t *planes, size_t plane_stride,
                          unsigned low_bits) {
    for (size_t i = 0; i < count; i += 8) {
        u16x8 eight;
        memcpy(&eight, values + i, sizeof eight);
        eight = with_planes(eight, planes + i / 8, plane_stride, low_bits);
        memcpy(values + i, &eight, sizeof eight);
    }
}

SPECIALISED bool decode_group(struct rans_decoder *decoder, const struct rans_decode_model *model,
                              unsigned low_bits, const uint8_t *planes, size_t plane_stride,
                              int16_t *restrict values, size_t count) {
    size_t left = (size_t)(decoder->refill_end - decoder->refill);
    const uint8_t *refill = decoder->refill;
    PAGE_SCRATCH uint8_t symbols[RANS_LANES], last[RANS_LANES];
    if (__builtin_expect(left < RANS_LANES, 0)) { /* never read past the end */
        memset(last, 0, sizeof last);
        memcpy(last, refill, left);
        refill = last;
    }
    size_t used = decode_symbols(decoder->state, model, refill, symbols, count);
    if (used > left)
        return false;
    decoder->refill += used;
    int16_t high[RANS_LANES] = {0};
    int escapes = 0;
    for (size_t i = 0; i < count; i++) {
        high[i] = (int16_t)(symbols[i] - RANS_SYMBOL_ZERO);
        escapes |= symbols[i] == RANS_ESCAPE;
    }
    if (__builtin_expect(escapes, 0) && !read_escapes(decoder, symbols, high, count))
        return false;
    if (low_bits > 0)
        append_planes(high, count, planes, plane_stride, low_bits);
    memcpy(values, high, count * sizeof *values);
    return true;
}

bool rans_decode_of_target(struct rans_decoder *decoder, const struct rans_decode_model *model,
                           unsigned low_bits, int16_t *values, size_t count) {
    const uint8_t *planes = decoder->plane;
    size_t plane_stride = (count + 7) / 8, i = 0;
    for (; i + RANS_LANES <= count; i += RANS_LANES)
        if (!decode_group(decoder, model, low_bits, planes + i / 8, plane_stride, values + i,
                          RANS_LANES))
            return false;
    return i == count || decode_group(decoder, model, low_bits, planes + i / 8, plane_stride,
                                      values + i, count - i);
}

/* Last symbol first, towards lower addresses; writes at most `count` bytes and one below. In steps
 * over all lanes, so that only table look-ups and the refill stay scalar. */
SPECIALISED uint8_t *encode_symbols(uint16_t *restrict state,
                                    const struct rans_encode_model *restrict model,
                                    const uint8_t *restrict symbols, size_t count,
                                    uint8_t *restrict refill) {
    PAGE_SCRATCH uint16_t start[RANS_LANES], reciprocal[RANS_LANES], rank[RANS_LANES];
    PAGE_SCRATCH uint8_t byte[RANS_LANES], full[RANS_LANES];
    for (size_t lane = 0; lane < count; lane++) {
        start[lane] = model->start[symbols[lane]];
        reciprocal[lane] = model->reciprocal[symbols[lane]];
    }
    for (size_t lane = 0; lane < count; lane++) {
        uint16_t x = state[lane], frequency = start[lane] >> 8;
        uint16_t emit = x >> 8 >= frequency ? 0xffff : 0;
        byte[lane] = (uint8_t)x;
        full[lane] = (uint8_t)(emit & 1);
        x = (uint16_t)((x >> 8 & emit) | (x & ~emit));
        uint16_t quotient = (uint16_t)((uint32_t)x * reciprocal[lane] >> 16);
        uint16_t rest = (uint16_t)(x - quotient * frequency);
        uint16_t over = rest >= frequency ? 0xffff : 0; /* the reciprocal is rounded down */
        rest = (uint16_t)(rest - (frequency & over));
        rank[lane] = (uint16_t)(rest + start[lane]) & 255;
        quotient = (uint16_t)(quotient - over);
        state[lane] = (uint16_t)(quotient << 8);
    }
    for (size_t lane = 0; lane < count; lane++)
        state[lane] |= model->slot[rank[lane]];
    for (size_t lane = count; lane-- > 0;) {
        refill[-1] = byte[lane];
        refill -= full[lane];
    }
    return refill;
}

static void push_escapes(struct rans_encoder *encoder, const uint8_t *symbols,
                         const int16_t *values, unsigned low_bits, size_t count) {
    size_t width = encoder->wide_escapes ? 2 : 1;
    for (size_t i = count; i-- > 0;) {
        if (symbols[i] != RANS_ESCAPE)
            continue;
        int high = values[i] >> low_bits;
        if (width == 1 && high != (int8_t)high)
            encoder->escape_too_wide = true;
        encoder->escape -= width;
        encoder->escape[0] = (uint8_t)high;
        if (width == 2)
            encoder->escape[1] = (uint8_t)(high >> 8);
    }
}

/* Bit `plane` of eight bytes, the first in the lowest place. */
static uint8_t gather_bits(uint64_t bytes, unsigned plane) {
    uint64_t bits = bytes >> plane & 0x0101010101010101u;
    return (uint8_t)(bits * 0x0102040810204080u >> 56);
}

static void write_planes(const int16_t *values, size_t count, uint8_t *planes, size_t plane_stride,
                         unsigned low_bits) {
    for (size_t i = 0; i < count; i += 8, planes++) {
        uint64_t low = 0, high = 0;
        for (size_t j = 0; j < 8 && i + j < count; j++) {
            low |= (uint64_t)(values[i + j] & 255) << 8 * j;
            high |= (uint64_t)(values[i + j] >> 8 & 255) << 8 * j;
        }
        for (unsigned plane = 0; plane < low_bits; plane++)
            planes[plane * plane_stride] =
                plane < 8 ? gather_bits(low, plane) : gather_bits(high, plane - 8);
    }
}

SPECIALISED void encode_group(struct rans_encoder *encoder, const struct rans_encode_model *model,
                              unsigned low_bits, const int16_t *restrict values, size_t count) {
    PAGE_SCRATCH uint8_t symbols[RANS_LANES];
    int16_t low = model->low, high = model->high, outside = 0;
    for (size_t i = 0; i < count; i++) {
        int16_t value = (int16_t)(values[i] >> low_bits);
        int16_t escapes = ((value < low) | (value > high)) ? -1 : 0;
        symbols[i] = (uint8_t)((value + RANS_SYMBOL_ZERO) & ~escapes);
        outside |= escapes;
    }
    if (encoder->escape - encoder->plane_end < 2 * RANS_LANES ||
        encoder->refill - encoder->escape_end <= RANS_LANES) {
        encoder->full = true;
        return;
    }
    if (__builtin_expect(outside, 0))
        push_escapes(encoder, symbols, values, low_bits, count);
    encoder->refill = encode_symbols(encoder->state, model, symbols, count, encoder->refill);
}

void rans_encode_of_target(struct rans_encoder *encoder, const struct rans_encode_model *model,
                           unsigned low_bits, const int16_t *values, size_t count) {
    if (low_bits > 0)
        write_planes(values, count, encoder->plane, (count + 7) / 8, low_bits);
    size_t whole = count / RANS_LANES * RANS_LANES;
    if (whole < count)
        encode_group(encoder, model, low_bits, values + whole, count - whole);
    for (size_t i = whole; i > 0 && !encoder->full; i -= RANS_LANES)
        encode_group(encoder, model, low_bits, values + i - RANS_LANES, RANS_LANES);
}
