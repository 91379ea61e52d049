/* Encoding rows of a stream backwards: 64 symbols at a time. */
#include "proto/page/avx512_states.h"
#include "proto/page/workspace.h"

struct constants {
    __m512i low_byte, zero_symbol, symbols;
};

SPECIALISED struct constants make_constants(void) {
    return (struct constants){
        .low_byte = held(_mm512_set1_epi16(255)),
        .zero_symbol = held(_mm512_set1_epi8(RANS_SYMBOL_ZERO)),
        .symbols = held(_mm512_set1_epi8(PAGE_SYMBOLS)),
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

/* Puts the bytes of the lanes in `full` before the refill written so far. */
SPECIALISED uint8_t *put_refill(uint8_t *refill, __m512i bytes, __mmask64 full) {
    size_t count = (size_t)_mm_popcnt_u64(full);
    refill -= count;
    _mm512_mask_storeu_epi8(refill, _bzhi_u64(~(uint64_t)0, (unsigned)count),
                            _mm512_maskz_compress_epi8(full, bytes));
    return refill;
}

/* The slots of the ranks. */
SPECIALISED __m512i slots_of(const struct model *model, __m512i rank) {
    __m512i low = _mm512_permutex2var_epi8(model->slot[0], rank, model->slot[1]);
    __m512i high = _mm512_permutex2var_epi8(model->slot[2], rank, model->slot[3]);
    return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(rank), high);
}

/* What goes onto the states next: a symbol of each lane that takes part, which all do unless
 * `partial`. */
struct turn {
    __m512i symbols, frequency;
    bool partial;
    __mmask64 live;
};

/* 16-bit numbers of a register's even bytes' lanes, and of its odd ones'. */
struct halves {
    __m512i even, odd;
};

/* The even lanes' low bytes, and the odd lanes'. */
SPECIALISED __m512i join_low_bytes(const struct constants *constants, struct halves numbers) {
    /* a & c | b & ~c, and the like, put lanes together */
    return _mm512_ternarylogic_epi32(_mm512_slli_epi16(numbers.odd, 8), numbers.even,
                                     constants->low_byte, 0xf8);
}

/* States from which a byte of refill has been taken if that was to be. */
SPECIALISED struct halves make_room(const struct constants *constants, const struct states *states,
                                    const struct turn *turn, uint8_t **refill) {
    const __m512i low_byte = constants->low_byte;
    __m512i low = states->low, high = states->high;
    __mmask64 full = turn->partial ? _mm512_mask_cmpge_epu8_mask(turn->live, high, turn->frequency)
                                   : _mm512_cmpge_epu8_mask(high, turn->frequency);
    *refill = put_refill(*refill, low, full);
    low = _mm512_mask_mov_epi8(low, full, high);
    high = _mm512_mask_mov_epi8(high, full, _mm512_setzero_si512());
    return (struct halves){
        .even = _mm512_ternarylogic_epi32(_mm512_slli_epi16(high, 8), low, low_byte, 0xf8),
        .odd = _mm512_ternarylogic_epi32(_mm512_srli_epi16(low, 8), high, low_byte, 0xf4)};
}

/* States' quotient by the frequencies, and what is left over. */
struct quotient {
    __m512i quotient, rest;
};

SPECIALISED struct quotient divide(const struct constants *constants, const struct model *model,
                                   const struct turn *turn, struct halves state) {
    const __m512i low_byte = constants->low_byte;
    struct halves frequency = {_mm512_and_si512(turn->frequency, low_byte),
                               _mm512_srli_epi16(turn->frequency, 8)};
    struct halves reciprocal = {
        _mm512_permutexvar_epi16(turn->symbols, model->reciprocal),
        _mm512_permutexvar_epi16(_mm512_srli_epi16(turn->symbols, 8), model->reciprocal)};
    struct halves quotient = {_mm512_mulhi_epu16(state.even, reciprocal.even),
                              _mm512_mulhi_epu16(state.odd, reciprocal.odd)};
    struct halves rest = {
        _mm512_sub_epi16(state.even, _mm512_mullo_epi16(quotient.even, frequency.even)),
        _mm512_sub_epi16(state.odd, _mm512_mullo_epi16(quotient.odd, frequency.odd))};
    /* The reciprocal is rounded down: a rest may be one frequency too large, its quotient one too
     * small. Less a frequency it is then not negative, and its high byte 0 instead of 255. */
    struct halves less = {_mm512_sub_epi16(rest.even, frequency.even),
                          _mm512_sub_epi16(rest.odd, frequency.odd)};
    rest.even = _mm512_min_epu16(rest.even, less.even);
    rest.odd = _mm512_min_epu16(rest.odd, less.odd);
    __m512i too_small = _mm512_ternarylogic_epi32(_mm512_srli_epi16(less.even, 8), less.odd,
                                                  low_byte, 0x0b); /* ~(a | b & ~c) */
    return (struct quotient){.quotient =
                                 _mm512_sub_epi8(join_low_bytes(constants, quotient), too_small),
                             .rest = join_low_bytes(constants, rest)};
}

SPECIALISED void set_states(const struct constants *constants, const struct model *model,
                            const struct turn *turn, struct quotient divided,
                            struct states *states) {
    __m512i start =
        _mm512_permutexvar_epi8(_mm512_or_si512(turn->symbols, constants->symbols), model->numbers);
    __m512i low = slots_of(model, _mm512_add_epi8(divided.rest, start));
    __m512i high = divided.quotient;
    states->low = turn->partial ? _mm512_mask_mov_epi8(states->low, turn->live, low) : low;
    states->high = turn->partial ? _mm512_mask_mov_epi8(states->high, turn->live, high) : high;
}

/* A job on the way. */
struct stream {
    struct states states;
    struct rans_encoder *encoder;
    uint8_t *refill;
};

SPECIALISED struct stream open_stream(struct rans_encoder *encoder) {
    return (struct stream){load_states(encoder->state), encoder, encoder->refill};
}

SPECIALISED void close_stream(const struct stream *stream) {
    store_states(stream->states, stream->encoder->state);
    stream->encoder->refill = stream->refill;
}

/* A turn of one or two streams, step by step: each step waits for the one before. */
SPECIALISED void encode_turns(const struct constants *constants, struct stream *streams,
                              const struct model *models, const struct turn *turns, size_t count) {
    PAGE_SCRATCH struct halves states[2];
    PAGE_SCRATCH struct quotient divided[2];
#pragma GCC unroll 2
    for (size_t i = 0; i < count; i++)
        states[i] = make_room(constants, &streams[i].states, &turns[i], &streams[i].refill);
#pragma GCC unroll 2
    for (size_t i = 0; i < count; i++)
        divided[i] = divide(constants, &models[i], &turns[i], states[i]);
#pragma GCC unroll 2
    for (size_t i = 0; i < count; i++)
        set_states(constants, &models[i], &turns[i], divided[i], &streams[i].states);
}

/* Symbols and their frequencies, high parts of values being given. Returns which lanes have to
 * escape: those of number 0, whose frequency is the escape's, and of numbers without a frequency.
 * What is above the last symbol becomes the number behind it, which stands for the first symbol's
 * start: 0. */
SPECIALISED __mmask64 take_symbols(const struct constants *constants, const struct model *model,
                                   __m512i high, struct turn *turn) {
    __m512i symbols = _mm512_add_epi8(high, constants->zero_symbol);
    turn->symbols = _mm512_min_epu8(symbols, constants->symbols);
    turn->frequency = _mm512_permutexvar_epi8(turn->symbols, model->numbers);
    __m512i least = _mm512_min_epu8(turn->symbols, turn->frequency);
    return turn->partial ? _mm512_mask_testn_epi8_mask(turn->live, least, least)
                         : _mm512_testn_epi8_mask(least, least);
}

/* Escapes where `escaped`. */
SPECIALISED void take_escapes(const struct model *model, __mmask64 escaped, struct turn *turn) {
    __m128i numbers = _mm512_castsi512_si128(model->numbers);
    turn->frequency = _mm512_mask_broadcastb_epi8(turn->frequency, escaped, numbers);
    turn->symbols = _mm512_mask_mov_epi8(turn->symbols, escaped, _mm512_setzero_si512());
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
    size_t i = 0;
    for (size_t plane = 0; plane < RANS_NARROW_BITS; plane++)
        for (size_t byte = 0; byte < planes.plane_bytes; byte++, i++)
            index[i / 64][i % 64] = (uint8_t)(byte * 8 + plane);
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

struct row8 {
    __m512i values[2], shift;
    __mmask64 live[2];
};

/* Loads a row and writes its planes. */
SPECIALISED struct row8 open_row8(const struct rans_encode_job *job, const struct planes *planes,
                                  size_t row, bool partial) {
    struct rans_encoder *encoder = job->encoder;
    struct rans_class class = job->classes[row];
    const int8_t *from = (const int8_t *)job->values + row * RANS_ROW_VALUES;
    struct row8 opened = {
        .shift = _mm512_set1_epi64((long long)SHIFT_RIGHT[class.low_bits]),
        .live = {partial ? first_of_64(job->count) : ~(__mmask64)0,
                 partial ? first_of_64(job->count > 64 ? job->count - 64 : 0) : ~(__mmask64)0},
    };
    for (size_t group = 0; group < 2; group++)
        opened.values[group] = _mm512_maskz_loadu_epi8(opened.live[group], from + 64 * group);
    if (class.low_bits > 0) {
        encoder->plane -= class.low_bits * planes->plane_bytes;
        write_planes8(planes, encoder->plane, class.low_bits, opened.values);
    }
    return opened;
}

SPECIALISED struct turn turn8(const struct constants *constants, struct rans_encoder *encoder,
                              const struct model *model, const struct row8 *row, size_t group,
                              bool partial) {
    struct turn turn = {.partial = partial, .live = row->live[group]};
    __m512i high = _mm512_gf2p8affine_epi64_epi8(row->values[group], row->shift, 0);
    __mmask64 escaped = take_symbols(constants, model, high, &turn);
    if (__builtin_expect(escaped != 0, 0)) {
        push_escapes8(encoder, row->values[group], escaped);
        take_escapes(model, escaped, &turn);
    }
    return turn;
}

/* One job, or two of as many rows, a group of each in turn: a stream waits for its states most of
 * the time. */
SPECIALISED void encode_jobs8(const struct rans_encode_job *jobs, size_t count, bool partial) {
    struct constants constants = make_constants();
    PAGE_SCRATCH struct stream streams[2];
    PAGE_SCRATCH struct planes planes[2];
    for (size_t i = 0; i < count; i++) {
        streams[i] = open_stream(jobs[i].encoder);
        planes[i] = make_planes(jobs[i].count);
    }
    for (size_t row = jobs->rows; row-- > 0;) {
        PAGE_SCRATCH struct row8 rows[2];
        PAGE_SCRATCH struct turn turns[2];
        PAGE_SCRATCH struct model models[2];
#pragma GCC unroll 2
        for (size_t i = 0; i < count; i++) {
            models[i] = load_model(jobs[i].classes[row].table);
            rows[i] = open_row8(&jobs[i], &planes[i], row, partial);
        }
#pragma GCC unroll 2
        for (size_t group = 2; group-- > 0;) {
#pragma GCC unroll 2
            for (size_t i = 0; i < count; i++)
                turns[i] = turn8(&constants, jobs[i].encoder, &models[i], &rows[i], group, partial);
            encode_turns(&constants, streams, models, turns, count);
        }
    }
    for (size_t i = 0; i < count; i++)
        close_stream(&streams[i]);
}

static void encode_one8(const struct rans_encode_job *job) {
    if (job->count == RANS_ROW_VALUES)
        encode_jobs8(job, 1, false);
    else
        encode_jobs8(job, 1, true);
}

void page_rans_encode8_avx512(const struct rans_encode_job *jobs, size_t count) {
    if (count == 1) {
        encode_one8(jobs);
    } else if (jobs[0].rows != jobs[1].rows) {
        encode_one8(&jobs[0]);
        encode_one8(&jobs[1]);
    } else if (jobs[0].count == RANS_ROW_VALUES && jobs[1].count == RANS_ROW_VALUES) {
        encode_jobs8(jobs, 2, false);
    } else {
        encode_jobs8(jobs, 2, true);
    }
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

SPECIALISED void encode_group16(const struct constants *constants, const struct model *model,
                                struct stream *stream, const struct group16 *group) {
    struct turn turn = {.partial = true, .live = group->live};
    __m128i shift = _mm_cvtsi32_si128((int)group->low_bits);
    __m512i low = _mm512_sra_epi16(group->values[0], shift);
    __m512i high = _mm512_sra_epi16(group->values[1], shift);
    __m512i bytes = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtsepi16_epi8(low)),
                                       _mm512_cvtsepi16_epi8(high), 1);
    __mmask64 escaped = take_symbols(constants, model, bytes, &turn);
    if (__builtin_expect(escaped != 0, 0)) {
        push_escapes16(stream->encoder, group->values, escaped);
        take_escapes(model, escaped, &turn);
    }
    encode_turns(constants, stream, model, &turn, 1);
}

SPECIALISED void encode_long_row(const struct constants *constants,
                                 const struct rans_encode_job *job, size_t row,
                                 struct stream *stream) {
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
        encode_group16(constants, &model, stream, &group);
    }
}

void page_rans_encode16_avx512(const struct rans_encode_job *jobs, size_t count) {
    struct constants constants = make_constants();
    for (const struct rans_encode_job *job = jobs; job < jobs + count; job++) {
        struct stream stream = open_stream(job->encoder);
        for (size_t row = job->rows; row-- > 0;)
            encode_long_row(&constants, job, row, &stream);
        close_stream(&stream);
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
