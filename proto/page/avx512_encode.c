/* Encoding rows of a stream backwards: 64 symbols at a time. */
#include "proto/page/avx512_states.h"

struct constants {
    __m512i low_byte, zero_symbol, last_symbol, lane;
};

SPECIALISED struct constants make_constants(void) {
    return (struct constants){
        .low_byte = held(_mm512_set1_epi16(255)),
        .zero_symbol = held(_mm512_set1_epi8(RANS_SYMBOL_ZERO)),
        .last_symbol = held(_mm512_set1_epi8(PAGE_SYMBOLS - 1)),
        .lane = held(_mm512_set_epi64(0x3f3e3d3c3b3a3938, 0x3736353433323130, 0x2f2e2d2c2b2a2928,
                                      0x2726252423222120, 0x1f1e1d1c1b1a1918, 0x1716151413121110,
                                      0x0f0e0d0c0b0a0908, 0x0706050403020100)),
    };
}

/* A row's table in registers: frequency and start by symbol (start at symbol + 32). */
struct model {
    __m512i numbers, reciprocal, slot[4];
};

SPECIALISED struct model load_model(unsigned table) {
    const struct page_encode_table *model = &page_encode_tables[table];
    struct model registers = {
        .numbers = _mm512_loadu_si512(page_tables[table].symbol_frequency),
        .reciprocal = _mm512_loadu_si512(model->reciprocal),
    };
    for (size_t i = 0; i < 4; i++)
        registers.slot[i] = _mm512_load_si512(model->slot + 64 * i);
    return registers;
}

/* Puts the bytes of the lanes in `full` before the refill written so far. What it overwrites below
 * them is slack. */
SPECIALISED uint8_t *put_refill(const struct constants *constants, uint8_t *refill, __m512i bytes,
                                __mmask64 full) {
    size_t count = (size_t)_mm_popcnt_u64(full);
    __m512i last = _mm512_add_epi8(constants->lane, _mm512_set1_epi8((char)count));
    bytes = _mm512_permutexvar_epi8(last, _mm512_maskz_compress_epi8(full, bytes));
    _mm512_storeu_si512(refill - RANS_LANES, bytes);
    return refill - count;
}

/* The slots of the ranks. */
SPECIALISED __m512i slots_of(const struct model *model, __m512i rank) {
    __m512i low = _mm512_permutex2var_epi8(model->slot[0], rank, model->slot[1]);
    __m512i high = _mm512_permutex2var_epi8(model->slot[2], rank, model->slot[3]);
    return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(rank), high);
}

/* Which lanes take part: all, unless `partial`. */
struct lanes {
    bool partial;
    __mmask64 live;
};

/* One symbol of each lane that takes part. Returns the refill after it. */
SPECIALISED uint8_t *encode_symbols(const struct constants *constants, const struct model *model,
                                    struct states *states, __m512i symbols, __m512i frequency,
                                    uint8_t *refill, struct lanes lanes) {
    const bool partial = lanes.partial;
    const __mmask64 live = lanes.live;
    const __m512i low_byte = constants->low_byte;
    __m512i low = states->low, high = states->high;
    __mmask64 full = partial ? _mm512_mask_cmpge_epu8_mask(live, high, frequency)
                             : _mm512_cmpge_epu8_mask(high, frequency);
    refill = put_refill(constants, refill, low, full);
    low = _mm512_mask_mov_epi8(low, full, high);
    high = _mm512_maskz_mov_epi8((__mmask64)~full, high);
    /* a & c | b & ~c, and the like, put lanes together */
    __m512i even = _mm512_ternarylogic_epi32(_mm512_slli_epi16(high, 8), low, low_byte, 0xf8);
    __m512i odd = _mm512_ternarylogic_epi32(_mm512_srli_epi16(low, 8), high, low_byte, 0xf4);
    __m512i even_frequency = _mm512_and_si512(frequency, low_byte);
    __m512i odd_frequency = _mm512_srli_epi16(frequency, 8);
    __m512i even_reciprocal = _mm512_permutexvar_epi16(symbols, model->reciprocal);
    __m512i odd_reciprocal =
        _mm512_permutexvar_epi16(_mm512_srli_epi16(symbols, 8), model->reciprocal);
    __m512i even_quotient = _mm512_mulhi_epu16(even, even_reciprocal);
    __m512i odd_quotient = _mm512_mulhi_epu16(odd, odd_reciprocal);
    __m512i even_rest = _mm512_sub_epi16(even, _mm512_mullo_epi16(even_quotient, even_frequency));
    __m512i odd_rest = _mm512_sub_epi16(odd, _mm512_mullo_epi16(odd_quotient, odd_frequency));
    /* The reciprocal is rounded down: a rest may be one frequency too large, its quotient one too
     * small. Less a frequency it is then not negative, and its high byte 0 instead of 255. */
    __m512i even_less = _mm512_sub_epi16(even_rest, even_frequency);
    __m512i odd_less = _mm512_sub_epi16(odd_rest, odd_frequency);
    even_rest = _mm512_min_epu16(even_rest, even_less);
    odd_rest = _mm512_min_epu16(odd_rest, odd_less);
    __m512i rest =
        _mm512_ternarylogic_epi32(_mm512_slli_epi16(odd_rest, 8), even_rest, low_byte, 0xf8);
    __m512i quotient = _mm512_ternarylogic_epi32(_mm512_slli_epi16(odd_quotient, 8), even_quotient,
                                                 low_byte, 0xf8);
    __m512i too_small = _mm512_ternarylogic_epi32(_mm512_srli_epi16(even_less, 8), odd_less,
                                                  low_byte, 0x0b); /* ~(a | b & ~c) */
    __m512i start = _mm512_permutexvar_epi8(
        _mm512_or_si512(symbols, _mm512_slli_epi16(constants->zero_symbol, 1)), model->numbers);
    __m512i new_low = slots_of(model, _mm512_add_epi8(rest, start));
    __m512i new_high = _mm512_sub_epi8(quotient, too_small);
    states->low = partial ? _mm512_mask_mov_epi8(states->low, live, new_low) : new_low;
    states->high = partial ? _mm512_mask_mov_epi8(states->high, live, new_high) : new_high;
    return refill;
}

