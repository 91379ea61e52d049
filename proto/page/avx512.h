/* The AVX-512 table's kernels, and what its files share. See kernels.h for what each does.
 *
 * Compiled for x86-64-v4 with VBMI, VBMI2, BITALG and GFNI; dispatch.c asks the processor first.
 */
#ifndef PROTO_PAGE_AVX512_H
#define PROTO_PAGE_AVX512_H

#include "proto/page/kernels.h"

#include <immintrin.h>

/* Compiled into each caller, for the constants that it passes. */
#define SPECIALISED static inline __attribute__((always_inline))

/* The first `count` of 64, or of 32, 16. */
SPECIALISED __mmask64 first_of_64(size_t count) {
    return _bzhi_u64(~(uint64_t)0, count < 64 ? (unsigned)count : 64);
}

SPECIALISED __mmask32 first_of_32(size_t count) {
    return (__mmask32)first_of_64(count < 32 ? count : 32);
}

SPECIALISED __mmask16 first_of_16(size_t count) {
    return (__mmask16)first_of_64(count < 16 ? count : 16);
}

/* Keeps a value in a register: compilers would make constants anew in every turn of a loop, which
 * takes the port that permutations need. */
SPECIALISED __m512i held(__m512i value) {
    __asm__("" : "+v"(value));
    return value;
}

bool page_rans_decode8_avx512(const struct rans_decode_job *jobs, size_t count);
bool page_rans_decode16_avx512(const struct rans_decode_job *jobs, size_t count);
void page_rans_encode8_avx512(const struct rans_encode_job *jobs, size_t count);
void page_rans_encode16_avx512(const struct rans_encode_job *jobs, size_t count);

#endif
