#include "proto/page/summary.h"
#include "proto/page/compact.h"
#include "proto/page/convert.h"
#include "proto/page/header.h"
#include "proto/page/kernels.h"
#include "proto/page/rows.h"

enum {
    HEAD_BYTES = 8, /* its two scales */
    ROW_ALIGNMENT = 16,
    QUAD = 4,
    CHANNELS_MAX = 4096,
    CHANNELS_WITH_STEPS_MAX = 2048, /* of their own: above, a page has half as many tokens, */
    STEPS_SHARED_BY = 4,            /* and so many channels one step */
};

static size_t align(size_t bytes, size_t alignment) {
    return (bytes + alignment - 1) / alignment * alignment;
}

/* A head's parts stand side by side: they are read one after the other. */
static void place_parts(const struct page_shape *shape, struct summary_layout *layout) {
    size_t units_bytes = (size_t)layout->vectors / SUMMARY_UNIT_VECTORS * SUMMARY_UNIT_BYTES;
    size_t centres_bytes = align(shape->head_dim, ROW_ALIGNMENT);
    size_t steps = shape->head_dim / layout->sharing + layout->sharing - 1;
    layout->centres = align((size_t)shape->heads * HEAD_BYTES, SUMMARY_ALIGNMENT);
    layout->steps = layout->centres + centres_bytes;
    layout->units = layout->steps + align(steps, ROW_ALIGNMENT);
    layout->head_bytes = layout->units - layout->centres + units_bytes;
    layout->bytes = align(layout->centres + shape->heads * layout->head_bytes, SUMMARY_ALIGNMENT);
}

bool page_summary_layout(const struct page_shape *shape, struct summary_layout *layout) {
    size_t channels = shape_channels(shape);
    if (page_decode_workspace_bytes(shape) == 0 || channels > CHANNELS_MAX)
        return false;
    uint32_t blocks = (shape->tokens + SUMMARY_BLOCK_TOKENS - 1) / SUMMARY_BLOCK_TOKENS;
    uint32_t groups = (blocks + SUMMARY_LANES - 1) / SUMMARY_LANES;
    size_t vectors = align(shape->head_dim, QUAD) / QUAD * groups;
    *layout = (struct summary_layout){.blocks = blocks,
                                      .groups = groups,
                                      .vectors = (uint32_t)align(vectors, SUMMARY_UNIT_VECTORS),
                                      .sharing =
                                          channels > CHANNELS_WITH_STEPS_MAX ? STEPS_SHARED_BY : 1};
    place_parts(shape, layout);
    return true;
}

size_t page_summary_bytes(const struct page_shape *shape) {
    struct summary_layout layout;
    return page_summary_layout(shape, &layout) ? layout.bytes : 0;
}

struct summary_head page_summary_head(const struct summary_layout *layout, const uint8_t *summary,
                                      uint32_t head) {
    const uint8_t *scales = summary + (size_t)head * HEAD_BYTES;
    struct summary_head found = {.centres = (const int8_t *)summary + layout->centres +
                                            head * layout->head_bytes,
                                 .steps = summary + layout->steps + head * layout->head_bytes,
                                 .units = summary + layout->units + head * layout->head_bytes};
    memcpy(&found.centre_scale, scales, sizeof found.centre_scale);
    memcpy(&found.step_scale, scales + sizeof(float), sizeof found.step_scale);
    return found;
}

void page_summary_unpack(const uint8_t unit[SUMMARY_UNIT_BYTES], uint8_t *codes) {
    for (size_t i = 0; i < SUMMARY_VECTOR_BYTES; i++) {
        uint8_t a = unit[i], b = unit[SUMMARY_VECTOR_BYTES + i];
        uint8_t c = unit[2 * SUMMARY_VECTOR_BYTES + i], *to = codes + i;
        const uint8_t eight[SUMMARY_UNIT_VECTORS] = {a & 7,
                                                     a >> 3 & 7,
                                                     b & 7,
                                                     b >> 3 & 7,
                                                     c & 7,
                                                     c >> 3 & 7,
                                                     (uint8_t)(a >> 6 | (b >> 6 & 1) << 2),
                                                     (uint8_t)(c >> 6 | b >> 7 << 2)};
        for (size_t v = 0; v < SUMMARY_UNIT_VECTORS; v++)
            to[v * SUMMARY_VECTOR_BYTES] = eight[v];
    }
}

/* ---- means ---- */

