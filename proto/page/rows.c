#include "proto/page/rows.h"
#include "proto/page/convert.h"
#include "proto/page/kernels.h"

void page_load_token(const struct page_source *source, size_t token, size_t channel, size_t count,
                     float *row) {
    const uint8_t *values = source->values;
    size_t value_bytes = page_value_bytes(source->shape.dtype), run;
    uint32_t head_dim = source->shape.head_dim;
    for (size_t i = 0; i < count; i += run) {
        run = row_run(head_dim, &source->strides, channel + i, count - i);
        size_t index = row_index(head_dim, &source->strides, token, channel + i);
        page_kernels()->load[source->shape.dtype](values + index * value_bytes, run, row + i);
    }
}

void page_copy_token(const struct page_source *source, size_t token, void *out) {
    const uint8_t *values = source->values;
    uint8_t *to = out;
    size_t value_bytes = page_value_bytes(source->shape.dtype), run;
    size_t channels = shape_channels(&source->shape);
    uint32_t head_dim = source->shape.head_dim;
    for (size_t i = 0; i < channels; i += run) {
        run = row_run(head_dim, &source->strides, i, channels - i);
        size_t index = row_index(head_dim, &source->strides, token, i);
        memcpy(to + i * value_bytes, values + index * value_bytes, run * value_bytes);
    }
}

void page_store_token(const struct page_target *target, uint32_t heads, uint32_t head_dim,
                      size_t token, enum page_dtype dtype, const void *values) {
    const uint8_t *from = values;
    uint8_t *to = target->values;
    size_t from_bytes = page_value_bytes(dtype), to_bytes = page_value_bytes(target->dtype), run;
    size_t channels = (size_t)heads * head_dim;
    for (size_t i = 0; i < channels; i += run) {
        run = row_run(head_dim, &target->strides, i, channels - i);
        size_t index = row_index(head_dim, &target->strides, token - target->first, i);
        page_convert_row(dtype, from + i * from_bytes, target->dtype, to + index * to_bytes, run);
    }
}
