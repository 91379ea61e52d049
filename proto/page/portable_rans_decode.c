/* The rANS decoder in plain C: sixteen lanes at a time, only the look-up of slots one by one. */
#include "proto/page/portable.h"
#include "proto/page/workspace.h"

#include <string.h>

typedef uint8_t u8x16 __attribute__((vector_size(16)));
typedef uint16_t u16x8 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef uint64_t u64x2 __attribute__((vector_size(16)));

enum { SIXTEEN = 16, SIXTEENS = RANS_LANES / SIXTEEN };

/* The states' bytes, lane by lane. */
struct lanes {
    u8x16 low[SIXTEENS], high[SIXTEENS];
};

static void load_states(const uint16_t state[RANS_LANES], struct lanes *lanes) {
    for (size_t i = 0; i < RANS_LANES; i++) {
        lanes->low[i / SIXTEEN][i % SIXTEEN] = (uint8_t)state[i];
        lanes->high[i / SIXTEEN][i % SIXTEEN] = (uint8_t)(state[i] >> 8);
    }
}

static void store_states(const struct lanes *lanes, uint16_t state[RANS_LANES]) {
    for (size_t i = 0; i < RANS_LANES; i++)
        state[i] = (uint16_t)(lanes->low[i / SIXTEEN][i % SIXTEEN] |
                              lanes->high[i / SIXTEEN][i % SIXTEEN] << 8);
}

/* ---- a step of sixteen lanes ---- */

/* What sixteen states look up, the lanes' bytes side by side: lanes 0, 2, 4.. and 1, 3, 5.. have
 * frequency << 8 | rank. */
struct slots {
    u16x8 even, odd;
    u8x16 symbols;
};

SPECIALISED struct slots look_up(const struct rans_decode_model *model, const uint8_t slot[16]) {
    u32x4 word[4];
    for (size_t i = 0; i < 4; i++)
        word[i] = (u32x4){model->slot[slot[i]], model->slot[slot[4 + i]], model->slot[slot[8 + i]],
                          model->slot[slot[12 + i]]};
    u16x8 even = (u16x8)(word[0] >> 16 | (word[2] & 0xffff0000u));
    u16x8 odd = (u16x8)(word[1] >> 16 | (word[3] & 0xffff0000u));
    return (struct slots){.even = (u16x8)((word[0] & 0xffffu) | word[2] << 16),
                          .odd = (u16x8)((word[1] & 0xffffu) | word[3] << 16),
                          .symbols = (u8x16)(even | odd << 8)};
}

/* What lanes need of refill: all ones where a byte, and how many bytes lanes take from the first of
 * their four on up to them, times -1. */
struct needs {
    u8x16 bytes, taken;
};

/* The symbols of sixteen values; refill is to follow. Lanes that are not active keep their states.
 */
SPECIALISED u8x16 advance(const struct rans_decode_model *model, u8x16 active, u8x16 *low,
                          u8x16 *high, struct needs *needs) {
    struct slots slots = look_up(model, (const uint8_t *)low);
    u16x8 even = (slots.even >> 8) * ((u16x8)*high & 255) + (slots.even & 255);
    u16x8 odd = (slots.odd >> 8) * ((u16x8)*high >> 8) + (slots.odd & 255);
    u8x16 x_low = (u8x16)((even & 255) | odd << 8), x_high = (u8x16)(even >> 8 | (odd & 0xff00));
    u8x16 empty = (u8x16)(x_high == 0) & active;
    u8x16 taken = empty + (u8x16)((u32x4)empty << 8);
    needs->bytes = empty;
    needs->taken = taken + (u8x16)((u32x4)taken << 16);
    *high = ((x_high | (x_low & empty)) & active) | (*high & ~active);
    *low = (x_low & active) | (*low & ~active);
    return slots.symbols;
}

/* Deals bytes from `refill` on to sixteen lanes and returns where the next are. Reads four for each
 * four lanes. */
