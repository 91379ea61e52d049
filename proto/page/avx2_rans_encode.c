/* The rANS encoder for AVX2: 32 lanes a register, from the last value to the first. */
#include "proto/page/avx2.h"
#include "proto/page/avx2_compress.h"
#include "proto/page/workspace.h"

/* A class's table as this encoder looks it up. */
struct model {
    const struct page_table *table;
    const struct page_encode_table *built;
    uint8_t reciprocal_low[PAGE_SYMBOLS], reciprocal_high[PAGE_SYMBOLS];
};

SPECIALISED __m256i pack_low(__m256i a, __m256i b) {
    const __m256i low = _mm256_set1_epi16(255);
    __m256i bytes = _mm256_packus_epi16(_mm256_and_si256(a, low), _mm256_and_si256(b, low));
    return _mm256_permute4x64_epi64(bytes, 0xd8);
}

SPECIALISED __m256i pack_high(__m256i a, __m256i b) {
    __m256i bytes = _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
    return _mm256_permute4x64_epi64(bytes, 0xd8);
}

SPECIALISED void set_model(struct model *model, unsigned table) {
    model->table = &page_tables[table];
    model->built = &page_encode_tables[table];
    __m256i a = _mm256_loadu_si256((const void *)model->built->reciprocal);
    __m256i b = _mm256_loadu_si256((const void *)(model->built->reciprocal + 16));
    _mm256_storeu_si256((void *)model->reciprocal_low, pack_low(a, b));
    _mm256_storeu_si256((void *)model->reciprocal_high, pack_high(a, b));
}

/* ---- a step of 32 lanes ---- */

/* Sixteen bytes of a table by the index's lower half. */
SPECIALISED __m256i look_up_16(const uint8_t *sixteen, __m256i low) {
    return _mm256_shuffle_epi8(both_halves(sixteen), low);
}

/* Of 64 bytes, by two bits more; a blend goes by each byte's top bit. */
SPECIALISED __m256i look_up_64(const uint8_t *table, __m256i low, __m256i bit_4, __m256i bit_5) {
    __m256i a = _mm256_blendv_epi8(look_up_16(table, low), look_up_16(table + 16, low), bit_4);
    __m256i b = _mm256_blendv_epi8(look_up_16(table + 32, low), look_up_16(table + 48, low), bit_4);
    return _mm256_blendv_epi8(a, b, bit_5);
}

SPECIALISED __m256i look_up_256(const uint8_t table[256], __m256i index) {
    __m256i low = _mm256_and_si256(index, _mm256_set1_epi8(15));
    __m256i bit_4 = _mm256_slli_epi16(index, 3), bit_5 = _mm256_slli_epi16(index, 2);
    __m256i bit_6 = _mm256_slli_epi16(index, 1);
    __m256i a = _mm256_blendv_epi8(look_up_64(table, low, bit_4, bit_5),
                                   look_up_64(table + 64, low, bit_4, bit_5), bit_6);
    __m256i b = _mm256_blendv_epi8(look_up_64(table + 128, low, bit_4, bit_5),
                                   look_up_64(table + 192, low, bit_4, bit_5), bit_6);
    return _mm256_blendv_epi8(a, b, index);
}

/* x / f and its rest, where the reciprocal is rounded down and may give one less. */
SPECIALISED void divide(__m256i x, __m256i frequency, __m256i reciprocal, __m256i *quotient,
                        __m256i *rest) {
    __m256i q = _mm256_mulhi_epu16(x, reciprocal);
    __m256i r = _mm256_sub_epi16(x, _mm256_mullo_epi16(q, frequency));
    __m256i right = _mm256_cmpgt_epi16(frequency, r);
    *rest = _mm256_sub_epi16(r, _mm256_andnot_si256(right, frequency));
    *quotient = _mm256_add_epi16(_mm256_add_epi16(q, _mm256_set1_epi16(1)), right);
}

/* Puts the bytes that are set before `refill` and returns where they begin. Writes up to eight
 * bytes more. */
