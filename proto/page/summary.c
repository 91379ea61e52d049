#include "proto/page/summary.h"
#include "proto/page/compact.h"
#include "proto/page/convert.h"
#include "proto/page/header.h"
#include "proto/page/kernels.h"
#include "proto/page/rows.h"

enum { RANGES = 2, HEAD_BYTES = 8, CODE_MAX = 255 };

/* The least and the largest of each channel, of one block after the other. */
struct ranges {
    float *values; /* [blocks][2][channels] */
    size_t channels;
};

static bool is_shape_possible(const struct page_shape *shape) {
    return page_decode_workspace_bytes(shape) > 0;
}

uint32_t page_summary_blocks(uint32_t tokens) {
    return (tokens + SUMMARY_BLOCK_TOKENS - 1) / SUMMARY_BLOCK_TOKENS;
}

static size_t align(size_t bytes) {
    return (bytes + SUMMARY_ALIGNMENT - 1) / SUMMARY_ALIGNMENT * SUMMARY_ALIGNMENT;
}

static size_t codes_offset(const struct page_shape *shape) {
    return align((size_t)shape->heads * HEAD_BYTES);
}

size_t page_summary_bytes(const struct page_shape *shape) {
    if (!is_shape_possible(shape))
        return 0;
    size_t codes = page_summary_blocks(shape->tokens) * RANGES * shape_channels(shape);
    return codes_offset(shape) + align(codes);
}

struct summary_head page_summary_head(const struct page_shape *shape, const uint8_t *summary,
                                      uint32_t head) {
    size_t head_bytes = (size_t)page_summary_blocks(shape->tokens) * RANGES * shape->head_dim;
    struct summary_head found = {.codes = summary + codes_offset(shape) + head * head_bytes};
    memcpy(&found.base, summary + (size_t)head * HEAD_BYTES, sizeof found.base);
    memcpy(&found.step, summary + (size_t)head * HEAD_BYTES + sizeof found.base, sizeof found.step);
    return found;
}

/* ---- ranges ---- */

static void find_ranges16(const struct page_source_tokens *tokens, struct workspace workspace,
                          float *low, float *high) {
    const struct page_layout *layout = &tokens->layout;
    size_t count = layout->channels, run;
    int16_t *lowest = workspace_take(&workspace, count * sizeof *lowest);
    int16_t *highest = workspace_take(&workspace, count * sizeof *highest);
    for (size_t c = 0; c < count; c++)
        lowest[c] = INT16_MAX, highest[c] = INT16_MIN;
    for (size_t c = 0; c < count; c += run) {
        run = page_layout_run(layout, c, count - c);
        struct page_source_rows rows = {tokens->rows, page_layout_offset(layout, c), tokens->count,
                                        run};
        page_kernels()->range16(&rows, lowest + c, highest + c);
    }
    for (size_t c = 0; c < count; c++) { /* back from integers that order as the floats do */
        lowest[c] = (int16_t)(lowest[c] ^ (lowest[c] >> 15 & 0x7fff));
        highest[c] = (int16_t)(highest[c] ^ (highest[c] >> 15 & 0x7fff));
    }
    page_convert_row(layout->dtype, lowest, PAGE_F32, low, count);
    page_convert_row(layout->dtype, highest, PAGE_F32, high, count);
}

/* Of float32, and of compact dtypes by way of it. */
static void find_ranges32(const struct page_source_tokens *tokens, struct workspace workspace,
                          float *low, float *high) {
    const struct page_layout *layout = &tokens->layout;
    size_t count = layout->channels;
    struct page_staging *staging = workspace_take(&workspace, sizeof *staging);
    for (size_t c = 0; c < count; c += PAGE_BLOCK) {
        struct page_source_rows tile = page_source_numbers(tokens, c, staging);
        const uint8_t *first = (const uint8_t *)tile.rows[0] + tile.offset_bytes;
        memcpy(low + c, first, tile.channels * sizeof *low);
        memcpy(high + c, first, tile.channels * sizeof *high);
        for (size_t t = 0; t < tile.tokens; t++)
            page_kernels()->range32(
                (const void *)((const uint8_t *)tile.rows[t] + tile.offset_bytes), tile.channels,
                low + c, high + c);
    }
}