SPECIALISED const uint8_t *deal(const uint8_t *refill, const struct needs *needs, u8x16 *low) {
    const u8x16 place = {1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4};
    const int8_t *taken = (const int8_t *)&needs->taken;
    uint32_t next[4];
    for (size_t i = 0; i < 4; i++) {
        memcpy(&next[i], refill, sizeof next[i]);
        refill -= taken[4 * i + 3];
    }
    u32x4 four = {next[0], next[1], next[2], next[3]};
    u8x16 skipped = place + needs->taken; /* lanes before this one that take nothing */
    u8x16 bytes = ((u8x16)four & (u8x16)(skipped == 0)) |
                  ((u8x16)(four << 8) & (u8x16)(skipped == 1)) |
                  ((u8x16)(four << 16) & (u8x16)(skipped == 2)) |
                  ((u8x16)(four << 24) & (u8x16)(skipped == 3));
    *low = (bytes & needs->bytes) | (*low & ~needs->bytes);
    return refill;
}

/* ---- from symbols to values ---- */

/* Where a group's low bits stand: the first value's, in the lowest plane. */
struct planes {
    const uint8_t *first;
    size_t stride;
    unsigned count;
};

/* Two bytes of a plane to sixteen, each 0 or all ones. */
SPECIALISED u8x16 spread_bits(unsigned first, unsigned second) {
    const u8x16 bit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    u64x2 bytes = {first * 0x0101010101010101u, second * 0x0101010101010101u};
    return (u8x16)(((u8x16)bytes & bit) == bit);
}

/* h << r and the low bits, of sixteen symbols; no bit behind the first `count` is read. */
SPECIALISED void join8(u8x16 symbols, struct planes planes, size_t count, int8_t *values) {
    u8x16 joined = symbols - RANS_SYMBOL_ZERO;
    for (unsigned plane = planes.count; plane-- > 0;) {
        const uint8_t *bits = planes.first + plane * planes.stride;
        joined += joined - spread_bits(bits[0], count > 8 ? bits[1] : 0);
    }
    memcpy(values, &joined, sizeof joined);
}

SPECIALISED void join16(u8x16 symbols, struct planes planes, size_t count, int16_t *values) {
    const u16x8 bit = {1, 2, 4, 8, 16, 32, 64, 128};
    int8_t high[SIXTEEN];
    symbols -= RANS_SYMBOL_ZERO;
    memcpy(high, &symbols, sizeof high);
    for (size_t i = 0; i < SIXTEEN && i < count; i += 8) {
        u16x8 joined;
        for (size_t j = 0; j < 8; j++)
            joined[j] = (uint16_t)high[i + j];
        for (unsigned plane = planes.count; plane-- > 0;) {
            u16x8 bits = (u16x8){0} + planes.first[plane * planes.stride + i / 8];
            joined += joined - (u16x8)((bits & bit) == bit);
        }
        memcpy(values + i, &joined, sizeof joined);
    }
}

/* Escaped values stand whole in a section of their own. */
static bool read_escapes(bool wide, struct rans_decoder *decoder, const u8x16 symbols[SIXTEENS],
                         size_t count, void *values) {
    size_t width = wide ? 2 : 1;
    for (size_t i = 0; i < count; i++) {
        if (symbols[i / SIXTEEN][i % SIXTEEN] != RANS_ESCAPE)
            continue;
        if ((size_t)(decoder->escape_end - decoder->escape) < width)
            return false;
        memcpy((uint8_t *)values + i * width, decoder->escape, width);
        decoder->escape += width;
    }
    return true;
}

/* ---- rows ---- */

/* All ones in the lanes that have a value, of `count`. */
SPECIALISED u8x16 active_lanes(size_t count) {
    const u8x16 place = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (u8x16)(place < (uint8_t)count);
}

/* The symbols of up to 64 values, all lanes' before the first refill: that waits for the lanes
 * before it, but look-ups need not. */
SPECIALISED const uint8_t *decode_symbols(const struct rans_decode_model *model,
                                          struct lanes *lanes, const uint8_t *refill, size_t count,
                                          u8x16 symbols[SIXTEENS]) {
    const u8x16 all = (u8x16)((u8x16){0} == 0);
    PAGE_SCRATCH struct needs needs[SIXTEENS];
    for (size_t i = 0; i < SIXTEENS && i * SIXTEEN < count; i++) {
        u8x16 active = count == RANS_LANES ? all : active_lanes(count - i * SIXTEEN);
        symbols[i] = advance(model, active, &lanes->low[i], &lanes->high[i], &needs[i]);
        symbols[i] |= ~active; /* no escapes behind the row's end */
    }
    for (size_t i = 0; i < SIXTEENS && i * SIXTEEN < count; i++)
        refill = deal(refill, &needs[i], &lanes->low[i]);
    return refill;
}