/* Symbols whose table has them, others 0; sets `escaped`. */
SPECIALISED __m512i symbols_of(const struct constants *constants, const struct model *model,
                               __m512i high, __m512i *frequency, __mmask64 *escaped) {
    __m512i symbols = _mm512_add_epi8(high, constants->zero_symbol);
    __mmask64 inside = _mm512_cmple_epu8_mask(symbols, constants->last_symbol);
    *frequency = _mm512_maskz_permutexvar_epi8(inside, symbols, model->numbers);
    inside =
        _mm512_mask_test_epi8_mask(_mm512_test_epi8_mask(symbols, symbols), *frequency, *frequency);
    *escaped = (__mmask64)~inside;
    return symbols;
}

/* The escape's frequency where `escaped`. */
SPECIALISED __m512i escape_symbols(const struct model *model, __m512i symbols, __m512i *frequency,
                                   __mmask64 escaped) {
    *frequency =
        _mm512_mask_broadcastb_epi8(*frequency, escaped, _mm512_castsi512_si128(model->numbers));
    return _mm512_maskz_mov_epi8((__mmask64)~escaped, symbols);
}

/* ---- rows of int8 ---- */

/* Divides int8 by 1 << r, rounding down, as a matrix over their bits. */
static const uint64_t SHIFT_RIGHT[8] = {
    0x0102040810204080, 0x0204081020408080, 0x0408102040808080, 0x0810204080808080,
    0x1020408080808080, 0x2040808080808080, 0x4080808080808080, 0x8080808080808080,
};

/* Where byte i of a row's planes comes from in two times 64 values' transposed bits, of which byte
 * k of a word is plane k. */
struct planes {
    __m512i index[2];
    size_t plane_bytes;
};

static struct planes make_planes(size_t count) {
    struct planes planes = {.plane_bytes = rans_plane_bytes(count)};
    _Alignas(64) uint8_t index[2][64] = {{0}};
    for (size_t i = 0; i < 7 * planes.plane_bytes; i++)
        index[i / 64][i % 64] = (uint8_t)(i % planes.plane_bytes * 8 + i / planes.plane_bytes);
    planes.index[0] = _mm512_load_si512(index[0]);
    planes.index[1] = _mm512_load_si512(index[1]);
    return planes;
}

/* Bits of eight values to bytes of bit planes. */
SPECIALISED __m512i transpose_bits(__m512i values) {
    const __m512i reversed = _mm512_set_epi64(
        0x38393a3b3c3d3e3f, 0x3031323334353637, 0x28292a2b2c2d2e2f, 0x2021222324252627,
        0x18191a1b1c1d1e1f, 0x1011121314151617, 0x08090a0b0c0d0e0f, 0x0001020304050607);
    const __m512i one = _mm512_set1_epi64((long long)0x8040201008040201);
    return _mm512_gf2p8affine_epi64_epi8(one, _mm512_permutexvar_epi8(reversed, values), 0);
}

