#include "proto/page/rows.h"
#include "proto/page/compact.h"
#include "proto/page/convert.h"

static struct page_layout layout_of(size_t channels, size_t head_dim, size_t head_stride,
                                    enum page_dtype dtype) {
    return (struct page_layout){.channels = channels,
                                .head_dim = head_dim,
                                .head_bytes = page_row_bytes(dtype, head_stride),
                                .dtype = dtype};
}

/* ---- lists of tokens ---- */

static void list_source(const struct page_source *source, const struct page_header *header,
                        bool exact, struct page_source_tokens *tokens) {
    size_t token_bytes = page_row_bytes(source->shape.dtype, source->strides.token), next = 0;
    tokens->layout = layout_of(shape_channels(&source->shape), source->shape.head_dim,
                               source->strides.head, source->shape.dtype);
    tokens->count = 0;
    for (size_t t = 0; t < source->shape.tokens; t++) {
        bool is_exact = next < header->exact_tokens && header->exact_token[next] == t;
        next += is_exact;
        if (is_exact == exact)
            tokens->rows[tokens->count++] = (const uint8_t *)source->values + t * token_bytes;
    }
}

void page_coded_source(const struct page_source *source, const struct page_header *header,
                       struct page_source_tokens *tokens) {
    list_source(source, header, false, tokens);
}

void page_exact_source(const struct page_source *source, const struct page_header *header,
                       struct page_source_tokens *tokens) {
    list_source(source, header, true, tokens);
}

void page_coded_target(const struct page_target *target, const struct page_header *header,
                       struct page_target_tokens *tokens) {
    size_t token_bytes = page_row_bytes(target->dtype, target->strides.token);
    size_t coded = 0, next = 0, end = target->first + (size_t)target->tokens;
    tokens->layout = layout_of(page_header_channels(header), header->head_dim, target->strides.head,
                               target->dtype);
    tokens->streaming = target->streaming;
    tokens->first = 0;
    for (size_t t = 0; t < end; t++) {
        if (next < header->exact_tokens && header->exact_token[next] == t)
            next++;
        else
            tokens->rows[coded++] =
                t < target->first ? NULL
                                  : (uint8_t *)target->values + (t - target->first) * token_bytes;
        if (t + 1 == target->first)
            tokens->first = coded;
    }
    tokens->last = coded;
}

/* ---- tiles ---- */

static void stage_rows(const struct page_layout *layout, size_t first, size_t last, size_t channels,
                       struct page_staging *staging) {
    for (size_t t = first; t < last; t++)
        staging->rows[t] = staging->values + t * row_bytes(layout, channels);
}

struct page_source_rows page_source_tile(const struct page_source_tokens *tokens, size_t channel,
                                         struct page_staging *staging) {
    const struct page_layout *layout = &tokens->layout;
    size_t channels = tile_channels(layout->channels, channel), run;
    struct page_source_rows tile = {.rows = tokens->rows,
                                    .offset_bytes = page_layout_offset(layout, channel),
                                    .tokens = tokens->count,
                                    .channels = channels};
    if (page_layout_run(layout, channel, channels) == channels)
        return tile;
    stage_rows(layout, 0, tokens->count, channels, staging);
    for (size_t c = 0; c < channels; c += run) {
        run = page_layout_run(layout, channel + c, channels - c);
        size_t from = page_layout_offset(layout, channel + c), to = row_bytes(layout, c);
        for (size_t t = 0; t < tokens->count; t++)
            memcpy((uint8_t *)staging->rows[t] + to, (const uint8_t *)tokens->rows[t] + from,
                   row_bytes(layout, run));
    }
    tile.rows = (const void *const *)staging->rows;
    tile.offset_bytes = 0;
    return tile;
}

