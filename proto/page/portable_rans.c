/* The rANS kernels in plain C, without a branch on the data but for escapes. */
#include "proto/page/kernels.h"
#include "proto/page/portable.h"
#include "proto/page/workspace.h"

#include <string.h>

typedef uint8_t u8x16 __attribute__((vector_size(16)));

/* ---- decoding ---- */

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

SPECIALISED int16_t value_at(bool wide, const void *values, size_t i) {
    return wide ? ((const int16_t *)values)[i] : ((const int8_t *)values)[i];
}

SPECIALISED void set_value(bool wide, void *values, size_t i, int value) {
    if (wide)
        ((int16_t *)values)[i] = (int16_t)value;
    else
        ((int8_t *)values)[i] = (int8_t)value;
}

/* Escaped values stand whole in a section of their own. */
SPECIALISED bool read_escapes(bool wide, struct rans_decoder *decoder, const uint8_t *symbols,
                              size_t count, void *values) {
    size_t width = wide ? 2 : 1;
    for (size_t i = 0; i < count; i++) {
        if (symbols[i] != RANS_ESCAPE)
            continue;
        const uint8_t *at = decoder->escape;
        if ((size_t)(decoder->escape_end - at) < width)
            return false;
        set_value(wide, values, i, wide ? at[0] | at[1] << 8 : at[0]);
        decoder->escape += width;
    }
    return true;
}

/* Two bytes of a plane to 16 bytes, each 0 or all ones. */
SPECIALISED u8x16 spread_bits(uint8_t first, uint8_t second) {
    const u8x16 bit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    u8x16 bytes = {first,  first,  first,  first,  first,  first,  first,  first,
                   second, second, second, second, second, second, second, second};
    return (u8x16)((bytes & bit) == bit);
}

/* h << r and the low bits: of 64 symbols, values behind `count` being anything. */
SPECIALISED void join_planes(bool wide, const uint8_t *symbols, const uint8_t *planes,
                             size_t plane_stride, unsigned low_bits, size_t count, void *values) {
    PAGE_SCRATCH uint8_t low[RANS_LANES], high[RANS_LANES];
    memset(low, 0, sizeof low);
    memset(high, 0, sizeof high);
    for (unsigned plane = 0; plane < low_bits; plane++) {
        const uint8_t *bits = planes + plane * plane_stride;
        uint8_t *into = plane < 8 ? low : high, one = (uint8_t)(1u << plane % 8);
        for (size_t i = 0; i < count; i += 16) {
            u8x16 sixteen, mask = spread_bits(bits[i / 8], i + 8 < count ? bits[i / 8 + 1] : 0);
            memcpy(&sixteen, into + i, sizeof sixteen);
            sixteen |= mask & one;
            memcpy(into + i, &sixteen, sizeof sixteen);
        }
    }
    for (size_t i = 0; i < RANS_LANES; i++) {
        unsigned h = (unsigned)(symbols[i] - RANS_SYMBOL_ZERO) << low_bits;
        set_value(wide, values, i, (int)(h | low[i] | (wide ? (unsigned)high[i] << 8 : 0)));
    }
}

/* Where a group's low bits stand: the first value's, in the lowest plane. */
struct planes {
    const uint8_t *first;
    size_t stride;
    unsigned count;
};

/* Up to 64 values. */
SPECIALISED bool decode_group(bool wide, struct rans_decoder *decoder,
                              const struct rans_decode_model *model, struct planes planes,
                              size_t count, void *values) {
    size_t left = (size_t)(decoder->refill_end - decoder->refill);
    const uint8_t *refill = decoder->refill;
    PAGE_SCRATCH uint8_t symbols[RANS_LANES], last[RANS_LANES];
    if (__builtin_expect(left < RANS_LANES, 0)) { /* never read past the end */
        memset(last, 0, sizeof last);
        memcpy(last, refill, left);
        refill = last;
    }
    memset(symbols, RANS_SYMBOL_ZERO, sizeof symbols);
    size_t used = decode_symbols(decoder->state, model, refill, symbols, count);
    if (used > left)
        return false;
    decoder->refill += used;
    int escapes = 0;
    for (size_t i = 0; i < RANS_LANES; i++) {
        set_value(wide, values, i, symbols[i] - RANS_SYMBOL_ZERO);
        escapes |= symbols[i] == RANS_ESCAPE;
    }
    if (planes.count > 0)
        join_planes(wide, symbols, planes.first, planes.stride, planes.count, count, values);
    return __builtin_expect(!escapes, 1) || read_escapes(wide, decoder, symbols, count, values);
}

