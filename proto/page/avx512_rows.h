/* Rows of a stream, decoded: 64 symbols at a time, two streams interleaved where there are two. */
#ifndef PROTO_PAGE_AVX512_ROWS_H
#define PROTO_PAGE_AVX512_ROWS_H

#include "proto/page/avx512_meanwhile.h"
#include "proto/page/avx512_states.h"

enum { GROUPS = RANS_ROW_VALUES / RANS_LANES };

/* What the loops below hold in registers. */
struct constants {
    __m512i low_byte, slot, behind, zero_symbol, transpose;
};

SPECIALISED struct constants make_constants(void) {
    return (struct constants){
        .low_byte = held(_mm512_set1_epi16(255)),
        .slot = held(_mm512_set1_epi8(PAGE_BUCKET_SLOTS - 1)),
        .behind = held(_mm512_set1_epi8(PAGE_SYMBOLS)),
        .zero_symbol = held(_mm512_set1_epi8(RANS_SYMBOL_ZERO)),
        .transpose = held(_mm512_set1_epi64((long long)0x8040201008040201)),
    };
}

/* Where bit plane 7 - k of eight values stands, for byte k of each of the 64 values' eight words:
 * the order in which a matrix of GF2P8AFFINEQB holds its rows. */
SPECIALISED __m512i plane_index(size_t plane_bytes) {
    const __m512i plane = _mm512_set1_epi64(0x0001020304050607);
    const __m512i word = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
    __m512i even = _mm512_mullo_epi16(_mm512_and_si512(plane, _mm512_set1_epi16(255)),
                                      _mm512_set1_epi16((short)plane_bytes));
    __m512i odd = _mm512_mullo_epi16(_mm512_andnot_si512(_mm512_set1_epi16(255), plane),
                                     _mm512_set1_epi16((short)plane_bytes));
    __m512i bytes = _mm512_mullo_epi64(word, _mm512_set1_epi64(0x0101010101010101));
    return _mm512_add_epi8(_mm512_or_si512(even, odd), bytes);
}

/* A row's low bits; its planes take at most 112 bytes. */
struct planes {
    __m512i bytes[2], index, shift, above;
};

/* The rest of a job's stream, and the row that is being read, as far as they are in registers. */
struct cursor {
    struct states states;
    const uint8_t *refill, *plane, *refill_end, *plane_end, *end;
    const struct rans_class *classes;
    int8_t *values;
    size_t count;
    struct planes planes;
    __m512i symbols[GROUPS];
};

SPECIALISED struct cursor open_cursor(const struct rans_decode_job *job) {
    const struct rans_decoder *decoder = job->decoder;
    return (struct cursor){.states = load_states(decoder->state),
                           .refill = decoder->refill,
                           .plane = decoder->plane,
                           .refill_end = decoder->refill_end,
                           .plane_end = decoder->plane_end,
                           .end = decoder->escape_end,
                           .classes = job->classes,
                           .values = job->values,
                           .count = job->count,
                           .planes.index = plane_index(rans_plane_bytes(job->count))};
}

SPECIALISED void close_cursor(const struct cursor *cursor, struct rans_decoder *decoder) {
    store_states(cursor->states, decoder->state);
    decoder->refill = cursor->refill;
    decoder->plane = cursor->plane;
}

/* The next 64 bytes of refill; those behind the stream are not read where `careful`. Held, because
 * expansion from memory is slow. */
SPECIALISED __m512i next_refill(const uint8_t *refill, const uint8_t *end, bool careful) {
    if (!careful)
        return held(_mm512_loadu_si512(refill));
    return _mm512_maskz_loadu_epi8(first_of_64(refill < end ? (size_t)(end - refill) : 0), refill);
}

/* A step of a stream, and what it needs. */
struct step {
    __m512i refill, run, symbols;
    struct cursor *cursor;
    const struct page_table *table;
    __mmask64 live; /* lanes that have a symbol */
};

/* The run of slots that each state is in. Permutations take the six low bits of an index: those
 * above need not be cleared. */