SPECIALISED void write_planes8(const struct planes *planes, uint8_t *to, unsigned low_bits,
                               const __m512i values[2]) {
    __m512i first = transpose_bits(values[0]), second = transpose_bits(values[1]);
    size_t bytes = low_bits * planes->plane_bytes;
    _mm512_mask_storeu_epi8(to, first_of_64(bytes),
                            _mm512_permutex2var_epi8(first, planes->index[0], second));
    if (bytes > 64)
        _mm512_mask_storeu_epi8(to + 64, first_of_64(bytes - 64),
                                _mm512_permutex2var_epi8(first, planes->index[1], second));
}

static __attribute__((noinline)) void push_escapes8(struct rans_encoder *encoder, __m512i values,
                                                    __mmask64 escaped) {
    size_t count = (size_t)_mm_popcnt_u64(escaped);
    encoder->escape -= count;
    _mm512_mask_storeu_epi8(encoder->escape, first_of_64(count),
                            _mm512_maskz_compress_epi8(escaped, values));
}

SPECIALISED uint8_t *encode_row8(const struct constants *constants, const struct planes *planes,
                                 const struct rans_encode_job *job, size_t row,
                                 struct states *states, uint8_t *refill, bool partial) {
    struct rans_encoder *encoder = job->encoder;
    struct rans_class class = job->classes[row];
    struct model model = load_model(class.table);
    const int8_t *from = (const int8_t *)job->values + row * RANS_ROW_VALUES;
    __mmask64 live[2] = {partial ? first_of_64(job->count) : ~(__mmask64)0,
                         partial ? first_of_64(job->count > 64 ? job->count - 64 : 0)
                                 : ~(__mmask64)0};
    __m512i values[2] = {_mm512_maskz_loadu_epi8(live[0], from),
                         _mm512_maskz_loadu_epi8(live[1], from + 64)};
    if (class.low_bits > 0) {
        encoder->plane -= class.low_bits * planes->plane_bytes;
        write_planes8(planes, encoder->plane, class.low_bits, values);
    }
    __m512i shift = _mm512_set1_epi64((long long)SHIFT_RIGHT[class.low_bits]);
#pragma GCC unroll 2
    for (size_t group = 2; group-- > 0;) {
        __m512i high = _mm512_gf2p8affine_epi64_epi8(values[group], shift, 0), frequency;
        __mmask64 escaped;
        __m512i symbols = symbols_of(constants, &model, high, &frequency, &escaped);
        if (partial)
            escaped &= live[group];
        if (__builtin_expect(escaped != 0, 0)) {
            push_escapes8(encoder, values[group], escaped);
            symbols = escape_symbols(&model, symbols, &frequency, escaped);
        }
        refill = encode_symbols(constants, &model, states, symbols, frequency, refill,
                                (struct lanes){partial, live[group]});
    }
    return refill;
}

SPECIALISED void encode_job8(const struct rans_encode_job *job, bool partial) {
    struct constants constants = make_constants();
    struct planes planes = make_planes(job->count);
    struct states states = load_states(job->encoder->state);
    uint8_t *refill = job->encoder->refill;
    for (size_t row = job->rows; row-- > 0;)
        refill = encode_row8(&constants, &planes, job, row, &states, refill, partial);
    store_states(states, job->encoder->state);
    job->encoder->refill = refill;
}

void page_rans_encode8_avx512(const struct rans_encode_job *jobs, size_t count) {
    for (const struct rans_encode_job *job = jobs; job < jobs + count; job++)
        if (job->count == RANS_ROW_VALUES)
            encode_job8(job, false);
        else
            encode_job8(job, true);
}

/* ---- rows of int16, which may be longer than a tile's ---- */

SPECIALISED void write_plane_bits(uint8_t *plane, uint64_t bits, size_t count) {
    _mm_mask_storeu_epi8(plane, first_of_16((count + 7) / 8), _mm_cvtsi64_si128((long long)bits));
}

SPECIALISED void write_planes16(uint8_t *planes, size_t plane_bytes, unsigned low_bits,
                                size_t count, const __m512i values[2]) {
    for (unsigned plane = 0; plane < low_bits; plane++) {
        __m512i one = _mm512_set1_epi16((short)(1u << plane));
        uint64_t low = _mm512_test_epi16_mask(values[0], one);
        uint64_t high = _mm512_test_epi16_mask(values[1], one);
        write_plane_bits(planes + plane * plane_bytes, low | high << 32, count);
    }
}

static void push_escapes16(struct rans_encoder *encoder, const __m512i values[2],
                           __mmask64 escaped) {
    for (int half = 2; half-- > 0;) {
        __mmask32 mask = (__mmask32)(escaped >> 32 * half);
        size_t count = (size_t)_mm_popcnt_u32(mask);
        encoder->escape -= 2 * count;
        _mm512_mask_storeu_epi16(encoder->escape, first_of_32(count),
                                 _mm512_maskz_compress_epi16(mask, values[half]));
    }
}

