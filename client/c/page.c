/* The page codec as kvq.h shows it: errors, dtypes and strides in bytes. */
#include "proto/page/page.h"
#include "client/c/kvq.h"
#include "client/c/pages.h"

#include <assert.h>

static_assert((int)KVQ_PAGE_WORKSPACE_BYTES == (int)PAGE_WORKSPACE_BYTES, "");
static_assert((int)KVQ_PAGE_TOKENS_MAX == (int)PAGE_TOKENS_MAX, "");
static_assert((int)KVQ_PAGE_SINK_TOKENS == (int)PAGE_SINK_TOKENS, "");
static_assert((int)KVQ_K == (int)PAGE_K && (int)KVQ_V == (int)PAGE_V, "");

int kvq_error_of_page(int error) {
    switch (error) {
    case PAGE_OK:
        return KVQ_OK;
    case PAGE_DAMAGED:
        return KVQ_INVALID;
    case PAGE_VERSION:
        return KVQ_UNSUPPORTED;
    default:
        return KVQ_ARGUMENT;
    }
}

uint32_t kvq_page_tokens(uint32_t heads, uint32_t head_dim_k, uint32_t head_dim_v) {
    return page_tokens(heads, head_dim_k, head_dim_v);
}

static struct page_shape shape_of(const struct kvq_page_values *values) {
    return (struct page_shape){.tokens = values->tokens,
                               .heads = values->heads,
                               .head_dim = values->head_dim,
                               .dtype = (enum page_dtype)values->dtype};
}

/* False where a stride is no whole number of values. */
static bool strides_of(const struct kvq_page_values *values, struct page_strides *strides) {
    size_t value_bytes = kvq_dtype_bytes(values->dtype);
    if (value_bytes == 0 || values->token_stride % value_bytes != 0 ||
        values->head_stride % value_bytes != 0)
        return false;
    strides->token = values->token_stride / value_bytes;
    strides->head = values->head_stride / value_bytes;
    return true;
}

size_t kvq_page_bound_bytes(const struct kvq_page_values *values) {
    struct page_shape shape = shape_of(values);
    return kvq_dtype_bytes(values->dtype) ? page_bound_bytes(&shape) : 0;
}

int kvq_page_encode(const struct kvq_page_source *source, void *workspace, void *page,
                    size_t room_bytes, size_t *page_bytes) {
    struct page_source given = {.shape = shape_of(&source->values),
                                .part = (enum page_part)source->part,
                                .level = source->level,
                                .sink_tokens = source->sink_tokens,
                                .values = source->values.values,
                                .layer = source->layer,
                                .layers = source->layers};
    if (!strides_of(&source->values, &given.strides))
        return KVQ_ARGUMENT;
    return kvq_error_of_page(page_encode(&given, workspace, page, room_bytes, page_bytes, NULL));
}

int kvq_page_info(const void *page, size_t page_bytes, struct kvq_page_info *info) {
    struct page_info known;
    int error = page_peek(page, page_bytes, &known);
    if (error)
        return kvq_error_of_page(error);
    *info = (struct kvq_page_info){.part = (enum kvq_part)known.part,
                                   .level = known.level,
                                   .dtype = (enum kvq_dtype)known.shape.dtype,
                                   .tokens = known.shape.tokens,
                                   .heads = known.shape.heads,
                                   .head_dim = known.shape.head_dim,
                                   .loss = {.error = known.loss.error,
                                            .energy = known.loss.energy,
                                            .estimated = known.estimated}};
    return KVQ_OK;
}

/* What the page holds must be what the target has room for. */
static int check_fits(const void *page, size_t page_bytes, const struct kvq_page_values *target) {
    struct kvq_page_info info;
    int error = kvq_page_info(page, page_bytes, &info);
    if (error)
        return error;
    bool fits = info.heads == target->heads && info.head_dim == target->head_dim;
    return fits ? KVQ_OK : KVQ_ARGUMENT;
}

int kvq_page_decode(const void *page, size_t page_bytes, uint32_t first,
                    const struct kvq_page_values *target, void *workspace) {
    struct page_target to = {.first = first,
                             .tokens = target->tokens,
                             .dtype = (enum page_dtype)target->dtype,
                             .values = target->values};
    int error = check_fits(page, page_bytes, target);
    if (error)
        return error;
    if (!strides_of(target, &to.strides))
        return KVQ_ARGUMENT;
    return kvq_error_of_page(page_decode(page, page_bytes, &to, workspace));
}

int kvq_page_age(const void *page, size_t page_bytes, int level, void *workspace, void *aged,
                 size_t *aged_bytes) {
    struct page_bytes old = {page, page_bytes};
    return kvq_error_of_page(page_age(old, level, workspace, aged, page_bytes, aged_bytes, NULL));
}