SPECIALISED void find_runs(const struct constants *constants, struct step *steps, size_t count) {
    __m512i bucket[2], own[2];
#pragma GCC unroll 2
    for (size_t i = 0; i < count; i++)
        bucket[i] = _mm512_srli_epi16(steps[i].cursor->states.low, 3);
#pragma GCC unroll 2
    for (size_t i = 0; i < count; i++)
        own[i] = _mm512_permutexvar_epi8(bucket[i], _mm512_load_si512(steps[i].table->own));
#pragma GCC unroll 2
    for (size_t i = 0; i < count; i++) {
        __m512i slot = _mm512_and_si512(steps[i].cursor->states.low, constants->slot);
        /* Bit 5 is set unless the slot is below `own`; the others are the bucket's. */
        steps[i].run = _mm512_ternarylogic_epi32(constants->behind, _mm512_sub_epi8(slot, own[i]),
                                                 bucket[i], 0x3a);
    }
}

/* frequency * high + rank, as low and high bytes. Even lanes are in the low halves of words, odd
 * ones in the high halves. */
SPECIALISED void advance(const struct constants *constants, const struct step *steps, size_t count,
                         struct states *next) {
    const __m512i low_byte = constants->low_byte;
    __m512i frequency[2], rank[2], even[2], odd[2];
#pragma GCC unroll 2
    for (size_t i = 0; i < count; i++) {
        const struct page_table *table = steps[i].table;
        frequency[i] = _mm512_permutexvar_epi8(steps[i].run, _mm512_load_si512(table->frequency));
        rank[i] = _mm512_permutexvar_epi8(steps[i].run, _mm512_load_si512(table->offset));
    }
#pragma GCC unroll 2
    for (size_t i = 0; i < count; i++) {
        __m512i high = steps[i].cursor->states.high;
        even[i] = _mm512_mullo_epi16(_mm512_and_si512(frequency[i], low_byte),
                                     _mm512_and_si512(high, low_byte));
        odd[i] = _mm512_mulhi_epu16(_mm512_andnot_si512(low_byte, frequency[i]),
                                    _mm512_andnot_si512(low_byte, high));
        rank[i] = _mm512_add_epi8(rank[i], steps[i].cursor->states.low);
    }
#pragma GCC unroll 2
    for (size_t i = 0; i < count; i++) {
        even[i] = _mm512_add_epi16(even[i], _mm512_and_si512(rank[i], low_byte));
        odd[i] = _mm512_add_epi16(odd[i], _mm512_srli_epi16(rank[i], 8));
    }
#pragma GCC unroll 2
    for (size_t i = 0; i < count; i++) { /* a | (b & ~c), then a | (b & c) */
        next[i].high =
            _mm512_ternarylogic_epi32(_mm512_srli_epi16(even[i], 8), odd[i], low_byte, 0xf4);
        next[i].low =
            _mm512_ternarylogic_epi32(_mm512_slli_epi16(odd[i], 8), even[i], low_byte, 0xf8);
    }
}

/* A byte of refill to each state that has fallen below 256. */
SPECIALISED void refill_states(struct step *steps, size_t count, bool partial,
                               struct states *next) {
#pragma GCC unroll 2
    for (size_t i = 0; i < count; i++) {
        struct cursor *cursor = steps[i].cursor;
        __m512i low = next[i].low, high = next[i].high;
        __mmask64 live = steps[i].live;
        __mmask64 needs = partial ? _mm512_mask_testn_epi8_mask(live, high, high)
                                  : _mm512_testn_epi8_mask(high, high);
        high = _mm512_mask_mov_epi8(high, needs, low);
        low = _mm512_mask_expand_epi8(low, needs, steps[i].refill);
        cursor->refill += _mm_popcnt_u64(needs);
        cursor->states.low = partial ? _mm512_mask_mov_epi8(cursor->states.low, live, low) : low;
        cursor->states.high =
            partial ? _mm512_mask_mov_epi8(cursor->states.high, live, high) : high;
    }
}

/* One symbol of each lane, `live` ones alone if `partial`. Two streams go in lockstep, operation by
 * operation: a processor looks ahead about one step, and would do one stream after the other. */
SPECIALISED void decode_symbols(const struct constants *constants, struct step *steps, size_t count,
                                bool partial) {
    struct states next[2];
    find_runs(constants, steps, count);
    advance(constants, steps, count, next);
    refill_states(steps, count, partial, next);
#pragma GCC unroll 2
    for (size_t i = 0; i < count; i++)
        steps[i].symbols =
            _mm512_permutexvar_epi8(steps[i].run, _mm512_load_si512(steps[i].table->symbol));
}

/* ---- low bits ---- */