SPECIALISED bool decode_row(bool wide, struct rans_decoder *decoder, struct rans_class class,
                            size_t count, uint8_t *values) {
    size_t stride = rans_plane_bytes(count), bytes = class.low_bits * stride, i = 0;
    if ((size_t)(decoder->plane_end - decoder->plane) < bytes)
        return false;
    const struct rans_decode_model *model = rans_decode_model_of(decoder, class.table);
    struct planes planes = {decoder->plane, stride, class.low_bits};
    size_t value_bytes = wide ? 2 : 1;
    for (; i + RANS_LANES <= count; i += RANS_LANES, planes.first += RANS_LANES / 8)
        if (!decode_group(wide, decoder, model, planes, RANS_LANES, values + i * value_bytes))
            return false;
    if (i < count &&
        !decode_group(wide, decoder, model, planes, count - i, values + i * value_bytes))
        return false;
    decoder->plane += bytes;
    return true;
}

SPECIALISED bool decode_jobs(bool wide, const struct rans_decode_job *jobs, size_t count) {
    size_t row_bytes = RANS_ROW_VALUES * (wide ? 2 : 1);
    for (const struct rans_decode_job *job = jobs; job < jobs + count; job++)
        for (size_t row = 0; row < job->rows; row++)
            if (!decode_row(wide, job->decoder, job->classes[row], job->count,
                            (uint8_t *)job->values + row * row_bytes))
                return false;
    return true;
}

bool PAGE_OF_TARGET(rans_decode8_)(const struct rans_decode_job *jobs, size_t count) {
    return decode_jobs(false, jobs, count);
}

bool PAGE_OF_TARGET(rans_decode16_)(const struct rans_decode_job *jobs, size_t count) {
    return decode_jobs(true, jobs, count);
}

/* ---- encoding ---- */

/* Last symbol first, towards lower addresses; writes at most `count` bytes and one below. In steps
 * over all lanes, so that only table look-ups and the refill stay scalar. */
