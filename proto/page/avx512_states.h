/* The 64 states of a stream in two registers, low and high bytes apart: a state's slot is then a
 * byte, and looking it up in a table of up to 64 entries is one permutation. */
#ifndef PROTO_PAGE_AVX512_STATES_H
#define PROTO_PAGE_AVX512_STATES_H

#include "proto/page/avx512.h"

struct states {
    __m512i low, high;
};

SPECIALISED struct states load_states(const uint16_t state[RANS_LANES]) {
    const __m512i bytes = _mm512_set_epi64(
        0x7e7c7a7876747270, 0x6e6c6a6866646260, 0x5e5c5a5856545250, 0x4e4c4a4846444240,
        0x3e3c3a3836343230, 0x2e2c2a2826242220, 0x1e1c1a1816141210, 0x0e0c0a0806040200);
    const __m512i one = _mm512_set1_epi8(1);
    __m512i a = _mm512_load_si512(state), b = _mm512_load_si512(state + 32);
    return (struct states){_mm512_permutex2var_epi8(a, bytes, b),
                           _mm512_permutex2var_epi8(a, _mm512_add_epi8(bytes, one), b)};
}

SPECIALISED void store_states(struct states states, uint16_t state[RANS_LANES]) {
    const __m512i pairs = _mm512_set_epi64(
        0x5f1f5e1e5d1d5c1c, 0x5b1b5a1a59195818, 0x5717561655155414, 0x5313521251115010,
        0x4f0f4e0e4d0d4c0c, 0x4b0b4a0a49094808, 0x4707460645054404, 0x4303420241014000);
    const __m512i half = _mm512_set1_epi8(32);
    _mm512_store_si512(state, _mm512_permutex2var_epi8(states.low, pairs, states.high));
    _mm512_store_si512(state + 32, _mm512_permutex2var_epi8(
                                       states.low, _mm512_add_epi8(pairs, half), states.high));
}

#endif
