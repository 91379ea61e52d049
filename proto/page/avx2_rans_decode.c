/* The rANS decoder for AVX2: 32 lanes a register, two streams in turn. */
#include "proto/page/avx2.h"
#include "proto/page/workspace.h"

/* A stream while its job runs. */
struct stream {
    struct lane_states lanes;
    const uint8_t *refill;
    struct rans_decoder *decoder;
};

/* How many bytes with all bits set stand up to and with each byte of a half, from 0 for the first
 * on; where none has come yet, 255. */
SPECIALISED __m256i rank_within_halves(__m256i set) {
    const __m256i second_of_two = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(-1, -1, -1, -1, 3, 3, 3, 3, -1, -1, -1, -1, 11, 11, 11, 11));
    const __m256i last_eight = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, 7, 7, 7, 7, 7, 7, 7, 7));
    __m256i every = _mm256_set1_epi8(1);
    __asm__(""
            : "+x"(every)); /* or the product is taken apart into shifts, of which there are many */
    __m256i sum = _mm256_mullo_epi32(_mm256_abs_epi8(set), every);
    sum = _mm256_add_epi8(sum, _mm256_shuffle_epi8(sum, second_of_two));
    sum = _mm256_add_epi8(sum, _mm256_shuffle_epi8(sum, last_eight));
    return _mm256_sub_epi8(sum, _mm256_set1_epi8(1));
}

/* Deals bytes from `refill` on to the lanes that are set; those of the others are anything. Reads
 * up to 32 bytes. */
SPECIALISED __m256i expand(const uint8_t *refill, __m256i set, uint32_t mask) {
    const uint8_t *second = refill + _mm_popcnt_u32(mask & 0xffff);
    __m256i bytes =
        _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)refill)),
                                _mm_loadu_si128((const void *)second), 1);
    return _mm256_shuffle_epi8(bytes, rank_within_halves(set));
}

/* (x >> 8) * f + rank of 32 lanes, as low and high bytes. */
SPECIALISED void advance(__m256i frequency, __m256i rank, __m256i *low, __m256i *high) {
    const __m256i even = _mm256_set1_epi16(255), odd = _mm256_set1_epi16((short)0xff00);
    __m256i x =
        _mm256_mullo_epi16(_mm256_and_si256(frequency, even), _mm256_and_si256(*high, even));
    __m256i y = _mm256_mullo_epi16(_mm256_srli_epi16(frequency, 8), _mm256_srli_epi16(*high, 8));
    x = _mm256_add_epi16(x, _mm256_and_si256(rank, even));
    y = _mm256_add_epi16(y, _mm256_srli_epi16(rank, 8));
    *low = _mm256_blendv_epi8(x, _mm256_slli_epi16(y, 8), odd);
    *high = _mm256_blendv_epi8(_mm256_srli_epi16(x, 8), y, odd);
}

/* The symbols of 32 lanes. Returns the bytes of refill used; lanes not active keep their state. */
SPECIALISED size_t decode_half(const struct page_table *table, __m256i active,
                               const uint8_t *refill, __m256i *low, __m256i *high,
                               __m256i *symbols) {
    __m256i slot = *low, was_high = *high;
    __m256i bucket = _mm256_and_si256(_mm256_srli_epi16(slot, 3), _mm256_set1_epi8(31));
    struct table_index index = table_index(bucket);
    __m256i own =
        _mm256_cmpgt_epi8(look_up(table->own, index), _mm256_and_si256(slot, _mm256_set1_epi8(7)));
    __m256i symbol = _mm256_blendv_epi8(look_up(table->symbol + PAGE_SYMBOLS, index), bucket, own);
    __m256i offset = _mm256_blendv_epi8(look_up(table->offset + PAGE_SYMBOLS, index),
                                        look_up(table->offset, index), own);
    advance(look_up(table->symbol_frequency, table_index(symbol)), _mm256_add_epi8(slot, offset),
            low, high);
    __m256i needs = _mm256_and_si256(_mm256_cmpeq_epi8(*high, _mm256_setzero_si256()), active);
    uint32_t mask = (uint32_t)_mm256_movemask_epi8(needs);
    __m256i bytes = expand(refill, needs, mask);
    *high = _mm256_blendv_epi8(was_high, _mm256_blendv_epi8(*high, *low, needs), active);
    *low = _mm256_blendv_epi8(slot, _mm256_blendv_epi8(*low, bytes, needs), active);
    *symbols = symbol;
    return (size_t)_mm_popcnt_u32(mask);
}

