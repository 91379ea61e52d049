#include "client/c/rows.h"

#include <string.h>

struct kvq_strides kvq_resolve_strides(struct kvq_strides given, uint64_t tokens, uint32_t heads,
                                       size_t dim_bytes) {
    ptrdiff_t token_bytes = (ptrdiff_t)(heads * dim_bytes);
    return (struct kvq_strides){
        .layer = given.layer ? given.layer : (ptrdiff_t)tokens * token_bytes,
        .token = given.token ? given.token : token_bytes,
        .head = given.head ? given.head : (ptrdiff_t)dim_bytes,
    };
}

enum kvq_layout kvq_best_layout(struct kvq_strides strides, uint32_t heads, size_t dim_bytes) {
    bool tokens_are_rows = heads == 1 || strides.head == (ptrdiff_t)dim_bytes;
    bool heads_are_rows = strides.token == (ptrdiff_t)dim_bytes;
    return heads_are_rows && !tokens_are_rows ? KVQ_HEADS_TOKENS_DIM : KVQ_TOKENS_HEADS_DIM;
}

struct kvq_rows kvq_rows_of(char *base, enum kvq_layout layout, struct kvq_strides strides,
                            uint32_t tokens, uint32_t heads, size_t dim_bytes) {
    struct kvq_rows rows = {.base = base, .row_bytes = dim_bytes};
    if (layout == KVQ_TOKENS_HEADS_DIM) {
        rows.outer = tokens, rows.outer_stride = strides.token;
        rows.inner = heads, rows.inner_stride = strides.head;
    } else {
        rows.outer = heads, rows.outer_stride = strides.head;
        rows.inner = tokens, rows.inner_stride = strides.token;
    }
    if (rows.inner == 1 || rows.inner_stride == (ptrdiff_t)rows.row_bytes) {
        rows.row_bytes *= rows.inner;
        rows.inner = 1;
        if (rows.outer == 1 || rows.outer_stride == (ptrdiff_t)rows.row_bytes) {
            rows.row_bytes *= rows.outer;
            rows.outer = 1;
        }
    }
    return rows;
}

bool kvq_rows_are_few(const struct kvq_rows *rows) {
    return rows->outer * rows->inner <= KVQ_PIECES_MAX;
}

static char *row_at(const struct kvq_rows *rows, size_t i, size_t j) {
    return rows->base + (ptrdiff_t)i * rows->outer_stride + (ptrdiff_t)j * rows->inner_stride;
}

size_t kvq_rows_pieces(const struct kvq_rows *rows, struct iovec *pieces) {
    size_t count = 0;
    for (size_t i = 0; i < rows->outer; i++)
        for (size_t j = 0; j < rows->inner; j++)
            pieces[count++] =
                (struct iovec){.iov_base = row_at(rows, i, j), .iov_len = rows->row_bytes};
    return count;
}

void kvq_rows_gather(const struct kvq_rows *rows, uint8_t *packed) {
    for (size_t i = 0; i < rows->outer; i++)
        for (size_t j = 0; j < rows->inner; j++, packed += rows->row_bytes)
            memcpy(packed, row_at(rows, i, j), rows->row_bytes);
}

void kvq_rows_scatter(const struct kvq_rows *rows, const uint8_t *packed) {
    for (size_t i = 0; i < rows->outer; i++)
        for (size_t j = 0; j < rows->inner; j++, packed += rows->row_bytes)
            memcpy(row_at(rows, i, j), packed, rows->row_bytes);
}
