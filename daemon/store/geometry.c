#include "daemon/store/geometry.h"

#include <math.h>

#include "daemon/base/bytes.h"

void geometry_write(const struct geometry *g, uint8_t bytes[GEOMETRY_BYTES]) {
    bytes_put(bytes, g->layers, 4);
    bytes_put(bytes + 4, g->heads, 4);
    bytes_put(bytes + 8, g->head_dim_k, 4);
    bytes_put(bytes + 12, g->head_dim_v, 4);
    bytes_put(bytes + 16, g->dtype, 1);
    bytes_put(bytes + 17, g->rope_pairing, 1);
    bytes_put(bytes + 18, g->rope_dims, 2);
    bytes_put_double(bytes + 20, g->rope_theta);
    bytes_put_double(bytes + 28, g->rope_scaling);
}

void geometry_read(struct geometry *g, const uint8_t bytes[GEOMETRY_BYTES]) {
    *g = (struct geometry){
        .layers = (uint32_t)bytes_get(bytes, 4),
        .heads = (uint32_t)bytes_get(bytes + 4, 4),
        .head_dim_k = (uint32_t)bytes_get(bytes + 8, 4),
        .head_dim_v = (uint32_t)bytes_get(bytes + 12, 4),
        .dtype = (enum page_dtype)bytes[16],
        .rope_pairing = (enum rope_pairing)bytes[17],
        .rope_dims = (uint32_t)bytes_get(bytes + 18, 2),
        .rope_theta = bytes_get_double(bytes + 20),
        .rope_scaling = bytes_get_double(bytes + 28),
    };
}

const char *geometry_fault(const struct geometry *g) {
    if (g->layers == 0 || g->heads == 0 || g->head_dim_k == 0)
        return "layers, heads and head_dim must be at least 1";
    if (g->dtype < PAGE_F16 || g->dtype > PAGE_Q4_0)
        return "dtype must be f16, bf16, f32, fp8_e4m3, fp8_e5m2 or int8";
    if (g->rope_pairing > ROPE_HALF)
        return "rope pairing must be none, interleaved or half";
    if (g->rope_dims > g->head_dim_k)
        return "rope dims must be at most head_dim";
    if (!isfinite(g->rope_theta) || !isfinite(g->rope_scaling))
        return "rope theta and scaling must be finite";
    return NULL;
}

const char *geometry_limit(const struct geometry *g) {
    if (page_value_bytes(g->dtype) == 0)
        return "dtype q8_0 and q4_0 are not taken: 32 of their values share a scale, and a row "
               "here is of single values; give f16, or int8 and keep the scales";
    if (g->rope_dims > UINT16_MAX)
        return "rope dims must be at most 65535";
    if (g->layers > GEOMETRY_LAYERS_MAX)
        return "a model has at most 4096 layers";
    if (page_tokens(g->heads, g->head_dim_k, g->head_dim_v) == 0)
        return "one token of one layer is larger than a page (262144 values)";
    return NULL;
}

bool geometry_equal(const struct geometry *a, const struct geometry *b) {
    return a->layers == b->layers && a->heads == b->heads && a->head_dim_k == b->head_dim_k &&
           a->head_dim_v == b->head_dim_v && a->dtype == b->dtype &&
           a->rope_pairing == b->rope_pairing && a->rope_dims == b->rope_dims &&
           a->rope_theta == b->rope_theta && a->rope_scaling == b->rope_scaling;
}

uint32_t geometry_page_tokens(const struct geometry *g) {
    return page_tokens(g->heads, g->head_dim_k, g->head_dim_v);
}

uint32_t geometry_head_dim(const struct geometry *g, enum page_part part) {
    return part == PAGE_K ? g->head_dim_k : g->head_dim_v;
}

size_t geometry_values_per_token(const struct geometry *g) {
    return (size_t)g->layers * g->heads * ((size_t)g->head_dim_k + g->head_dim_v);
}

size_t geometry_token_bytes(const struct geometry *g) {
    return geometry_values_per_token(g) * page_value_bytes(g->dtype);
}

size_t geometry_row_offset(const struct geometry *g, uint32_t layer, enum page_part part) {
    size_t layer_values = (size_t)g->heads * ((size_t)g->head_dim_k + g->head_dim_v);
    size_t before = part == PAGE_K ? 0 : (size_t)g->heads * g->head_dim_k;
    return (layer * layer_values + before) * page_value_bytes(g->dtype);
}

size_t geometry_part_bytes(const struct geometry *g, enum page_part part, uint32_t tokens) {
    return (size_t)tokens * g->heads * geometry_head_dim(g, part) * page_value_bytes(g->dtype);
}

struct page_shape geometry_shape(const struct geometry *g, enum page_part part, uint32_t tokens) {
    return (struct page_shape){.tokens = tokens,
                               .heads = g->heads,
                               .head_dim = geometry_head_dim(g, part),
                               .dtype = g->dtype};
}