/* The symbols of up to 64 values. */
SPECIALISED bool decode_symbols(struct stream *stream, const struct page_table *table, size_t count,
                                __m256i symbols[2]) {
    struct lane_states *lanes = &stream->lanes;
    const uint8_t *from = stream->refill;
    ptrdiff_t left = stream->decoder->escape_end - from;
    PAGE_SCRATCH uint8_t last[RANS_LANES];
    if (__builtin_expect(left < RANS_LANES, 0)) { /* never read past the end */
        memset(last, 0, sizeof last);
        memcpy(last, from, (size_t)left);
        from = last;
    }
    const __m256i all = _mm256_set1_epi8(-1);
    bool whole = count == RANS_LANES;
    size_t used = decode_half(table, whole ? all : first_bytes(count), from, &lanes->low[0],
                              &lanes->high[0], &symbols[0]);
    used += decode_half(table, whole ? all : first_bytes(count < 32 ? 0 : count - 32), from + used,
                        &lanes->low[1], &lanes->high[1], &symbols[1]);
    if (__builtin_expect(left < RANS_LANES, 0) &&
        (ptrdiff_t)used > stream->decoder->refill_end - stream->refill)
        return false;
    stream->refill += used;
    return true;
}

SPECIALISED uint64_t zero_bytes(const __m256i bytes[2]) {
    const __m256i zero = _mm256_setzero_si256();
    uint32_t low = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes[0], zero));
    uint32_t high = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes[1], zero));
    return low | (uint64_t)high << 32;
}

/* Escaped values stand whole in a section of their own. */
static bool read_escapes(bool wide, struct rans_decoder *decoder, uint64_t escapes, void *values) {
    size_t width = wide ? 2 : 1;
    for (; escapes != 0; escapes &= escapes - 1) {
        size_t i = (size_t)__builtin_ctzll(escapes);
        if ((size_t)(decoder->escape_end - decoder->escape) < width)
            return false;
        memcpy((uint8_t *)values + i * width, decoder->escape, width);
        decoder->escape += width;
    }
    return true;
}

SPECIALISED bool escapes_read(bool wide, struct rans_decoder *decoder, const __m256i symbols[2],
                              size_t count, void *values) {
    uint64_t escapes = zero_bytes(symbols);
    if (count < RANS_LANES)
        escapes &= ((uint64_t)1 << count) - 1;
    return __builtin_expect(escapes == 0, 1) || read_escapes(wide, decoder, escapes, values);
}

/* 64 bits of a plane, those behind `count` being 0. */
SPECIALISED uint64_t plane_bits(const uint8_t *plane, size_t count) {
    uint64_t bits = 0;
    memcpy(&bits, plane, count == RANS_LANES ? sizeof bits : rans_plane_bytes(count));
    return bits;
}

/* h << low_bits and the planes' bits, of 64 symbols. */
SPECIALISED void join8(const __m256i symbols[2], const uint8_t *planes, size_t stride,
                       unsigned low_bits, size_t count, int8_t *values) {
    const __m256i zero = _mm256_set1_epi8(RANS_SYMBOL_ZERO);
    __m256i a = _mm256_sub_epi8(symbols[0], zero), b = _mm256_sub_epi8(symbols[1], zero);
    for (unsigned plane = low_bits; plane-- > 0;) {
        uint64_t bits = plane_bits(planes + plane * stride, count);
        a = _mm256_sub_epi8(_mm256_add_epi8(a, a), spread_bits((uint32_t)bits));
        b = _mm256_sub_epi8(_mm256_add_epi8(b, b), spread_bits((uint32_t)(bits >> 32)));
    }
    _mm256_storeu_si256((void *)values, a);
    _mm256_storeu_si256((void *)(values + 32), b);
}

SPECIALISED __m256i spread_bits16(unsigned bits) {
    const __m256i bit = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096,
                                          8192, 16384, (short)0x8000);
    return _mm256_cmpeq_epi16(_mm256_and_si256(_mm256_set1_epi16((short)bits), bit), bit);
}