SPECIALISED uint8_t *compress(__m128i bytes, unsigned mask, uint8_t *refill) {
    __m128i places = _mm_set_epi64x((long long)page_compress_places[mask >> 8],
                                    (long long)page_compress_places[mask & 255]);
    places = _mm_add_epi8(places, _mm_set_epi64x(0x0808080808080808, 0));
    bytes = _mm_shuffle_epi8(bytes, places);
    _mm_storeu_si64(refill - 8, _mm_unpackhi_epi64(bytes, bytes));
    refill -= _mm_popcnt_u32(mask >> 8);
    _mm_storel_epi64((void *)(refill - 8), bytes);
    return refill - _mm_popcnt_u32(mask & 255);
}

SPECIALISED uint8_t *encode_half(const struct model *model, __m256i symbols, __m256i active,
                                 uint8_t *refill, __m256i *low, __m256i *high) {
    const __m256i zero = _mm256_setzero_si256();
    struct table_index index = table_index(symbols);
    __m256i frequency = look_up(model->table->symbol_frequency, index);
    __m256i emits =
        _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_max_epu8(*high, frequency), *high), active);
    unsigned mask = (unsigned)_mm256_movemask_epi8(emits);
    refill = compress(_mm256_extracti128_si256(*low, 1), mask >> 16, refill);
    refill = compress(_mm256_castsi256_si128(*low), mask & 0xffff, refill);
    __m256i x_low = _mm256_blendv_epi8(*low, *high, emits);
    __m256i x_high = _mm256_andnot_si256(emits, *high);
    __m256i reciprocal_low = look_up(model->reciprocal_low, index);
    __m256i reciprocal_high = look_up(model->reciprocal_high, index);
    __m256i quotient[2], rest[2];
    divide(_mm256_unpacklo_epi8(x_low, x_high), _mm256_unpacklo_epi8(frequency, zero),
           _mm256_unpacklo_epi8(reciprocal_low, reciprocal_high), &quotient[0], &rest[0]);
    divide(_mm256_unpackhi_epi8(x_low, x_high), _mm256_unpackhi_epi8(frequency, zero),
           _mm256_unpackhi_epi8(reciprocal_low, reciprocal_high), &quotient[1], &rest[1]);
    __m256i rank =
        _mm256_add_epi8(_mm256_packus_epi16(rest[0], rest[1]), look_up(model->table->start, index));
    __m256i slot = look_up_256(model->built->slot, rank);
    *high = _mm256_blendv_epi8(*high, _mm256_packus_epi16(quotient[0], quotient[1]), active);
    *low = _mm256_blendv_epi8(*low, slot, active);
    return refill;
}

/* ---- from values to symbols ---- */

SPECIALISED uint64_t mask_of_bytes(const __m256i bytes[2]) {
    return (uint32_t)_mm256_movemask_epi8(bytes[0]) |
           (uint64_t)(uint32_t)_mm256_movemask_epi8(bytes[1]) << 32;
}

/* v >> r of 32 int8. */
SPECIALISED __m256i shift_right8(__m256i values, unsigned low_bits) {
    __m128i by = _mm_cvtsi32_si128((int)low_bits);
    __m256i positive = _mm256_xor_si256(values, _mm256_set1_epi8((char)0x80));
    __m256i shifted = _mm256_and_si256(_mm256_srl_epi16(positive, by),
                                       _mm256_set1_epi8((char)(255u >> low_bits)));
    return _mm256_sub_epi8(shifted, _mm256_set1_epi8((char)(0x80u >> low_bits)));
}

/* v >> r of 32 int16, as int8, saturated. */
SPECIALISED __m256i shift_right16(const int16_t *values, unsigned low_bits) {
    __m128i by = _mm_cvtsi32_si128((int)low_bits);
    __m256i a = _mm256_sra_epi16(_mm256_loadu_si256((const void *)values), by);
    __m256i b = _mm256_sra_epi16(_mm256_loadu_si256((const void *)(values + 16)), by);
    return _mm256_permute4x64_epi64(_mm256_packs_epi16(a, b), 0xd8);
}

