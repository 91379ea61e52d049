/* A layer's K and V in a program's own memory: pages and a tail, restored in one call. */
#include "client/c/kvq.h"
#include "client/c/pages.h"
#include "proto/page/convert.h"
#include "proto/page/page.h"

#include <string.h>

/* Where a part's values go: [rows][heads][tokens][head_dim], packed. */
struct destination {
    char *values;
    size_t token_bytes, head_bytes, row_bytes;
};

static struct destination destination_of(const struct kvq_layer *layer, int part, void *values,
                                         size_t tokens) {
    size_t token_bytes = layer->head_dim[part] * kvq_dtype_bytes(layer->dtype);
    return (struct destination){.values = values,
                                .token_bytes = token_bytes,
                                .head_bytes = tokens * token_bytes,
                                .row_bytes = tokens * token_bytes * layer->heads};
}

static size_t tokens_in_pages(const struct kvq_layer *layer) {
    size_t tokens = 0;
    for (uint32_t page = 0; page < layer->page_count; page++)
        tokens += layer->page_tokens[page];
    return tokens;
}

static bool is_layer_valid(const struct kvq_layer *layer) {
    bool tail_is_valid = layer->tail_dtype == layer->dtype ||
                         (layer->tail_dtype == KVQ_F16 && layer->dtype == KVQ_F32);
    return tail_is_valid && layer->tail_tokens <= layer->tail_room &&
           (layer->dtype == KVQ_F16 || layer->dtype == KVQ_BF16 || layer->dtype == KVQ_F32);
}

/* The page must have been made of such a layer's part and hold the tokens asked for. */
static int check_page(const struct kvq_layer *layer, const struct page_bytes *page, int part,
                      uint32_t tokens) {
    struct page_info info;
    int error = page_peek(page->page, page->bytes, &info);
    if (error)
        return kvq_error_of_page(error);
    bool fits = info.shape.heads == layer->heads && info.shape.head_dim == layer->head_dim[part] &&
                info.shape.tokens >= tokens;
    return fits ? KVQ_OK : KVQ_ARGUMENT;
}

/* K and V of the same tokens of a row. */
static int restore_pair(const struct kvq_layer *layer, uint32_t page, uint32_t row, size_t first,
                        const struct destination to[2], void *workspace) {
    const struct kvq_page_bytes *stored = layer->pages + ((size_t)page * layer->rows + row) * 2;
    uint32_t tokens = layer->page_tokens[page];
    size_t value_bytes = kvq_dtype_bytes(layer->dtype);
    struct page_bytes pages[2];
    struct page_target targets[2];
    for (int part = KVQ_K; part <= KVQ_V; part++) {
        pages[part] = (struct page_bytes){stored[part].page, stored[part].bytes};
        int error = check_page(layer, &pages[part], part, tokens);
        if (error)
            return error;
        targets[part] = (struct page_target){
            .tokens = tokens,
            .dtype = (enum page_dtype)layer->dtype,
            .values = to[part].values + row * to[part].row_bytes + first * to[part].token_bytes,
            .strides = {.token = layer->head_dim[part], .head = to[part].head_bytes / value_bytes}};
    }
    return kvq_error_of_page(page_decode_pair(pages, targets, workspace));
}

static int restore_pages(const struct kvq_layer *layer, const struct destination to[2],
                         void *workspace) {
    size_t first = 0;
    for (uint32_t page = 0; page < layer->page_count; page++) {
        for (uint32_t row = 0; layer->page_tokens[page] > 0 && row < layer->rows; row++) {
            int error = restore_pair(layer, page, row, first, to, workspace);
            if (error)
                return error;
        }
        first += layer->page_tokens[page];
    }
    return KVQ_OK;
}

/* Where a head's tail begins. */
static char *tail_at(const struct kvq_layer *layer, int part, uint32_t row, uint32_t head) {
    size_t token_bytes = layer->head_dim[part] * kvq_dtype_bytes(layer->tail_dtype);
    return (char *)layer->tail[part] +
           ((size_t)row * layer->heads + head) * layer->tail_room * token_bytes;
}

