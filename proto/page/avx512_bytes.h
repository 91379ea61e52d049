/* The low and the high bytes of 64 numbers of 16 bits apart, and together again. */
#ifndef PROTO_PAGE_AVX512_BYTES_H
#define PROTO_PAGE_AVX512_BYTES_H

#include "proto/page/avx512.h"

SPECIALISED __m512i low_bytes_of(__m512i a, __m512i b) {
    const __m512i even = _mm512_set_epi64(
        0x7e7c7a7876747270, 0x6e6c6a6866646260, 0x5e5c5a5856545250, 0x4e4c4a4846444240,
        0x3e3c3a3836343230, 0x2e2c2a2826242220, 0x1e1c1a1816141210, 0x0e0c0a0806040200);
    return _mm512_permutex2var_epi8(a, even, b);
}

SPECIALISED __m512i high_bytes_of(__m512i a, __m512i b) {
    const __m512i odd = _mm512_set_epi64(0x7f7d7b7977757371, 0x6f6d6b6967656361, 0x5f5d5b5957555351,
                                         0x4f4d4b4947454341, 0x3f3d3b3937353331, 0x2f2d2b2927252321,
                                         0x1f1d1b1917151311, 0x0f0d0b0907050301);
    return _mm512_permutex2var_epi8(a, odd, b);
}

/* The first 32 numbers, and the others. */
SPECIALISED __m512i lower_words_of(__m512i low, __m512i high) {
    const __m512i pairs = _mm512_set_epi64(
        0x5f1f5e1e5d1d5c1c, 0x5b1b5a1a59195818, 0x5717561655155414, 0x5313521251115010,
        0x4f0f4e0e4d0d4c0c, 0x4b0b4a0a49094808, 0x4707460645054404, 0x4303420241014000);
    return _mm512_permutex2var_epi8(low, pairs, high);
}

SPECIALISED __m512i upper_words_of(__m512i low, __m512i high) {
    const __m512i pairs = _mm512_set_epi64(
        0x7f3f7e3e7d3d7c3c, 0x7b3b7a3a79397838, 0x7737763675357434, 0x7333723271317030,
        0x6f2f6e2e6d2d6c2c, 0x6b2b6a2a69296828, 0x6727662665256424, 0x6323622261216020);
    return _mm512_permutex2var_epi8(low, pairs, high);
}

#endif