/* Symbols of 64 values; returns which of them escape. */
SPECIALISED uint64_t symbols_of(bool wide, const struct model *model, const void *values,
                                unsigned low_bits, __m256i symbols[2]) {
    const __m256i lowest = _mm256_set1_epi8((char)model->built->low);
    const __m256i highest = _mm256_set1_epi8((char)model->built->high);
    __m256i escapes[2];
    for (int i = 0; i < 2; i++) {
        __m256i h = wide ? shift_right16((const int16_t *)values + 32 * i, low_bits)
                         : shift_right8(_mm256_loadu_si256((const __m256i *)values + i), low_bits);
        escapes[i] = _mm256_or_si256(_mm256_cmpgt_epi8(lowest, h), _mm256_cmpgt_epi8(h, highest));
        symbols[i] =
            _mm256_andnot_si256(escapes[i], _mm256_add_epi8(h, _mm256_set1_epi8(RANS_SYMBOL_ZERO)));
    }
    return mask_of_bytes(escapes);
}

static void push_escapes(bool wide, struct rans_encoder *encoder, uint64_t escapes,
                         const void *values) {
    size_t width = wide ? 2 : 1;
    while (escapes != 0) {
        size_t i = 63 - (size_t)__builtin_clzll(escapes);
        encoder->escape -= width;
        memcpy(encoder->escape, (const uint8_t *)values + i * width, width);
        escapes ^= (uint64_t)1 << i;
    }
}

/* ---- planes ---- */

/* Bit `bit` of 64 bytes. */
SPECIALISED uint64_t bits_of(const __m256i bytes[2], unsigned bit) {
    __m128i by = _mm_cvtsi32_si128((int)(7 - bit));
    __m256i top[2] = {_mm256_sll_epi16(bytes[0], by), _mm256_sll_epi16(bytes[1], by)};
    return mask_of_bytes(top);
}

/* The planes' bits of up to 64 values. */
SPECIALISED void write_planes(bool wide, const void *values, size_t count, unsigned low_bits,
                              uint8_t *planes, size_t stride) {
    const __m256i *in = values;
    __m256i low[2], high[2];
    for (int i = 0; i < 2; i++) {
        if (!wide) {
            low[i] = _mm256_loadu_si256(in + i);
            continue;
        }
        __m256i a = _mm256_loadu_si256(in + 2 * i), b = _mm256_loadu_si256(in + 2 * i + 1);
        low[i] = pack_low(a, b);
        high[i] = pack_high(a, b);
    }
    uint64_t kept = count < RANS_LANES ? ((uint64_t)1 << count) - 1 : UINT64_MAX;
    for (unsigned plane = 0; plane < low_bits; plane++) {
        uint64_t bits = wide && plane >= 8 ? bits_of(high, plane - 8) : bits_of(low, plane);
        bits &= kept;
        memcpy(planes + plane * stride, &bits,
               count == RANS_LANES ? sizeof bits : rans_plane_bytes(count));
    }
}

/* ---- rows ---- */

/* Up to 64 values. */
SPECIALISED void encode_group(bool wide, struct rans_encoder *encoder, struct lane_states *lanes,
                              const struct model *model, unsigned low_bits, const void *values,
                              size_t count) {
    const __m256i all = _mm256_set1_epi8(-1);
    bool whole = count == RANS_LANES;
    __m256i symbols[2];
    uint64_t escapes = symbols_of(wide, model, values, low_bits, symbols);
    if (!whole)
        escapes &= ((uint64_t)1 << count) - 1;
    if (__builtin_expect(escapes != 0, 0))
        push_escapes(wide, encoder, escapes, values);
    uint8_t *refill = encoder->refill;
    if (whole || count > 32)
        refill = encode_half(model, symbols[1], whole ? all : first_bytes(count - 32), refill,
                             &lanes->low[1], &lanes->high[1]);
    encoder->refill = encode_half(model, symbols[0], whole ? all : first_bytes(count), refill,
                                  &lanes->low[0], &lanes->high[0]);
}