struct page_target_rows page_target_tile(const struct page_target_tokens *tokens, size_t channel,
                                         struct page_staging *staging) {
    const struct page_layout *layout = &tokens->layout;
    size_t channels = tile_channels(layout->channels, channel);
    struct page_target_rows tile = {.rows = tokens->rows,
                                    .offset_bytes = page_layout_offset(layout, channel),
                                    .first = tokens->first,
                                    .last = tokens->last,
                                    .channels = channels,
                                    .streaming = tokens->streaming};
    if (page_layout_run(layout, channel, channels) == channels)
        return tile;
    stage_rows(layout, tokens->first, tokens->last, channels, staging);
    tile.rows = staging->rows;
    tile.offset_bytes = 0;
    tile.streaming = false;
    return tile;
}

void page_target_tile_end(const struct page_target_tokens *tokens, size_t channel,
                          const struct page_staging *staging) {
    const struct page_layout *layout = &tokens->layout;
    size_t channels = tile_channels(layout->channels, channel), run;
    if (page_layout_run(layout, channel, channels) == channels)
        return;
    for (size_t c = 0; c < channels; c += run) {
        run = page_layout_run(layout, channel + c, channels - c);
        size_t from = row_bytes(layout, c), to = page_layout_offset(layout, channel + c);
        for (size_t t = tokens->first; t < tokens->last; t++)
            memcpy((uint8_t *)tokens->rows[t] + to, (const uint8_t *)staging->rows[t] + from,
                   row_bytes(layout, run));
    }
}

/* ---- tiles of numbers ---- */

struct page_source_rows page_source_numbers(const struct page_source_tokens *tokens, size_t channel,
                                            struct page_staging *staging) {
    const struct page_layout *layout = &tokens->layout;
    if (!page_is_compact(layout->dtype))
        return page_source_tile(tokens, channel, staging);
    size_t channels = tile_channels(layout->channels, channel), run;
    for (size_t t = 0; t < tokens->count; t++) {
        float *row = (float *)staging->values + t * channels;
        staging->rows[t] = row;
        for (size_t c = 0; c < channels; c += run) {
            run = page_layout_run(layout, channel + c, channels - c);
            size_t from = page_layout_offset(layout, channel + c);
            page_compact_load(layout->dtype, (const uint8_t *)tokens->rows[t] + from, run, row + c);
        }
    }
    return (struct page_source_rows){
        .rows = (const void *const *)staging->rows, .tokens = tokens->count, .channels = channels};
}

struct page_target_rows page_target_numbers(const struct page_target_tokens *tokens, size_t channel,
                                            struct page_staging *staging) {
    const struct page_layout *layout = &tokens->layout;
    if (!page_is_compact(layout->dtype))
        return page_target_tile(tokens, channel, staging);
    size_t channels = tile_channels(layout->channels, channel);
    for (size_t t = tokens->first; t < tokens->last; t++)
        staging->rows[t] = (float *)staging->values + t * channels;
    return (struct page_target_rows){
        .rows = staging->rows, .first = tokens->first, .last = tokens->last, .channels = channels};
}

void page_target_numbers_end(const struct page_target_tokens *tokens, size_t channel,
                             const struct page_staging *staging) {
    const struct page_layout *layout = &tokens->layout;
    if (!page_is_compact(layout->dtype)) {
        page_target_tile_end(tokens, channel, staging);
        return;
    }
    size_t channels = tile_channels(layout->channels, channel), run;
    for (size_t t = tokens->first; t < tokens->last; t++)
        for (size_t c = 0; c < channels; c += run) {
            run = page_layout_run(layout, channel + c, channels - c);
            size_t to = page_layout_offset(layout, channel + c);
            page_compact_store(layout->dtype, (const float *)staging->rows[t] + c, run,
                               (uint8_t *)tokens->rows[t] + to);
        }
}

/* ---- whole tokens ---- */

static bool is_finite(float x) {
    return (float_bits(x) & 0x7f800000u) != 0x7f800000u;
}

static const uint8_t *values_at(const struct page_source_tokens *tokens, size_t token,
                                size_t channel) {
    return (const uint8_t *)tokens->rows[token] + page_layout_offset(&tokens->layout, channel);
}

