/* What is done while streams are decoded: a step of a stream waits for the step before it, so that
 * there is time between for tiles decoded earlier to become values. */
#ifndef PROTO_PAGE_AVX512_MEANWHILE_H
#define PROTO_PAGE_AVX512_MEANWHILE_H

#include "proto/page/avx512_tokens.h"
#include "proto/page/workspace.h"

/* Tiles of 64 channels, half by half; while one half is written, the next is turned. */
struct meanwhile {
    const struct page_tile *tiles;
    size_t count, tokens; /* tiles, and tokens of all of them that are behind */
    enum page_dtype dtype;
    bool phased;
    struct turned *turned; /* [2] */
    /* of the tokens that go with a row */
    struct tile tile;
    size_t token;
};

SPECIALISED void turn_part(const struct meanwhile *meanwhile, size_t half, size_t group) {
    const int8_t *q = meanwhile->tiles[half / 2].q + half % 2 * HALF_TOKENS;
    turn_group(q + group * VECTOR * RANS_ROW_VALUES, VECTOR,
               meanwhile->turned[half % 2].bytes[group]);
}

/* Before the first token. */
SPECIALISED void meanwhile_begin(const struct meanwhile *meanwhile) {
    for (size_t group = 0; group < PARTS; group++)
        turn_part(meanwhile, 0, group);
}

/* Before each `tokens` tokens, a divisor of 16: a part of the next half is turned where one is due.
 */
SPECIALISED void meanwhile_row(struct meanwhile *meanwhile, size_t tokens) {
    size_t half = meanwhile->tokens / HALF_TOKENS, at = meanwhile->tokens % HALF_TOKENS;
    const struct page_tile *tile = &meanwhile->tiles[half / 2];
    if (at % VECTOR == 0 && half + 1 < 2 * meanwhile->count)
        turn_part(meanwhile, half + 1, at / VECTOR);
    meanwhile->tile = (struct tile){.high = &meanwhile->turned[half % 2],
                                    .mean = tile->mean,
                                    .steps = tile->steps,
                                    .phase = meanwhile->phased ? tile->phase : 0,
                                    .fused = true};
    meanwhile->token = meanwhile->tokens % RANS_ROW_VALUES;
    meanwhile->tokens += tokens;
}

/* Token `i` of those that go with a row. */
SPECIALISED void meanwhile_token(const struct meanwhile *meanwhile, size_t i) {
    const struct page_target_rows *out =
        &meanwhile->tiles[(meanwhile->tokens - 1) / RANS_ROW_VALUES].out;
    size_t t = meanwhile->token + i;
    if (t < out->first || t >= out->last)
        return;
    uint8_t *to = (uint8_t *)out->rows[t] + out->offset_bytes;
    __m512 mean[PARTS];
    for (size_t group = 0; group < PARTS; group++)
        mean[group] = _mm512_loadu_ps(meanwhile->tile.mean + group * VECTOR);
    if (out->streaming && (uintptr_t)to % 64 == 0)
        write_token(meanwhile->dtype, &meanwhile->tile, t, mean, to, true);
    else
        write_token(meanwhile->dtype, &meanwhile->tile, t, mean, to, false);
}

/* What is left once the streams have ended. */
SPECIALISED void meanwhile_end(struct meanwhile *meanwhile) {
    while (meanwhile->tokens < meanwhile->count * RANS_ROW_VALUES) {
        meanwhile_row(meanwhile, 1);
        meanwhile_token(meanwhile, 0);
    }
}

#endif