SPECIALISED void encode_row(bool wide, const struct rans_encode_job *job, struct lane_states *lanes,
                            size_t row) {
    struct rans_encoder *encoder = job->encoder;
    struct rans_class class = job->classes[row];
    PAGE_SCRATCH struct model model;
    set_model(&model, class.table);
    size_t value_bytes = wide ? 2 : 1, count = job->count, stride = rans_plane_bytes(count);
    size_t whole = count / RANS_LANES * RANS_LANES;
    const uint8_t *values = (const uint8_t *)job->values + row * RANS_ROW_VALUES * value_bytes;
    encoder->plane -= class.low_bits * stride;
    for (size_t i = 0; class.low_bits > 0 && i < whole; i += RANS_LANES)
        write_planes(wide, values + i * value_bytes, RANS_LANES, class.low_bits,
                     encoder->plane + i / 8, stride);
    const uint8_t *last = values + whole * value_bytes;
    PAGE_SCRATCH uint8_t copy[2 * RANS_LANES];
    if (wide && whole < count) { /* a side row may end where its memory does */
        memset(copy, 0, sizeof copy);
        last = memcpy(copy, last, (count - whole) * value_bytes);
    }
    if (whole < count) {
        write_planes(wide, last, count - whole, class.low_bits, encoder->plane + whole / 8, stride);
        encode_group(wide, encoder, lanes, &model, class.low_bits, last, count - whole);
    }
    for (size_t i = whole; i > 0; i -= RANS_LANES)
        encode_group(wide, encoder, lanes, &model, class.low_bits,
                     values + (i - RANS_LANES) * value_bytes, RANS_LANES);
}

SPECIALISED void encode_jobs(bool wide, const struct rans_encode_job *jobs, size_t count) {
    for (const struct rans_encode_job *job = jobs; job < jobs + count; job++) {
        struct lane_states lanes;
        load_states(job->encoder->state, &lanes);
        for (size_t row = job->rows; row-- > 0;)
            encode_row(wide, job, &lanes, row);
        store_states(&lanes, job->encoder->state);
    }
}

void page_rans_encode8_avx2(const struct rans_encode_job *jobs, size_t count) {
    encode_jobs(false, jobs, count);
}

void page_rans_encode16_avx2(const struct rans_encode_job *jobs, size_t count) {
    encode_jobs(true, jobs, count);
}

/* ---- what a side row would cost ---- */

/* The costs of 32 symbols, as 16-bit words, added up by fours. */
SPECIALISED __m256i sum_costs(const uint8_t low[PAGE_SYMBOLS], const uint8_t high[PAGE_SYMBOLS],
                              __m256i symbols) {
    struct table_index index = table_index(symbols);
    const __m256i zero = _mm256_setzero_si256();
    __m256i lows = _mm256_sad_epu8(look_up(low, index), zero);
    __m256i highs = _mm256_sad_epu8(look_up(high, index), zero);
    return _mm256_add_epi64(lows, _mm256_slli_epi64(highs, 8));
}

uint32_t page_row_cost_avx2(const int16_t *values, size_t count, unsigned low_bits,
                            const uint16_t cost[PAGE_SYMBOLS]) {
    __m256i a = _mm256_loadu_si256((const void *)cost);
    __m256i b = _mm256_loadu_si256((const void *)(cost + 16)), total = _mm256_setzero_si256();
    uint8_t low[PAGE_SYMBOLS], high[PAGE_SYMBOLS];
    _mm256_storeu_si256((void *)low, pack_low(a, b));
    _mm256_storeu_si256((void *)high, pack_high(a, b));
    size_t i = 0;
    for (; i + 32 <= count; i += 32) {
        __m256i h = shift_right16(values + i, low_bits);
        __m256i symbols = _mm256_add_epi8(h, _mm256_set1_epi8(RANS_SYMBOL_ZERO));
        __m256i coded = _mm256_cmpeq_epi8(_mm256_min_epu8(symbols, _mm256_set1_epi8(31)), symbols);
        total = _mm256_add_epi64(total, sum_costs(low, high, _mm256_and_si256(symbols, coded)));
    }
    uint64_t four[4], sum;
    _mm256_storeu_si256((void *)four, total);
    sum = four[0] + four[1] + four[2] + four[3];
    for (; i < count; i++) {
        unsigned symbol = (unsigned)((values[i] >> low_bits) + RANS_SYMBOL_ZERO);
        sum += cost[symbol < PAGE_SYMBOLS ? symbol : RANS_ESCAPE];
    }
    return (uint32_t)sum;
}
