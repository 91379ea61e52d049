/* Decoding rows of a stream: 64 symbols at a time, two streams interleaved where there are two. */
#include "proto/page/avx512_states.h"

enum { GROUPS = RANS_ROW_VALUES / RANS_LANES };

/* What the loops below hold in registers. */
struct constants {
    __m512i low_byte, bucket, slot, behind, zero_symbol, transpose;
};

SPECIALISED struct constants make_constants(void) {
    return (struct constants){
        .low_byte = held(_mm512_set1_epi16(255)),
        .bucket = held(_mm512_set1_epi8(PAGE_SYMBOLS - 1)),
        .slot = held(_mm512_set1_epi8(PAGE_BUCKET_SLOTS - 1)),
        .behind = held(_mm512_set1_epi8(PAGE_SYMBOLS)),
        .zero_symbol = held(_mm512_set1_epi8(RANS_SYMBOL_ZERO)),
        .transpose = held(_mm512_set1_epi64((long long)0x8040201008040201)),
    };
}

/* The rest of a job's stream, as far as it is in registers. */
struct cursor {
    struct states states;
    const uint8_t *refill, *plane;
};

/* The next 64 bytes of refill; those behind the stream are not read where `careful`. */
SPECIALISED __m512i next_refill(const uint8_t *refill, const uint8_t *end, bool careful) {
    if (!careful)
        return _mm512_loadu_si512(refill);
    return _mm512_maskz_loadu_epi8(first_of_64(refill < end ? (size_t)(end - refill) : 0), refill);
}

/* One symbol of each lane, `live` ones alone if `partial`. */
SPECIALISED __m512i decode_symbols(const struct constants *constants, struct cursor *cursor,
                                   const struct page_table *table, __m512i refill, bool partial,
                                   __mmask64 live) {
    const __m512i low_byte = constants->low_byte;
    __m512i low = cursor->states.low, high = cursor->states.high;
    __m512i bucket = _mm512_and_si512(_mm512_srli_epi16(low, 3), constants->bucket);
    __m512i own = _mm512_permutexvar_epi8(bucket, _mm512_loadu_si512(table->own));
    __mmask64 behind = _mm512_cmpge_epu8_mask(_mm512_and_si512(low, constants->slot), own);
    __m512i run = _mm512_mask_add_epi8(bucket, behind, bucket, constants->behind);
    __m512i frequency = _mm512_permutexvar_epi8(run, _mm512_load_si512(table->frequency));
    __m512i rank = _mm512_permutexvar_epi8(run, _mm512_load_si512(table->offset));
    rank = _mm512_add_epi8(rank, low);
    /* frequency * high + rank: even lanes in the low halves, odd lanes from the high ones */
    __m512i even =
        _mm512_mullo_epi16(_mm512_and_si512(frequency, low_byte), _mm512_and_si512(high, low_byte));
    __m512i odd = _mm512_mulhi_epu16(_mm512_andnot_si512(low_byte, frequency),
                                     _mm512_andnot_si512(low_byte, high));
    even = _mm512_add_epi16(even, _mm512_and_si512(rank, low_byte));
    odd = _mm512_add_epi16(odd, _mm512_srli_epi16(rank, 8));
    /* a | (b & ~c), then a | (b & c) */
    __m512i new_high = _mm512_ternarylogic_epi32(_mm512_srli_epi16(even, 8), odd, low_byte, 0xf4);
    __m512i new_low = _mm512_ternarylogic_epi32(_mm512_slli_epi16(odd, 8), even, low_byte, 0xf8);
    __mmask64 needs = partial ? _mm512_mask_testn_epi8_mask(live, new_high, new_high)
                              : _mm512_testn_epi8_mask(new_high, new_high);
    new_high = _mm512_mask_mov_epi8(new_high, needs, new_low);
    new_low = _mm512_mask_expand_epi8(new_low, needs, refill);
    cursor->refill += _mm_popcnt_u64(needs);
    cursor->states.low = partial ? _mm512_mask_mov_epi8(low, live, new_low) : new_low;
    cursor->states.high = partial ? _mm512_mask_mov_epi8(high, live, new_high) : new_high;
    return _mm512_permutexvar_epi8(run, _mm512_load_si512(table->symbol));
}