SPECIALISED bool has_escapes(const u8x16 symbols[SIXTEENS], size_t count) {
    u8x16 escapes = {0};
    for (size_t i = 0; i < SIXTEENS && i * SIXTEEN < count; i++)
        escapes |= (u8x16)(symbols[i] == RANS_ESCAPE);
    u64x2 words = (u64x2)escapes;
    return (words[0] | words[1]) != 0;
}

/* Up to 64 values. */
SPECIALISED bool decode_group(bool wide, struct rans_decoder *decoder, struct lanes *lanes,
                              const struct rans_decode_model *model, struct planes planes,
                              size_t count, void *values) {
    size_t left = (size_t)(decoder->refill_end - decoder->refill);
    const uint8_t *refill = decoder->refill;
    PAGE_SCRATCH uint8_t last[RANS_LANES];
    PAGE_SCRATCH u8x16 symbols[SIXTEENS];
    if (__builtin_expect(left < RANS_LANES, 0)) { /* never read past the end */
        memset(last, 0, sizeof last);
        memcpy(last, refill, left);
        refill = last;
    }
    size_t used = (size_t)(decode_symbols(model, lanes, refill, count, symbols) - refill);
    if (used > left)
        return false;
    decoder->refill += used;
    for (size_t i = 0; i < SIXTEENS && i * SIXTEEN < count; i++, planes.first += SIXTEEN / 8) {
        if (wide)
            join16(symbols[i], planes, count - i * SIXTEEN, (int16_t *)values + i * SIXTEEN);
        else
            join8(symbols[i], planes, count - i * SIXTEEN, (int8_t *)values + i * SIXTEEN);
    }
    return __builtin_expect(!has_escapes(symbols, count), 1) ||
           read_escapes(wide, decoder, symbols, count, values);
}

SPECIALISED bool decode_row(bool wide, struct rans_decoder *decoder, struct lanes *lanes,
                            struct rans_class class, size_t count, uint8_t *values) {
    size_t stride = rans_plane_bytes(count), bytes = class.low_bits * stride, i = 0;
    if ((size_t)(decoder->plane_end - decoder->plane) < bytes)
        return false;
    const struct rans_decode_model *model = rans_decode_model_of(decoder, class.table);
    struct planes planes = {decoder->plane, stride, class.low_bits};
    size_t value_bytes = wide ? 2 : 1;
    for (; i + RANS_LANES <= count; i += RANS_LANES, planes.first += RANS_LANES / 8)
        if (!decode_group(wide, decoder, lanes, model, planes, RANS_LANES,
                          values + i * value_bytes))
            return false;
    if (i < count &&
        !decode_group(wide, decoder, lanes, model, planes, count - i, values + i * value_bytes))
        return false;
    decoder->plane += bytes;
    return true;
}

SPECIALISED bool decode_jobs(bool wide, const struct rans_decode_job *jobs, size_t count) {
    size_t row_bytes = RANS_ROW_VALUES * (wide ? 2 : 1);
    for (const struct rans_decode_job *job = jobs; job < jobs + count; job++) {
        PAGE_SCRATCH struct lanes lanes;
        load_states(job->decoder->state, &lanes);
        for (size_t row = 0; row < job->rows; row++)
            if (!decode_row(wide, job->decoder, &lanes, job->classes[row], job->count,
                            (uint8_t *)job->values + row * row_bytes))
                return false;
        store_states(&lanes, job->decoder->state);
    }
    return true;
}

bool PAGE_OF_TARGET(rans_decode8_)(const struct rans_decode_job *jobs, size_t count) {
    return decode_jobs(false, jobs, count);
}

bool PAGE_OF_TARGET(rans_decode16_)(const struct rans_decode_job *jobs, size_t count) {
    return decode_jobs(true, jobs, count);
}