/* Multiplication of bytes by 1 << r, as a matrix over their bits, and the bits from r on. */
static const struct {
    uint64_t shift, above;
} by_low_bits[RANS_NARROW_BITS + 1] = {
    {0x0102040810204080, 0xffffffffffffffff}, {0x0001020408102040, 0xfefefefefefefefe},
    {0x0000010204081020, 0xfcfcfcfcfcfcfcfc}, {0x0000000102040810, 0xf8f8f8f8f8f8f8f8},
    {0x0000000001020408, 0xf0f0f0f0f0f0f0f0}, {0x0000000000010204, 0xe0e0e0e0e0e0e0e0},
    {0x0000000000000102, 0xc0c0c0c0c0c0c0c0}, {0x0000000000000001, 0x8080808080808080},
};

/* False if the stream does not have them. */
SPECIALISED bool load_planes(size_t row, struct cursor *cursor) {
    struct planes *planes = &cursor->planes;
    unsigned low_bits = cursor->classes[row].low_bits;
    size_t bytes = low_bits * rans_plane_bytes(cursor->count);
    if ((size_t)(cursor->plane_end - cursor->plane) < bytes)
        return false;
    if (cursor->end - cursor->plane >= 128) {
        planes->bytes[0] = _mm512_loadu_si512(cursor->plane);
        planes->bytes[1] = _mm512_loadu_si512(cursor->plane + 64);
    } else {
        planes->bytes[0] = _mm512_maskz_loadu_epi8(first_of_64(bytes), cursor->plane);
        planes->bytes[1] =
            _mm512_maskz_loadu_epi8(first_of_64(bytes > 64 ? bytes - 64 : 0), cursor->plane + 64);
    }
    planes->shift = _mm512_set1_epi64((long long)by_low_bits[low_bits].shift);
    planes->above = _mm512_set1_epi64((long long)by_low_bits[low_bits].above);
    cursor->plane += bytes;
    return true;
}

SPECIALISED __m512i join_planes(const struct constants *constants, const struct planes *planes,
                                size_t group, __m512i high) {
    __m512i index = planes->index;
    if (group > 0)
        index = _mm512_add_epi8(index, _mm512_set1_epi8(8));
    __m512i bits = _mm512_permutex2var_epi8(planes->bytes[0], index, planes->bytes[1]);
    bits = _mm512_gf2p8affine_epi64_epi8(constants->transpose, bits, 0);
    high = _mm512_gf2p8affine_epi64_epi8(high, planes->shift, 0);
    return _mm512_ternarylogic_epi32(planes->above, high, bits, 0xca); /* a ? b : c */
}

/* ---- rows of int8 ---- */

/* Those of a group's lanes that have a value. */
SPECIALISED __mmask64 live_lanes(size_t count, size_t group) {
    return first_of_64(count > group * RANS_LANES ? count - group * RANS_LANES : 0);
}

/* Replaces a row's escapes; false if the stream ends before them. */
static __attribute__((noinline)) bool read_escapes8(const struct rans_decode_job *job, size_t row,
                                                    __m512i first, __m512i second) {
    const __m512i symbols[GROUPS] = {first, second};
    struct rans_decoder *decoder = job->decoder;
    for (size_t group = 0; group < GROUPS; group++) {
        if (job->count <= group * RANS_LANES)
            break;
        __mmask64 escaped = _mm512_mask_testn_epi8_mask(live_lanes(job->count, group),
                                                        symbols[group], symbols[group]);
        size_t count = (size_t)_mm_popcnt_u64(escaped);
        if ((size_t)(decoder->escape_end - decoder->escape) < count)
            return false;
        int8_t *values = (int8_t *)job->values + row * RANS_ROW_VALUES + group * RANS_LANES;
        __m512i escapes = _mm512_maskz_loadu_epi8(first_of_64(count), decoder->escape);
        _mm512_mask_storeu_epi8(values, escaped, _mm512_maskz_expand_epi8(escaped, escapes));
        decoder->escape += count;
    }
    return true;
}

struct row_kind {
    bool low_bits;
    bool partial; /* not of 128 values, but of more than 64, or careful too */
    bool careful; /* near a stream's end */
};

