/* Tiles of bytes between token-major and channel-major, half a row's tokens at a time. */
#ifndef PROTO_PAGE_AVX512_TILES_H
#define PROTO_PAGE_AVX512_TILES_H

#include "proto/page/avx512.h"

enum {
    VECTOR = 16,                 /* floats of a register */
    PARTS = PAGE_BLOCK / VECTOR, /* registers that a token of a tile takes */
    HALF_TOKENS = 64,            /* of a row, at a register's bytes */
};

/* 16 rows of bytes, 16 columns in each of four quarters: row i then holds column i of each quarter.
 * Interleaving rows i and i + 8 four times transposes. */
SPECIALISED void transpose_quarters(__m512i v[16]) {
    __m512i u[16];
#pragma GCC unroll 2
    for (int twice = 0; twice < 2; twice++) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            u[2 * i] = _mm512_unpacklo_epi8(v[i], v[i + 8]);
            u[2 * i + 1] = _mm512_unpackhi_epi8(v[i], v[i + 8]);
        }
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            v[2 * i] = _mm512_unpacklo_epi8(u[i], u[i + 8]);
            v[2 * i + 1] = _mm512_unpackhi_epi8(u[i], u[i + 8]);
        }
    }
}

/* ---- to token-major ---- */

/* Half a row's tokens, 16 channels a group: token 16 * quarter + i of group g stands in the quarter
 * of bytes[g][i]. */
struct turned {
    _Alignas(64) int8_t bytes[PARTS][16][HALF_TOKENS];
};

SPECIALISED void turn_group(const int8_t *q, size_t channels, int8_t (*out)[HALF_TOKENS]) {
    __m512i rows[16];
#pragma GCC unroll 16
    for (size_t i = 0; i < 16; i++)
        rows[i] =
            i < channels ? _mm512_load_si512(q + i * RANS_ROW_VALUES) : _mm512_setzero_si512();
    transpose_quarters(rows);
#pragma GCC unroll 16
    for (size_t i = 0; i < 16; i++)
        _mm512_store_si512(out[i], rows[i]);
}

static inline void turn(const int8_t *q, size_t channels, struct turned *out) {
    for (size_t group = 0; group < PARTS; group++) {
        const int8_t *rows = q + group * VECTOR * RANS_ROW_VALUES;
        size_t first = group * VECTOR;
        if (channels >= first + VECTOR)
            turn_group(rows, VECTOR, out->bytes[group]);
        else if (channels > first)
            turn_group(rows, channels - first, out->bytes[group]);
    }
}

SPECIALISED __m128i turned_bytes(const struct turned *turned, size_t group, size_t token) {
    return _mm_load_si128(
        (const __m128i *)(turned->bytes[group][token % 16] + token / 16 % 4 * 16));
}

/* ---- to channel-major ---- */

/* Half a tile's bytes, token-major. */
struct half {
    _Alignas(64) int8_t bytes[HALF_TOKENS][PAGE_BLOCK];
};

/* Turns each 16 tokens in place: bytes[16 * g + i] then holds, for each quarter, byte 16 * quarter
 * + i of tokens 16 * g .. 16 * g + 15. */
SPECIALISED void turn_half(struct half *half) {
    for (size_t group = 0; group < HALF_TOKENS; group += 16) {
        __m512i rows[16];
#pragma GCC unroll 16
        for (size_t i = 0; i < 16; i++)
            rows[i] = _mm512_load_si512(half->bytes[group + i]);
        transpose_quarters(rows);
#pragma GCC unroll 16
        for (size_t i = 0; i < 16; i++)
            _mm512_store_si512(half->bytes[group + i], rows[i]);
    }
}

/* Of 16 by 16 bytes that have been turned: what stands at byte i of the quarters, rows of 64 tokens
 * of four channels, or the other way round. */
SPECIALISED void join_groups(const int8_t (*bytes)[64], size_t i, __m512i rows[4]) {
    __m512i a = _mm512_load_si512(bytes[i]), b = _mm512_load_si512(bytes[i + 16]);
    __m512i c = _mm512_load_si512(bytes[i + 32]), d = _mm512_load_si512(bytes[i + 48]);
    __m512i ab = _mm512_shuffle_i32x4(a, b, 0x44), cd = _mm512_shuffle_i32x4(c, d, 0x44);
    rows[0] = _mm512_shuffle_i32x4(ab, cd, 0x88);
    rows[1] = _mm512_shuffle_i32x4(ab, cd, 0xdd);
    ab = _mm512_shuffle_i32x4(a, b, 0xee);
    cd = _mm512_shuffle_i32x4(c, d, 0xee);
    rows[2] = _mm512_shuffle_i32x4(ab, cd, 0x88);
    rows[3] = _mm512_shuffle_i32x4(ab, cd, 0xdd);
}

/* A token's mantissas in the tile that follows one of 128 tokens: they come while its rows are
 * decoded. */
SPECIALISED void fetch_next_tile(const uint8_t *rest, size_t token_bytes) {
    rest += RANS_ROW_VALUES * token_bytes;
    for (size_t i = 0; i < token_bytes; i += 64)
        _mm_prefetch(rest + i, _MM_HINT_T0);
}

#endif