/* Up to 64 values of a row of int16. */
struct group16 {
    __m512i values[2];
    __mmask64 live;
    unsigned low_bits;
};

SPECIALISED uint8_t *encode_group16(const struct constants *constants, const struct model *model,
                                    struct rans_encoder *encoder, const struct group16 *group,
                                    struct states *states, uint8_t *refill) {
    __m128i shift = _mm_cvtsi32_si128((int)group->low_bits);
    __m512i low = _mm512_sra_epi16(group->values[0], shift);
    __m512i high = _mm512_sra_epi16(group->values[1], shift);
    __m512i bytes = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtsepi16_epi8(low)),
                                       _mm512_cvtsepi16_epi8(high), 1);
    __m512i frequency;
    __mmask64 escaped;
    __m512i symbols = symbols_of(constants, model, bytes, &frequency, &escaped);
    escaped &= group->live;
    if (__builtin_expect(escaped != 0, 0)) {
        push_escapes16(encoder, group->values, escaped);
        symbols = escape_symbols(model, symbols, &frequency, escaped);
    }
    return encode_symbols(constants, model, states, symbols, frequency, refill,
                          (struct lanes){true, group->live});
}

SPECIALISED uint8_t *encode_long_row(const struct constants *constants,
                                     const struct rans_encode_job *job, size_t row,
                                     struct states *states, uint8_t *refill) {
    struct rans_encoder *encoder = job->encoder;
    struct rans_class class = job->classes[row];
    struct model model = load_model(class.table);
    const int16_t *from = (const int16_t *)job->values + row * RANS_ROW_VALUES;
    size_t plane_bytes = rans_plane_bytes(job->count);
    encoder->plane -= class.low_bits * plane_bytes;
    for (size_t i = (job->count + RANS_LANES - 1) / RANS_LANES * RANS_LANES; i > 0;) {
        i -= RANS_LANES;
        size_t count = job->count - i < RANS_LANES ? job->count - i : RANS_LANES;
        __mmask64 live = first_of_64(count);
        struct group16 group = {
            .values = {_mm512_maskz_loadu_epi16((__mmask32)live, from + i),
                       _mm512_maskz_loadu_epi16((__mmask32)(live >> 32), from + i + 32)},
            .live = live,
            .low_bits = class.low_bits,
        };
        write_planes16(encoder->plane + i / 8, plane_bytes, class.low_bits, count, group.values);
        refill = encode_group16(constants, &model, encoder, &group, states, refill);
    }
    return refill;
}

void page_rans_encode16_avx512(const struct rans_encode_job *jobs, size_t count) {
    struct constants constants = make_constants();
    for (const struct rans_encode_job *job = jobs; job < jobs + count; job++) {
        struct states states = load_states(job->encoder->state);
        uint8_t *refill = job->encoder->refill;
        for (size_t row = job->rows; row-- > 0;)
            refill = encode_long_row(&constants, job, row, &states, refill);
        store_states(states, job->encoder->state);
        job->encoder->refill = refill;
    }
}

/* ---- what a row costs ---- */

uint32_t page_row_cost_avx512(const int16_t *values, size_t count, unsigned low_bits,
                              const uint16_t cost[PAGE_SYMBOLS]) {
    const __m512i costs = _mm512_loadu_si512(cost), one = _mm512_set1_epi16(1);
    const __m512i half = _mm512_set1_epi16((short)0x8000);
    __m128i shift = _mm_cvtsi32_si128((int)low_bits);
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < count; i += 32) {
        __mmask32 live = first_of_32(count - i);
        __m512i value = _mm512_maskz_loadu_epi16(live, values + i);
        __m512i symbol =
            _mm512_add_epi16(_mm512_sra_epi16(value, shift), _mm512_set1_epi16(RANS_SYMBOL_ZERO));
        __mmask32 inside = _mm512_cmplt_epu16_mask(symbol, _mm512_set1_epi16(PAGE_SYMBOLS));
        symbol = _mm512_maskz_mov_epi16(inside, symbol);
        /* Products of pairs are of signed numbers: half the range is taken off, and put back. */
        __m512i signed_cost = _mm512_maskz_permutexvar_epi16(live, symbol, costs);
        signed_cost = _mm512_xor_si512(signed_cost, half);
        sum = _mm512_add_epi32(sum, _mm512_madd_epi16(signed_cost, one));
    }
    size_t rounded = (count + 31) / 32 * 32;
    return (uint32_t)_mm512_reduce_add_epi32(sum) + (uint32_t)(rounded * 0x8000);
}