/* Values of a row's group of each stream; their symbols too, and the least of these and `least`. */
SPECIALISED __m512i decode_group8(const struct constants *constants, size_t row, size_t group,
                                  struct cursor *cursors, size_t count, struct row_kind kind,
                                  __m512i least) {
    bool partial = kind.partial && (kind.careful || group == GROUPS - 1);
    PAGE_SCRATCH struct step steps[2];
#pragma GCC unroll 2
    for (size_t i = 0; i < count; i++)
        steps[i] = (struct step){
            .cursor = &cursors[i],
            .table = &page_tables[cursors[i].classes[row].table],
            .refill = next_refill(cursors[i].refill, cursors[i].end, kind.careful),
            .live = partial ? live_lanes(cursors[i].count, group) : ~(__mmask64)0,
        };
    decode_symbols(constants, steps, count, partial);
#pragma GCC unroll 2
    for (size_t i = 0; i < count; i++) {
        __m512i values = _mm512_sub_epi8(steps[i].symbols, constants->zero_symbol);
        if (kind.low_bits)
            values = join_planes(constants, &cursors[i].planes, group, values);
        _mm512_store_si512(cursors[i].values + row * RANS_ROW_VALUES + group * RANS_LANES, values);
        cursors[i].symbols[group] = steps[i].symbols;
        least = partial ? _mm512_mask_min_epu8(least, steps[i].live, least, steps[i].symbols)
                        : _mm512_min_epu8(least, steps[i].symbols);
    }
    return least;
}

/* A row of each job, and a token of `meanwhile` to each 64 symbols. */
SPECIALISED bool decode_rows8(const struct constants *constants, const struct rans_decode_job *jobs,
                              size_t count, size_t row, struct cursor *cursors,
                              struct row_kind kind, struct meanwhile *meanwhile) {
    __m512i least = _mm512_set1_epi8(-1);
    bool whole = true;
    for (size_t i = 0; kind.low_bits && i < count; i++)
        if (!load_planes(row, &cursors[i]))
            return false;
#pragma GCC unroll 2
    for (size_t group = 0; group < GROUPS; group++) {
        if (!kind.careful || cursors[0].count > group * RANS_LANES)
            least = decode_group8(constants, row, group, cursors, count, kind, least);
        for (size_t i = 0; i < count && meanwhile != NULL; i++)
            meanwhile_token(meanwhile, group * count + i);
    }
    if (__builtin_expect(_mm512_testn_epi8_mask(least, least) != 0, 0)) /* a symbol 0 */
        for (size_t i = 0; i < count; i++)
            whole &= read_escapes8(&jobs[i], row, cursors[i].symbols[0], cursors[i].symbols[1]);
    for (size_t i = 0; i < count; i++)
        whole &= cursors[i].refill <= cursors[i].refill_end;
    return whole;
}

/* Whether what a row may take of refill, and what is read with it, may leave the stream. */
SPECIALISED bool is_near_end(const struct cursor *cursor) {
    return cursor->end - cursor->refill < RANS_ROW_VALUES;
}

/* The rows from `row` on, however few values they have and however near the stream's end they are.
 */
static __attribute__((noinline)) bool decode_last_rows8(const struct rans_decode_job *job,
                                                        size_t row) {
    struct constants constants = make_constants();
    struct cursor cursor = open_cursor(job);
    bool whole = true;
    for (; row < job->rows && whole; row++)
        whole = decode_rows8(&constants, job, 1, row, &cursor, (struct row_kind){true, true, true},
                             NULL);
    close_cursor(&cursor, job->decoder);
    return whole;
}

/* One or two jobs that have as many rows, of more than 64 values. `meanwhile` may be NULL. */
SPECIALISED bool decode_jobs8(const struct rans_decode_job *jobs, size_t count, bool partial,
                              struct meanwhile *meanwhile) {
    struct constants constants = make_constants();
    PAGE_SCRATCH struct cursor cursors[2];
    bool whole = true;
    size_t row = 0;
    for (size_t i = 0; i < count; i++)
        cursors[i] = open_cursor(&jobs[i]);
    for (; row < jobs[0].rows && whole; row++) {
        bool near_end = false, low_bits = false;
        for (size_t i = 0; i < count; i++) {
            near_end |= is_near_end(&cursors[i]);
            low_bits |= cursors[i].classes[row].low_bits > 0;
        }
        if (__builtin_expect(near_end, 0))
            break;
        if (meanwhile != NULL)
            meanwhile_row(meanwhile, 2 * count);
        if (low_bits)
            whole = decode_rows8(&constants, jobs, count, row, cursors,
                                 (struct row_kind){true, partial, false}, meanwhile);
        else
            whole = decode_rows8(&constants, jobs, count, row, cursors,
                                 (struct row_kind){false, partial, false}, meanwhile);
    }
    for (size_t i = 0; i < count; i++)
        close_cursor(&cursors[i], jobs[i].decoder);
    for (size_t i = 0; i < count && whole; i++)
        whole = decode_last_rows8(&jobs[i], row);
    return whole;
}

#endif