/* ---- rows of int8 ---- */

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

/* Multiplies bytes by 1 << r, as a matrix over their bits. */
static const uint64_t SHIFT_LEFT[8] = {
    0x0102040810204080, 0x0001020408102040, 0x0000010204081020, 0x0000000102040810,
    0x0000000001020408, 0x0000000000010204, 0x0000000000000102, 0x0000000000000001,
};

/* A row's low bits. */
struct planes {
    __m512i bytes[2], index, shift, above;
};

SPECIALISED void load_planes(struct planes *planes, const uint8_t *plane, size_t plane_bytes,
                             unsigned low_bits) {
    size_t bytes = low_bits * plane_bytes;
    planes->bytes[0] = _mm512_maskz_loadu_epi8(first_of_64(bytes), plane);
    planes->bytes[1] =
        _mm512_maskz_loadu_epi8(first_of_64(bytes > 64 ? bytes - 64 : 0), plane + 64);
    planes->shift = _mm512_set1_epi64((long long)SHIFT_LEFT[low_bits]);
    planes->above = _mm512_set1_epi8((char)(0xff << low_bits));
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

/* Replaces a row's escapes; false if the stream ends before them. */
static __attribute__((noinline)) bool
read_escapes8(struct rans_decoder *decoder, const __mmask64 escaped[GROUPS], int8_t *values) {
    for (size_t group = 0; group < GROUPS; group++) {
        size_t count = (size_t)_mm_popcnt_u64(escaped[group]);
        if (count == 0)
            continue;
        if ((size_t)(decoder->escape_end - decoder->escape) < count)
            return false;
        __m512i escapes = _mm512_maskz_loadu_epi8(first_of_64(count), decoder->escape);
        __m512i row = _mm512_loadu_si512(values + group * RANS_LANES);
        row = _mm512_mask_expand_epi8(row, escaped[group], escapes);
        _mm512_storeu_si512(values + group * RANS_LANES, row);
        decoder->escape += count;
    }
    return true;
}

SPECIALISED bool load_row_planes(const struct rans_decode_job *job, struct cursor *cursor,
                                 struct planes *planes, unsigned low_bits) {
    size_t plane_bytes = rans_plane_bytes(job->count), bytes = low_bits * plane_bytes;
    if ((size_t)(job->decoder->plane_end - cursor->plane) < bytes)
        return false;
    load_planes(planes, cursor->plane, plane_bytes, low_bits);
    cursor->plane += bytes;
    return true;
}

struct row_kind {
    bool low_bits;
    bool partial; /* not of 128 values */
    bool careful; /* near a stream's end */
};

/* A row of each job. */
SPECIALISED bool decode_rows8(const struct constants *constants, const struct rans_decode_job *jobs,
                              size_t count, size_t row, struct cursor *cursors,
                              struct planes *planes, struct row_kind kind) {
    bool whole = true;
    __mmask64 escaped[2][GROUPS] = {{0}}, any = 0;
    for (size_t i = 0; kind.low_bits && i < count; i++)
        if (!load_row_planes(&jobs[i], &cursors[i], &planes[i], jobs[i].classes[row].low_bits))
            return false;
#pragma GCC unroll 2
    for (size_t group = 0; group < GROUPS; group++) {
#pragma GCC unroll 2
        for (size_t i = 0; i < count; i++) {
            size_t at = group * RANS_LANES, left = jobs[i].count > at ? jobs[i].count - at : 0;
            if (kind.partial && left == 0)
                continue;
            __mmask64 live = kind.partial ? first_of_64(left) : ~(__mmask64)0;
            __m512i refill =
                next_refill(cursors[i].refill, jobs[i].decoder->escape_end, kind.careful);
            __m512i symbols =
                decode_symbols(constants, &cursors[i], &page_tables[jobs[i].classes[row].table],
                               refill, kind.partial, live);
            escaped[i][group] = kind.partial ? _mm512_mask_testn_epi8_mask(live, symbols, symbols)
                                             : _mm512_testn_epi8_mask(symbols, symbols);
            any |= escaped[i][group];
            __m512i values = _mm512_sub_epi8(symbols, constants->zero_symbol);
            if (kind.low_bits)
                values = join_planes(constants, &planes[i], group, values);
            _mm512_storeu_si512((int8_t *)jobs[i].values + row * RANS_ROW_VALUES + at, values);
        }
    }
    if (__builtin_expect(any != 0, 0))
        for (size_t i = 0; i < count; i++)
            whole &= read_escapes8(jobs[i].decoder, escaped[i],
                                   (int8_t *)jobs[i].values + row * RANS_ROW_VALUES);
    for (size_t i = 0; i < count; i++)
        whole &= cursors[i].refill <= jobs[i].decoder->refill_end;
    return whole;
}

SPECIALISED bool decode_jobs8(const struct rans_decode_job *jobs, size_t count, size_t rows,
                              bool partial) {
    struct constants constants = make_constants();
    struct cursor cursors[2];
    struct planes planes[2];
    bool whole = true;
    for (size_t i = 0; i < count; i++) {
        struct rans_decoder *decoder = jobs[i].decoder;
        cursors[i].states = load_states(decoder->state);
        cursors[i].refill = decoder->refill;
        cursors[i].plane = decoder->plane;
        planes[i].index = plane_index(rans_plane_bytes(jobs[i].count));
    }
    for (size_t row = 0; row < rows && whole; row++) {
        bool careful = false, low_bits = false;
        for (size_t i = 0; i < count; i++) {
            careful |= jobs[i].decoder->escape_end - cursors[i].refill < RANS_ROW_VALUES;
            low_bits |= jobs[i].classes[row].low_bits > 0;
        }
        if (__builtin_expect(careful, 0))
            whole = decode_rows8(&constants, jobs, count, row, cursors, planes,
                                 (struct row_kind){true, true, true});
        else if (low_bits)
            whole = decode_rows8(&constants, jobs, count, row, cursors, planes,
                                 (struct row_kind){true, partial, false});
        else
            whole = decode_rows8(&constants, jobs, count, row, cursors, planes,
                                 (struct row_kind){false, partial, false});
    }
    for (size_t i = 0; i < count; i++) {
        store_states(cursors[i].states, jobs[i].decoder->state);
        jobs[i].decoder->refill = cursors[i].refill;
        jobs[i].decoder->plane = cursors[i].plane;
    }
    return whole;
}

static bool decode_one8(const struct rans_decode_job *job) {
    return job->count == RANS_ROW_VALUES ? decode_jobs8(job, 1, job->rows, false)
                                         : decode_jobs8(job, 1, job->rows, true);
}

bool page_rans_decode8_avx512(const struct rans_decode_job *jobs, size_t count) {
    if (count == 1)
        return decode_one8(jobs);
    if (jobs[0].rows != jobs[1].rows)
        return decode_one8(&jobs[0]) && decode_one8(&jobs[1]);
    if (jobs[0].count == RANS_ROW_VALUES && jobs[1].count == RANS_ROW_VALUES)
        return decode_jobs8(jobs, 2, jobs[0].rows, false);
    return decode_jobs8(jobs, 2, jobs[0].rows, true);
}

/* ---- rows of int16, which may be longer than a tile's ---- */

/* Bits of one plane of up to 64 values. */
SPECIALISED uint64_t plane_bits(const uint8_t *plane, size_t count) {
    __m128i bytes = _mm_maskz_loadu_epi8(first_of_16((count + 7) / 8), plane);
    return (uint64_t)_mm_cvtsi128_si64(bytes);
}

/* values: 64 of int16, of which `count` have low bits. */
SPECIALISED void join_long_planes(const uint8_t *planes, size_t plane_bytes, unsigned low_bits,
                                  size_t count, __m512i values[2]) {
    __m128i shift = _mm_cvtsi32_si128((int)low_bits);
    values[0] = _mm512_sll_epi16(values[0], shift);
    values[1] = _mm512_sll_epi16(values[1], shift);
    for (unsigned plane = 0; plane < low_bits; plane++) {
        uint64_t bits = plane_bits(planes + plane * plane_bytes, count);
        __m512i one = _mm512_set1_epi16((short)(1u << plane));
        values[0] = _mm512_mask_add_epi16(values[0], (__mmask32)bits, values[0], one);
        values[1] = _mm512_mask_add_epi16(values[1], (__mmask32)(bits >> 32), values[1], one);
    }
}

static bool read_escapes16(struct rans_decoder *decoder, __mmask64 escaped, __m512i values[2]) {
    if ((size_t)(decoder->escape_end - decoder->escape) < 2 * (size_t)_mm_popcnt_u64(escaped))
        return false;
    for (int half = 0; half < 2; half++) {
        __mmask32 mask = (__mmask32)(escaped >> 32 * half);
        size_t count = (size_t)_mm_popcnt_u32(mask);
        __m512i escapes = _mm512_maskz_loadu_epi16(first_of_32(count), decoder->escape);
        values[half] = _mm512_mask_expand_epi16(values[half], mask, escapes);
        decoder->escape += 2 * count;
    }
    return true;
}

SPECIALISED bool decode_long_row(const struct constants *constants,
                                 const struct rans_decode_job *job, size_t row,
                                 struct cursor *cursor) {
    struct rans_decoder *decoder = job->decoder;
    struct rans_class class = job->classes[row];
    int16_t *out = (int16_t *)job->values + row * RANS_ROW_VALUES;
    size_t plane_bytes = rans_plane_bytes(job->count);
    if ((size_t)(decoder->plane_end - cursor->plane) < class.low_bits * plane_bytes)
        return false;
    for (size_t i = 0; i < job->count; i += RANS_LANES) {
        __mmask64 live = first_of_64(job->count - i);
        __m512i refill = next_refill(cursor->refill, decoder->escape_end, true);
        __m512i symbols =
            decode_symbols(constants, cursor, &page_tables[class.table], refill, true, live);
        __mmask64 escaped = _mm512_mask_testn_epi8_mask(live, symbols, symbols);
        __m512i bytes = _mm512_sub_epi8(symbols, constants->zero_symbol);
        __m512i values[2] = {_mm512_cvtepi8_epi16(_mm512_castsi512_si256(bytes)),
                             _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(bytes, 1))};
        if (class.low_bits > 0)
            join_long_planes(cursor->plane + i / 8, plane_bytes, class.low_bits,
                             job->count - i < RANS_LANES ? job->count - i : RANS_LANES, values);
        if (__builtin_expect(escaped != 0, 0) && !read_escapes16(decoder, escaped, values))
            return false;
        _mm512_storeu_si512(out + i, values[0]);
        _mm512_storeu_si512(out + i + 32, values[1]);
    }
    cursor->plane += class.low_bits * plane_bytes;
    return cursor->refill <= decoder->refill_end;
}

static bool decode_one16(const struct rans_decode_job *job) {
    struct constants constants = make_constants();
    struct rans_decoder *decoder = job->decoder;
    struct cursor cursor = {load_states(decoder->state), decoder->refill, decoder->plane};
    bool whole = true;
    for (size_t row = 0; row < job->rows && whole; row++)
        whole = decode_long_row(&constants, job, row, &cursor);
    store_states(cursor.states, decoder->state);
    decoder->refill = cursor.refill;
    decoder->plane = cursor.plane;
    return whole;
}

bool page_rans_decode16_avx512(const struct rans_decode_job *jobs, size_t count) {
    return decode_one16(&jobs[0]) && (count < 2 || decode_one16(&jobs[1]));
}
