/* The 64 states of a stream in two registers, low and high bytes apart: a state's slot is then a
 * byte, and looking it up in a table of up to 64 entries is one permutation. */
#ifndef PROTO_PAGE_AVX512_STATES_H
#define PROTO_PAGE_AVX512_STATES_H

#include "proto/page/avx512_bytes.h"

struct states {
    __m512i low, high;
};

SPECIALISED struct states load_states(const uint16_t state[RANS_LANES]) {
    __m512i a = _mm512_load_si512(state), b = _mm512_load_si512(state + 32);
    return (struct states){low_bytes_of(a, b), high_bytes_of(a, b)};
}

SPECIALISED void store_states(struct states states, uint16_t state[RANS_LANES]) {
    _mm512_store_si512(state, lower_words_of(states.low, states.high));
    _mm512_store_si512(state + 32, upper_words_of(states.low, states.high));
}

#endif
