/* Eight values of a dtype to floats and back, with AVX2 and F16C, and tiles of bytes turned. */
#ifndef PROTO_PAGE_AVX2_NUMBERS_H
#define PROTO_PAGE_AVX2_NUMBERS_H

#include "proto/page/avx2.h"
#include "proto/page/convert.h"

enum { EIGHT = 8, TO_NEAREST = 0 };

/* What a kernel is made for. `small`: no value comes near the dtype's largest. */
struct coding {
    enum page_dtype dtype;
    bool wide, small;
};

SPECIALISED size_t value_bytes(enum page_dtype dtype) {
    return dtype == PAGE_F32 ? 4 : 2;
}

SPECIALISED __m256 load8(enum page_dtype dtype, const void *values) {
    if (dtype == PAGE_F32)
        return _mm256_loadu_ps(values);
    __m128i eight = _mm_loadu_si128(values);
    if (dtype == PAGE_F16)
        return _mm256_cvtph_ps(eight);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(eight), 16));
}

/* Up to eight values, zeros behind them. */
SPECIALISED __m256 load_part(enum page_dtype dtype, const void *values, size_t count) {
    if (count >= EIGHT)
        return load8(dtype, values);
    float eight[EIGHT] = {0};
    memcpy(eight, values, count * value_bytes(dtype));
    return load8(dtype, eight);
}

SPECIALISED __m256 clamp8(__m256 x, float limit) {
    return _mm256_max_ps(_mm256_min_ps(x, _mm256_set1_ps(limit)), _mm256_set1_ps(-limit));
}

SPECIALISED __m256i bfloat_bits8(__m256 x) {
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    return _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
}

/* The largest magnitude that needs no clamp. */
SPECIALISED float largest(enum page_dtype dtype) {
    return dtype == PAGE_F16 ? PAGE_F16_MAX : dtype == PAGE_BF16 ? PAGE_BF16_MAX : PAGE_F32_MAX;
}

/* Sixteen floats as a 16-bit dtype. */
SPECIALISED __m256i halves16(enum page_dtype dtype, bool small, __m256 x, __m256 y) {
    if (!small) {
        x = clamp8(x, largest(dtype));
        y = clamp8(y, largest(dtype));
    }
    if (dtype == PAGE_F16)
        return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm256_cvtps_ph(x, TO_NEAREST)),
                                       _mm256_cvtps_ph(y, TO_NEAREST), 1);
    __m256i a = _mm256_srli_epi32(bfloat_bits8(x), 16), b = _mm256_srli_epi32(bfloat_bits8(y), 16);
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
}

SPECIALISED void store32(bool streaming, void *at, __m256i x) {
    if (streaming)
        _mm256_stream_si256(at, x);
    else
        _mm256_storeu_si256(at, x);
}

/* Sixteen floats to values; streaming ones are 32-byte aligned. */
SPECIALISED void store16(enum page_dtype dtype, bool small, bool streaming, void *values, __m256 x,
                         __m256 y) {
    if (dtype == PAGE_F32) {
        store32(streaming, values, _mm256_castps_si256(small ? x : clamp8(x, PAGE_F32_MAX)));
        store32(streaming, (uint8_t *)values + 32,
                _mm256_castps_si256(small ? y : clamp8(y, PAGE_F32_MAX)));
    } else {
        store32(streaming, values, halves16(dtype, small, x, y));
    }
}

/* Interleaving rows i and i + 8 four times turns a square of sixteen. */
SPECIALISED void interleave16(const __m256i in[16], __m256i out[16]) {
    for (int i = 0; i < 8; i++) {
        out[2 * i] = _mm256_unpacklo_epi8(in[i], in[i + 8]);
        out[2 * i + 1] = _mm256_unpackhi_epi8(in[i], in[i + 8]);
    }
}

/* Two squares of sixteen bytes side by side: 16 rows of 32 bytes become 32 rows of 16. `rows_in`
 * and `rows_out` are how many there are: of those missing the last is read, and none is written. */
SPECIALISED void turn_bytes(const uint8_t *in, size_t in_stride, size_t rows_in, uint8_t *out,
                            size_t out_stride, size_t rows_out) {
    __m256i a[16], b[16];
    for (size_t i = 0; i < 16; i++)
        a[i] = _mm256_loadu_si256((const void *)(in + (i < rows_in ? i : rows_in - 1) * in_stride));
    interleave16(a, b);
    interleave16(b, a);
    interleave16(a, b);
    interleave16(b, a);
    for (size_t i = 0; i < 16 && i < rows_out; i++)
        _mm_storeu_si128((void *)(out + i * out_stride), _mm256_castsi256_si128(a[i]));
    for (size_t i = 0; i < 16 && i + 16 < rows_out; i++)
        _mm_storeu_si128((void *)(out + (i + 16) * out_stride), _mm256_extracti128_si256(a[i], 1));
}

/* The same for words: 8 rows of 16 become 16 rows of 8. Strides are in words. */
SPECIALISED void interleave8(const __m256i in[8], __m256i out[8]) {
    for (int i = 0; i < 4; i++) {
        out[2 * i] = _mm256_unpacklo_epi16(in[i], in[i + 4]);
        out[2 * i + 1] = _mm256_unpackhi_epi16(in[i], in[i + 4]);
    }
}

SPECIALISED void turn_words(const int16_t *in, size_t in_stride, size_t rows_in, int16_t *out,
                            size_t out_stride, size_t rows_out) {
    __m256i a[8], b[8];
    for (size_t i = 0; i < 8; i++)
        a[i] = _mm256_loadu_si256((const void *)(in + (i < rows_in ? i : rows_in - 1) * in_stride));
    interleave8(a, b);
    interleave8(b, a);
    interleave8(a, b);
    for (size_t i = 0; i < 8 && i < rows_out; i++)
        _mm_storeu_si128((void *)(out + i * out_stride), _mm256_castsi256_si128(b[i]));
    for (size_t i = 0; i < 8 && i + 8 < rows_out; i++)
        _mm_storeu_si128((void *)(out + (i + 8) * out_stride), _mm256_extracti128_si256(b[i], 1));
}

#endif