SPECIALISED void join16(const __m256i symbols[2], const uint8_t *planes, size_t stride,
                        unsigned low_bits, size_t count, int16_t *values) {
    const __m256i zero = _mm256_set1_epi8(RANS_SYMBOL_ZERO);
    __m256i a = _mm256_sub_epi8(symbols[0], zero), b = _mm256_sub_epi8(symbols[1], zero);
    __m256i v[4] = {_mm256_cvtepi8_epi16(_mm256_castsi256_si128(a)),
                    _mm256_cvtepi8_epi16(_mm256_extracti128_si256(a, 1)),
                    _mm256_cvtepi8_epi16(_mm256_castsi256_si128(b)),
                    _mm256_cvtepi8_epi16(_mm256_extracti128_si256(b, 1))};
    for (unsigned plane = low_bits; plane-- > 0;) {
        uint64_t bits = plane_bits(planes + plane * stride, count);
        for (int i = 0; i < 4; i++)
            v[i] = _mm256_sub_epi16(_mm256_add_epi16(v[i], v[i]),
                                    spread_bits16((uint16_t)(bits >> 16 * i)));
    }
    for (int i = 0; i < 4; i++)
        _mm256_storeu_si256((void *)(values + 16 * i), v[i]);
}

/* Up to 64 values, from the row's value `first` on. */
SPECIALISED bool decode_group(bool wide, struct stream *stream, struct rans_class class,
                              const uint8_t *planes, size_t stride, size_t count, void *values) {
    __m256i symbols[2];
    if (!decode_symbols(stream, &page_tables[class.table], count, symbols))
        return false;
    if (wide)
        join16(symbols, planes, stride, class.low_bits, count, values);
    else
        join8(symbols, planes, stride, class.low_bits, count, values);
    return escapes_read(wide, stream->decoder, symbols, count, values);
}

SPECIALISED struct stream open_stream(const struct rans_decode_job *job) {
    struct stream stream = {.refill = job->decoder->refill, .decoder = job->decoder};
    load_states(job->decoder->state, &stream.lanes);
    return stream;
}

SPECIALISED void close_stream(const struct stream *stream) {
    stream->decoder->refill = stream->refill;
    store_states(&stream->lanes, stream->decoder->state);
}

/* Values from `first` on of a row, on to the next 64. */
SPECIALISED bool decode_part(bool wide, const struct rans_decode_job *job, struct stream *stream,
                             size_t row, size_t first, size_t count) {
    size_t value_bytes = wide ? 2 : 1;
    uint8_t *values = (uint8_t *)job->values + (row * RANS_ROW_VALUES + first) * value_bytes;
    return decode_group(wide, stream, job->classes[row], stream->decoder->plane + first / 8,
                        rans_plane_bytes(job->count), count, values);
}

SPECIALISED bool planes_suffice(const struct rans_decode_job *job, size_t row) {
    return (size_t)(job->decoder->plane_end - job->decoder->plane) >=
           job->classes[row].low_bits * rans_plane_bytes(job->count);
}

SPECIALISED bool end_row(const struct rans_decode_job *job, const struct stream *stream,
                         size_t row) {
    job->decoder->plane += job->classes[row].low_bits * rans_plane_bytes(job->count);
    return stream->refill <= job->decoder->refill_end;
}

/* Row by row, of both streams in turn: each waits for its own states, but not for the other's. */
SPECIALISED bool decode_streams(bool wide, size_t streams, const struct rans_decode_job *jobs) {
    PAGE_SCRATCH struct stream stream[2];
    for (size_t i = 0; i < streams; i++)
        stream[i] = open_stream(&jobs[i]);
    size_t count = jobs[0].count, whole = count / RANS_LANES * RANS_LANES;
    bool good = true;
    for (size_t row = 0; good && row < jobs[0].rows; row++) {
        for (size_t i = 0; i < streams; i++)
            good &= planes_suffice(&jobs[i], row);
        for (size_t first = 0; good && first < whole; first += RANS_LANES)
            for (size_t i = 0; i < streams; i++)
                good &= decode_part(wide, &jobs[i], &stream[i], row, first, RANS_LANES);
        for (size_t i = 0; good && whole < count && i < streams; i++)
            good &= decode_part(wide, &jobs[i], &stream[i], row, whole, count - whole);
        for (size_t i = 0; i < streams; i++)
            good = good && end_row(&jobs[i], &stream[i], row);
    }
    for (size_t i = 0; i < streams; i++)
        close_stream(&stream[i]);
    return good;
}

SPECIALISED bool decode_jobs(bool wide, const struct rans_decode_job *jobs, size_t count) {
    if (count == 2 && jobs[0].rows == jobs[1].rows && jobs[0].count == jobs[1].count)
        return decode_streams(wide, 2, jobs);
    for (size_t i = 0; i < count; i++)
        if (!decode_streams(wide, 1, &jobs[i]))
            return false;
    return true;
}

bool page_rans_decode8_avx2(const struct rans_decode_job *jobs, size_t count) {
    return decode_jobs(false, jobs, count);
}

bool page_rans_decode16_avx2(const struct rans_decode_job *jobs, size_t count) {
    return decode_jobs(true, jobs, count);
}
