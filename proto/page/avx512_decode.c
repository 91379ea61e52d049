/* Decoding rows of a stream. */
#include "proto/page/avx512_rows.h"

static bool decode_one8(const struct rans_decode_job *job) {
    if (job->count <= RANS_LANES)
        return decode_last_rows8(job, 0);
    return job->count == RANS_ROW_VALUES ? decode_jobs8(job, 1, false, NULL)
                                         : decode_jobs8(job, 1, true, NULL);
}

static bool are_alike(const struct rans_decode_job jobs[2]) {
    return jobs[0].rows == jobs[1].rows && jobs[0].count > RANS_LANES && jobs[1].count > RANS_LANES;
}

bool page_rans_decode8_avx512(const struct rans_decode_job *jobs, size_t count) {
    if (count == 1)
        return decode_one8(jobs);
    if (!are_alike(jobs))
        return decode_one8(&jobs[0]) && decode_one8(&jobs[1]);
    if (jobs[0].count == RANS_ROW_VALUES && jobs[1].count == RANS_ROW_VALUES)
        return decode_jobs8(jobs, 2, false, NULL);
    return decode_jobs8(jobs, 2, true, NULL);
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
        struct step step = {.cursor = cursor,
                            .table = &page_tables[class.table],
                            .refill = next_refill(cursor->refill, decoder->escape_end, true),
                            .live = live};
        decode_symbols(constants, &step, 1, true);
        __m512i symbols = step.symbols;
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
    struct cursor cursor = open_cursor(job);
    bool whole = true;
    for (size_t row = 0; row < job->rows && whole; row++)
        whole = decode_long_row(&constants, job, row, &cursor);
    close_cursor(&cursor, job->decoder);
    return whole;
}

bool page_rans_decode16_avx512(const struct rans_decode_job *jobs, size_t count) {
    return decode_one16(&jobs[0]) && (count < 2 || decode_one16(&jobs[1]));
}