static void restore_tail(const struct kvq_layer *layer, int part, size_t first, uint32_t tokens,
                         const struct destination *to) {
    for (uint32_t row = 0; row < layer->rows; row++)
        for (uint32_t head = 0; head < layer->heads; head++)
            page_convert_row((enum page_dtype)layer->tail_dtype, tail_at(layer, part, row, head),
                             (enum page_dtype)layer->dtype,
                             to->values + row * to->row_bytes + head * to->head_bytes +
                                 first * to->token_bytes,
                             (size_t)tokens * layer->head_dim[part]);
}

static const char *added_at(const struct kvq_layer_values *added, uint32_t row, uint32_t head,
                            uint32_t token) {
    return (const char *)added->values + row * added->row_stride + head * added->head_stride +
           token * added->token_stride;
}

/* What was added, as it came, behind the tokens that were there. */
static void copy_added(const struct kvq_layer *layer, size_t first, uint32_t tokens,
                       const struct kvq_layer_values *added, const struct destination *to) {
    for (uint32_t row = 0; row < layer->rows; row++)
        for (uint32_t head = 0; head < layer->heads; head++)
            for (uint32_t token = 0; token < tokens; token++)
                memcpy(to->values + row * to->row_bytes + head * to->head_bytes +
                           (first + token) * to->token_bytes,
                       added_at(added, row, head, token), to->token_bytes);
}

/* False where a finite or other value became infinite or none: it is not what came. */
static bool are_halves_finite(const uint16_t *halves, size_t count) {
    uint32_t largest = 0;
    for (size_t i = 0; i < count; i++)
        largest = (halves[i] & 0x7fffu) > largest ? halves[i] & 0x7fffu : largest;
    return largest < 0x7c00u;
}

static bool add_part(const struct kvq_layer *layer, int part, uint32_t tokens,
                     const struct kvq_layer_values *added) {
    size_t dim = layer->head_dim[part], token_bytes = dim * kvq_dtype_bytes(layer->tail_dtype);
    bool narrower = layer->tail_dtype != layer->dtype, fits = true;
    for (uint32_t row = 0; row < layer->rows; row++)
        for (uint32_t head = 0; head < layer->heads; head++)
            for (uint32_t token = 0; token < tokens; token++) {
                char *at =
                    tail_at(layer, part, row, head) + (layer->tail_tokens + token) * token_bytes;
                page_convert_row((enum page_dtype)layer->dtype, added_at(added, row, head, token),
                                 (enum page_dtype)layer->tail_dtype, at, dim);
                fits &= !narrower || are_halves_finite((const uint16_t *)(const void *)at, dim);
            }
    return fits;
}

int kvq_layer_add(struct kvq_layer *layer, uint32_t tokens,
                  const struct kvq_layer_values added[2]) {
    if (!is_layer_valid(layer) || tokens > layer->tail_room - layer->tail_tokens)
        return KVQ_ARGUMENT;
    for (int part = KVQ_K; part <= KVQ_V; part++)
        if (!add_part(layer, part, tokens, &added[part]))
            return KVQ_TOO_LARGE;
    layer->tail_tokens += tokens;
    return KVQ_OK;
}

int kvq_layer_step(struct kvq_layer *layer, uint32_t tokens, const struct kvq_layer_values added[2],
                   void *const restored[2], void *workspace) {
    size_t paged = tokens_in_pages(layer);
    uint32_t tail = layer->tail_tokens;
    int error = kvq_layer_add(layer, tokens, added);
    if (error)
        return error;
    struct destination to[2];
    for (int part = KVQ_K; part <= KVQ_V; part++) {
        to[part] = destination_of(layer, part, restored[part], paged + tail + tokens);
        restore_tail(layer, part, paged, tail, &to[part]);
        copy_added(layer, paged + tail, tokens, &added[part], &to[part]);
    }
    return restore_pages(layer, to, workspace);
}

int kvq_layer_restore(const struct kvq_layer *layer, void *const restored[2], void *workspace) {
    if (!is_layer_valid(layer))
        return KVQ_ARGUMENT;
    size_t paged = tokens_in_pages(layer);
    struct destination to[2];
    for (int part = KVQ_K; part <= KVQ_V; part++) {
        to[part] = destination_of(layer, part, restored[part], paged + layer->tail_tokens);
        restore_tail(layer, part, paged, layer->tail_tokens, &to[part]);
    }
    return restore_pages(layer, to, workspace);
}
