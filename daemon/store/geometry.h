/* The shape of a model's K and V, and the sizes that follow from it. */
#ifndef DAEMON_STORE_GEOMETRY_H
#define DAEMON_STORE_GEOMETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/page/page.h"

enum rope_pairing { ROPE_NONE = 0, ROPE_INTERLEAVED = 1, ROPE_HALF = 2 };

struct geometry {
    uint32_t layers, heads, head_dim_k, head_dim_v; /* head_dim_v is 0 where there is no V */
    enum page_dtype dtype;
    enum rope_pairing rope_pairing;
    uint32_t rope_dims;
    double rope_theta, rope_scaling;
};

enum {
    GEOMETRY_LAYERS_MAX = 4096,
    GEOMETRY_PARTS = 2, /* K and V */
    GEOMETRY_BYTES = 36,
};

/* As bytes, little-endian: u32 layers, heads, head_dim of K and of V; u8 dtype, u8 RoPE pairing,
 * u16 RoPE dims, f64 RoPE theta, f64 RoPE scaling. What is read may have any fault. */
void geometry_write(const struct geometry *geometry, uint8_t bytes[GEOMETRY_BYTES]);
void geometry_read(struct geometry *geometry, const uint8_t bytes[GEOMETRY_BYTES]);

/* NULL, or a sentence that says what no model has. */
const char *geometry_fault(const struct geometry *geometry);

/* NULL, or a sentence that says what cannot be stored here. */
const char *geometry_limit(const struct geometry *geometry);

bool geometry_equal(const struct geometry *a, const struct geometry *b);

/* These expect a geometry without fault. */
uint32_t geometry_page_tokens(const struct geometry *geometry);
uint32_t geometry_head_dim(const struct geometry *geometry, enum page_part part);
size_t geometry_values_per_token(const struct geometry *geometry);
size_t geometry_token_bytes(const struct geometry *geometry);

/* Where a token's row holds (layer, part), in bytes: rows run layer by layer, K then V. */
size_t geometry_row_offset(const struct geometry *geometry, uint32_t layer, enum page_part part);

/* Bytes of one part of one layer for so many tokens, in the session's dtype. */
size_t geometry_part_bytes(const struct geometry *geometry, enum page_part part, uint32_t tokens);

struct page_shape geometry_shape(const struct geometry *geometry, enum page_part part,
                                 uint32_t tokens);

#endif