/* Whether squares can be added up where the values stand: numbers, whose runs begin at lane 0. */
static bool are_lanes_in_place(const struct page_layout *layout) {
    return !page_is_compact(layout->dtype) &&
           (page_layout_run(layout, 0, layout->channels) == layout->channels ||
            layout->head_dim % PAGE_LANES == 0);
}

static float energy_in_place(const struct page_source_tokens *tokens, size_t token) {
    const struct page_layout *layout = &tokens->layout;
    float lanes[PAGE_LANES] = {0};
    size_t run;
    for (size_t c = 0; c < layout->channels; c += run) {
        run = page_layout_run(layout, c, layout->channels - c);
        page_kernels()->squares[layout->dtype](values_at(tokens, token, c), run, lanes);
    }
    return page_fold(lanes);
}

static void clear_infinite(float *x, size_t count) {
    for (size_t i = 0; i < count; i++)
        x[i] = is_finite(x[i]) ? x[i] : 0;
}

/* Also without the values that are not finite. */
static float energy_of_numbers(const struct page_source_tokens *tokens, size_t token,
                               bool finite_only) {
    const struct page_layout *layout = &tokens->layout;
    float lanes[PAGE_LANES] = {0}, numbers[PAGE_BLOCK];
    for (size_t first = 0; first < layout->channels; first += PAGE_BLOCK) {
        size_t channels = tile_channels(layout->channels, first), run;
        for (size_t c = 0; c < channels; c += run) {
            run = page_layout_run(layout, first + c, channels - c);
            page_convert_row(layout->dtype, values_at(tokens, token, first + c), PAGE_F32,
                             numbers + c, run);
        }
        if (finite_only)
            clear_infinite(numbers, channels);
        page_kernels()->squares[PAGE_F32](numbers, channels, lanes);
    }
    return page_fold(lanes);
}

/* Token by token, as they stand in memory: often the first to read them, and tiles of all tokens
 * would jump about where the processor does not foresee it. */
double page_tokens_energy(const struct page_source_tokens *tokens) {
    bool in_place = are_lanes_in_place(&tokens->layout);
    double energy = 0;
    for (size_t t = 0; t < tokens->count; t++) {
        float sum = in_place ? energy_in_place(tokens, t) : energy_of_numbers(tokens, t, false);
        energy += (double)(is_finite(sum) ? sum : energy_of_numbers(tokens, t, true));
    }
    return energy;
}

void page_copy_token(const struct page_source_tokens *tokens, size_t token, void *out) {
    const struct page_layout *layout = &tokens->layout;
    size_t run;
    for (size_t c = 0; c < layout->channels; c += run) {
        run = page_layout_run(layout, c, layout->channels - c);
        memcpy((uint8_t *)out + row_bytes(layout, c),
               (const uint8_t *)tokens->rows[token] + page_layout_offset(layout, c),
               row_bytes(layout, run));
    }
}

void page_store_row(const struct page_layout *layout, enum page_dtype dtype, const void *values,
                    void *row) {
    size_t run;
    for (size_t c = 0; c < layout->channels; c += run) {
        run = page_layout_run(layout, c, layout->channels - c);
        page_convert_row(dtype, (const uint8_t *)values + page_row_bytes(dtype, c), layout->dtype,
                         (uint8_t *)row + page_layout_offset(layout, c), run);
    }
}

void page_store_token(const struct page_target *target, uint32_t heads, uint32_t head_dim,
                      size_t token, enum page_dtype dtype, const void *values) {
    struct page_layout layout =
        layout_of((size_t)heads * head_dim, head_dim, target->strides.head, target->dtype);
    size_t token_bytes = page_row_bytes(target->dtype, target->strides.token);
    page_store_row(&layout, dtype, values,
                   (uint8_t *)target->values + (token - target->first) * token_bytes);
}