/* Sums of a block's tokens, in order. */
static void add_up(const struct page_source_tokens *tokens, struct page_staging *staging,
                   float *sums) {
    const struct page_layout *layout = &tokens->layout;
    bool is_compact = page_is_compact(layout->dtype);
    for (size_t c = 0; c < layout->channels; c += PAGE_BLOCK) {
        struct page_source_rows tile = page_source_numbers(tokens, c, staging);
        page_kernels()->sum[is_compact ? PAGE_F32 : layout->dtype](&tile, sums + c);
    }
}

/* The same where heads stand side by side: a row in a go. */
static void add_up_rows(const struct page_source_tokens *tokens, float *sums) {
    struct page_source_rows rows = {tokens->rows, 0, tokens->count, tokens->layout.channels};
    page_kernels()->sum[tokens->layout.dtype](&rows, sums);
}

static bool has_whole_rows(const struct page_layout *layout) {
    return !page_is_compact(layout->dtype) &&
           page_layout_run(layout, 0, layout->channels) == layout->channels;
}

/* Finite, whatever they were. */
static void divide(float *restrict sums, size_t count, float share) {
    const float most = 0x1p60f;
    for (size_t c = 0; c < count; c++) {
        float mean = sums[c] * share;
        mean = mean > -most ? mean : -most;
        sums[c] = mean < most ? mean : most;
    }
}

/* [blocks][channels] */
static void find_means(const struct page_source *source, const struct summary_layout *layout,
                       struct workspace workspace, float *means) {
    struct page_source_tokens all, some = {0};
    struct page_staging *staging = workspace_take(&workspace, sizeof *staging);
    size_t channels = shape_channels(&source->shape), tokens = source->shape.tokens;
    page_coded_source(source, &(struct page_header){0}, &all);
    some.layout = all.layout;
    memset(means, 0, layout->blocks * channels * sizeof *means);
    for (size_t first = 0; first < tokens; first += SUMMARY_BLOCK_TOKENS, means += channels) {
        some.count = tokens - first < SUMMARY_BLOCK_TOKENS ? tokens - first : SUMMARY_BLOCK_TOKENS;
        for (size_t t = 0; t < some.count; t++)
            some.rows[t] = all.rows[first + t];
        if (has_whole_rows(&some.layout))
            add_up_rows(&some, means);
        else
            add_up(&some, staging, means);
        divide(means, channels, 1 / (float)some.count);
    }
}

/* ---- the whole ---- */

static void code_head(const struct page_shape *shape, const struct summary_layout *layout,
                      const float *means, uint32_t head, struct workspace workspace,
                      uint8_t *summary) {
    size_t head_dim = shape->head_dim, row = align(head_dim, QUAD);
    struct page_summary_job job = {
        .means = means + head * head_dim,
        .apart = shape_channels(shape),
        .channels = head_dim,
        .layout = layout,
        .centres = (int8_t *)summary + layout->centres + head * layout->head_bytes,
        .steps = summary + layout->steps + head * layout->head_bytes,
        .units = summary + layout->units + head * layout->head_bytes,
        .centre = workspace_take(&workspace, head_dim * sizeof(float)),
        .step = workspace_take(&workspace, head_dim * sizeof(float)),
        .inverse = workspace_take(&workspace, head_dim * sizeof(float)),
        .row = workspace_take(&workspace, row),
        .codes = workspace_take(&workspace, (size_t)layout->vectors * SUMMARY_VECTOR_BYTES)};
    memset(job.row, 0, row);
    memset(job.codes, 0, (size_t)layout->vectors * SUMMARY_VECTOR_BYTES);
    page_kernels()->summarise(&job);
    memcpy(summary + (size_t)head * HEAD_BYTES, job.scales, HEAD_BYTES);
}

int page_summarise(const struct page_source *source, void *workspace, uint8_t *summary) {
    const struct page_shape *shape = &source->shape;
    struct summary_layout layout;
    if (!page_summary_layout(shape, &layout) || !page_workspace_is_valid(workspace))
        return PAGE_ARGUMENT;
    struct workspace whole = page_workspace(workspace);
    float *means = workspace_take(&whole, layout.blocks * shape_channels(shape) * sizeof *means);
    find_means(source, &layout, whole, means);
    memset(summary, 0, layout.bytes);
    for (uint32_t head = 0; head < shape->heads; head++)
        code_head(shape, &layout, means, head, whole, summary);
    return PAGE_OK;
}