SPECIALISED uint8_t *encode_symbols(uint16_t *restrict state, const struct page_table *table,
                                    const struct page_encode_table *restrict model,
                                    const uint8_t *restrict symbols, size_t count,
                                    uint8_t *restrict refill) {
    PAGE_SCRATCH uint16_t frequencies[RANS_LANES], reciprocal[RANS_LANES], rank[RANS_LANES];
    PAGE_SCRATCH uint8_t byte[RANS_LANES], full[RANS_LANES];
    for (size_t lane = 0; lane < count; lane++) {
        frequencies[lane] = table->symbol_frequency[symbols[lane]];
        rank[lane] = table->start[symbols[lane]];
        reciprocal[lane] = model->reciprocal[symbols[lane]];
    }
    for (size_t lane = 0; lane < count; lane++) {
        uint16_t x = state[lane], frequency = frequencies[lane];
        uint16_t emit = x >> 8 >= frequency ? 0xffff : 0;
        byte[lane] = (uint8_t)x;
        full[lane] = (uint8_t)(emit & 1);
        x = (uint16_t)((x >> 8 & emit) | (x & ~emit));
        uint16_t quotient = (uint16_t)((uint32_t)x * reciprocal[lane] >> 16);
        uint16_t rest = (uint16_t)(x - quotient * frequency);
        uint16_t over = rest >= frequency ? 0xffff : 0; /* the reciprocal is rounded down */
        rest = (uint16_t)(rest - (frequency & over));
        rank[lane] = (uint16_t)(rest + rank[lane]) & 255;
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

SPECIALISED void push_escapes(bool wide, struct rans_encoder *encoder, const uint8_t *symbols,
                              const void *values, size_t count) {
    for (size_t i = count; i-- > 0;) {
        if (symbols[i] != RANS_ESCAPE)
            continue;
        int16_t value = value_at(wide, values, i);
        encoder->escape -= wide ? 2 : 1;
        encoder->escape[0] = (uint8_t)value;
        if (wide)
            encoder->escape[1] = (uint8_t)(value >> 8);
    }
}

/* Bit `plane` of eight bytes, the first in the lowest place. */
static inline uint8_t gather_bits(uint64_t bytes, unsigned plane) {
    uint64_t bits = bytes >> plane & 0x0101010101010101u;
    return (uint8_t)(bits * 0x0102040810204080u >> 56);
}

SPECIALISED void write_planes(bool wide, const void *values, size_t count, uint8_t *planes,
                              size_t plane_stride, unsigned low_bits) {
    for (size_t i = 0; i < count; i += 8, planes++) {
        uint64_t low = 0, high = 0;
        for (size_t j = 0; j < 8 && i + j < count; j++) {
            uint16_t value = (uint16_t)value_at(wide, values, i + j);
            low |= (uint64_t)(value & 255) << 8 * j;
            high |= (uint64_t)(value >> 8) << 8 * j;
        }
        for (unsigned plane = 0; plane < low_bits; plane++)
            planes[plane * plane_stride] =
                plane < 8 ? gather_bits(low, plane) : gather_bits(high, plane - 8);
    }
}

SPECIALISED void encode_group(bool wide, struct rans_encoder *encoder,
                              const struct page_encode_table *model, struct rans_class class,
                              const void *values, size_t count) {
    PAGE_SCRATCH uint8_t symbols[RANS_LANES];
    int16_t low = model->low, high = model->high, outside = 0;
    for (size_t i = 0; i < count; i++) {
        int16_t value = (int16_t)(value_at(wide, values, i) >> class.low_bits);
        int16_t escapes = ((value < low) | (value > high)) ? -1 : 0;
        symbols[i] = (uint8_t)((value + RANS_SYMBOL_ZERO) & ~escapes);
        outside |= escapes;
    }
    if (__builtin_expect(outside, 0))
        push_escapes(wide, encoder, symbols, values, count);
    encoder->refill = encode_symbols(encoder->state, &page_tables[class.table], model, symbols,
                                     count, encoder->refill);
}

SPECIALISED void encode_row(bool wide, struct rans_encoder *encoder, struct rans_class class,
                            size_t count, const uint8_t *values) {
    const struct page_encode_table *model = &page_encode_tables[class.table];
    size_t value_bytes = wide ? 2 : 1, whole = count / RANS_LANES * RANS_LANES;
    size_t plane_bytes = rans_plane_bytes(count);
    encoder->plane -= class.low_bits * plane_bytes;
    if (class.low_bits > 0)
        write_planes(wide, values, count, encoder->plane, plane_bytes, class.low_bits);
    if (whole < count)
        encode_group(wide, encoder, model, class, values + whole * value_bytes, count - whole);
    for (size_t i = whole; i > 0; i -= RANS_LANES)
        encode_group(wide, encoder, model, class, values + (i - RANS_LANES) * value_bytes,
                     RANS_LANES);
}

SPECIALISED void encode_jobs(bool wide, const struct rans_encode_job *jobs, size_t count) {
    size_t row_bytes = RANS_ROW_VALUES * (wide ? 2 : 1);
    for (const struct rans_encode_job *job = jobs; job < jobs + count; job++)
        for (size_t row = job->rows; row-- > 0;)
            encode_row(wide, job->encoder, job->classes[row], job->count,
                       (const uint8_t *)job->values + row * row_bytes);
}

void PAGE_OF_TARGET(rans_encode8_)(const struct rans_encode_job *jobs, size_t count) {
    encode_jobs(false, jobs, count);
}

void PAGE_OF_TARGET(rans_encode16_)(const struct rans_encode_job *jobs, size_t count) {
    encode_jobs(true, jobs, count);
}

uint32_t PAGE_OF_TARGET(row_cost_)(const int16_t *values, size_t count, unsigned low_bits,
                                   const uint16_t cost[PAGE_SYMBOLS]) {
    uint32_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned symbol = (unsigned)((values[i] >> low_bits) + RANS_SYMBOL_ZERO);
        sum += cost[symbol < PAGE_SYMBOLS ? symbol : RANS_ESCAPE];
    }
    return sum;
}