/* A block of nothing but sinks is summarised with them. */
static struct page_source_tokens block_of(const struct page_source *source, uint32_t block) {
    uint32_t first = block * SUMMARY_BLOCK_TOKENS, tokens = source->shape.tokens;
    uint32_t last = first + SUMMARY_BLOCK_TOKENS < tokens ? first + SUMMARY_BLOCK_TOKENS : tokens;
    uint32_t sinks = source->sink_tokens < last ? source->sink_tokens : first;
    struct page_source_tokens all, some = {0};
    page_coded_source(source, &(struct page_header){0}, &all);
    some.layout = all.layout;
    for (uint32_t t = sinks > first ? sinks : first; t < last; t++)
        some.rows[some.count++] = all.rows[t];
    return some;
}

static void find_ranges(const struct page_source *source, struct workspace workspace,
                        struct ranges *ranges) {
    for (uint32_t block = 0; block < page_summary_blocks(source->shape.tokens); block++) {
        struct page_source_tokens tokens = block_of(source, block);
        float *low = ranges->values + RANGES * block * ranges->channels;
        float *high = low + ranges->channels;
        if (tokens.layout.dtype == PAGE_F16 || tokens.layout.dtype == PAGE_BF16)
            find_ranges16(&tokens, workspace, low, high);
        else
            find_ranges32(&tokens, workspace, low, high);
    }
}

/* ---- codes ---- */

/* So much above what it must be that rounding takes no largest value beyond the codes. */
static float step_for(float low, float high) {
    const float share = 0x1.010114p-8f, least = 0x1p-100f;
    float step = (high - low) * share;
    return step > least && step <= PAGE_F32_MAX ? step : 0;
}

/* Truncation rounds down, what a code is at least 0; what is no number has code 0. */
static inline float place_of(float x, float base, float inverse) {
    float place = (x - base) * inverse;
    place = place > 0 ? place : 0;
    return place < CODE_MAX ? place : CODE_MAX;
}

static void code_low(const float *restrict low, size_t count, float base, float inverse,
                     uint8_t *restrict codes) {
    for (size_t c = 0; c < count; c++)
        codes[c] = (uint8_t)(int32_t)place_of(low[c], base, inverse);
}

static void code_high(const float *restrict high, size_t count, float base, float inverse,
                      uint8_t *restrict codes) {
    for (size_t c = 0; c < count; c++) {
        float place = place_of(high[c], base, inverse);
        int32_t below = (int32_t)place;
        codes[c] = (uint8_t)(below + ((float)below < place));
    }
}

static void widen_range(const float *restrict values, size_t count, float *low, float *high) {
    float least = *low, most = *high;
    for (size_t c = 0; c < count; c++) {
        least = values[c] < least ? values[c] : least;
        most = values[c] > most ? values[c] : most;
    }
    *low = least;
    *high = most;
}

static void code_head(const struct page_shape *shape, const struct ranges *ranges, uint32_t head,
                      uint8_t *summary) {
    size_t head_dim = shape->head_dim, blocks = page_summary_blocks(shape->tokens);
    const float *values = ranges->values + head * head_dim;
    float low = PAGE_F32_MAX, high = -PAGE_F32_MAX;
    for (size_t i = 0; i < RANGES * blocks; i++)
        widen_range(values + i * ranges->channels, head_dim, &low, &high);
    float step = step_for(low, high), inverse = step > 0 ? 1 / step : 0;
    uint8_t *codes = summary + codes_offset(shape) + head * blocks * RANGES * head_dim;
    for (size_t i = 0; i < blocks; i++, codes += RANGES * head_dim) {
        code_low(values + RANGES * i * ranges->channels, head_dim, low, inverse, codes);
        code_high(values + (RANGES * i + 1) * ranges->channels, head_dim, low, inverse,
                  codes + head_dim);
    }
    memcpy(summary + (size_t)head * HEAD_BYTES, &low, sizeof low);
    memcpy(summary + (size_t)head * HEAD_BYTES + sizeof low, &step, sizeof step);
}

int page_summarise(const struct page_source *source, void *workspace, uint8_t *summary) {
    const struct page_shape *shape = &source->shape;
    if (!is_shape_possible(shape) || source->sink_tokens > shape->tokens ||
        !page_workspace_is_valid(workspace))
        return PAGE_ARGUMENT;
    struct workspace whole = page_workspace(workspace);
    struct ranges ranges = {.channels = shape_channels(shape)};
    size_t blocks = page_summary_blocks(shape->tokens);
    ranges.values = workspace_take(&whole, blocks * RANGES * ranges.channels * sizeof(float));
    find_ranges(source, whole, &ranges);
    memset(summary, 0, page_summary_bytes(shape));
    for (uint32_t head = 0; head < shape->heads; head++)
        code_head(shape, &ranges, head, summary);
    return PAGE_OK;
}
