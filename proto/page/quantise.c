/* Levels 0 to 5: a uniform step for each token, channel means taken off, entropy coded. */
#include "proto/page/coding.h"
#include "proto/page/convert.h"
#include "proto/page/kernels.h"
#include "proto/page/rans.h"
#include "proto/page/rows.h"

enum {
    SCALE_MAX = 32, /* quarter octaves that a token's step lies from the page's, either way */
    TILE_TOKENS = 8,
    MEAN_BITS = 4,  /* binary digits of a step in a channel's mean, at mean_shift 0 */
    FINE_LEVEL = 2, /* below it a step says more than a mean need */
};

static const float QUARTER[4] = {1.0f, 0x1.306fep+0f, 0x1.6a09e6p+0f, 0x1.ae89fap+0f};

/* What a page of quantised values consists of: C channels, n tokens. */
struct quantised {
    size_t channels, tokens;
    int16_t *scale;         /* [n] */
    int16_t *class_offset;  /* [C], to the header's centre */
    int16_t *mean_units;    /* [C] */
    float *mean;            /* [C] */
    uint8_t *channel_class; /* [C] */
    int16_t *q;             /* [C][n] */
    float step[PAGE_TOKENS_MAX];
};

static float step_of(uint16_t upper_half) {
    return bits_float((uint32_t)upper_half << 16);
}

static float token_step(float step, int scale) {
    int octave = scale >> 2;
    return step * QUARTER[scale & 3] * bits_float((uint32_t)(octave + 127) << 23);
}

static float mean_unit(const struct page_header *header) {
    uint32_t exponent = 127u - MEAN_BITS + header->mean_shift;
    return step_of(header->step) * bits_float(exponent << 23);
}

static void take_quantised(struct quantised *page, const struct page_header *header,
                           struct workspace *workspace) {
    page->channels = page_header_channels(header);
    page->tokens = page_header_coded(header);
    page->scale = workspace_take(workspace, page->tokens * sizeof *page->scale + 128);
    page->class_offset =
        workspace_take(workspace, page->channels * sizeof *page->class_offset + 128);
    page->mean_units = workspace_take(workspace, page->channels * sizeof *page->mean_units + 128);
    page->mean = workspace_take(workspace, page->channels * sizeof *page->mean);
    page->channel_class = workspace_take(workspace, page->channels);
    page->q = workspace_take(workspace, page->channels * page->tokens * sizeof *page->q + 256);
}

/* ---- encoding ---- */

static void channel_means(const float *rows, struct quantised *page) {
    memset(page->mean, 0, page->channels * sizeof *page->mean);
    for (size_t t = 0; t < page->tokens; t++)
        page_kernels()->add(rows + t * page->channels, page->channels, page->mean);
    for (size_t c = 0; c < page->channels; c++)
        page->mean[c] /= (float)page->tokens;
}

static float token_energy(const float *row, const float *mean, size_t channels) {
    float lanes[PAGE_LANES] = {0};
    for (size_t c = 0; c < channels; c += PAGE_BLOCK) {
        size_t count = channels - c < PAGE_BLOCK ? channels - c : PAGE_BLOCK;
        page_kernels()->row_deviation(row + c, mean + c, count, lanes);
    }
    return page_fold(lanes);
}

static double token_energies(const float *rows, const struct quantised *page, float *energy) {
    double total = 0;
    for (size_t t = 0; t < page->tokens; t++) {
        energy[t] = token_energy(rows + t * page->channels, page->mean, page->channels);
        total += (double)energy[t];
    }
    return total;
}

/* round(4 * log2(token's RMS / page's RMS)), from the exponent of the fourth power of the latter.
 */
static int scale_of(float energy, double total, size_t tokens) {
    float ratio = (float)((double)energy * (double)tokens / total);
    ratio = ratio > 0x1p-16f ? ratio : 0x1p-16f;
    int octaves = (int)(float_bits(ratio * ratio * 0x1.6a09e6p+0f) >> 23) - 127;
    return octaves > SCALE_MAX ? SCALE_MAX : octaves < -SCALE_MAX ? -SCALE_MAX : octaves;
}

/* Upper half of step, rounded; false if that is not a step that the format allows. */
static bool set_step(struct page_header *header, double mean_square) {
    float step = 0.05f * (float)(1 << header->level) * __builtin_sqrtf((float)mean_square);
    if (header->part == PAGE_V)
        step *= 1.5f;
    if (!(step >= 0x1p-99f && step <= 0x1p99f))
        return false;
    header->step = (uint16_t)(bfloat_bits(step) >> 16);
    return true;
}

static bool are_all_zero(const float *values, size_t count) {
    uint32_t bits = 0;
    for (size_t i = 0; i < count; i++)
        bits |= float_bits(values[i]) & 0x7fffffffu;
    return bits == 0;
}

/* Means, steps and scales of the page; false if its numbers are out of bounds. */
static bool measure(const float *rows, struct page_header *header, struct quantised *page) {
    float energy[PAGE_TOKENS_MAX];
    channel_means(rows, page);
    double total = token_energies(rows, page, energy);
    if (total == 0) { /* one token, or equal ones: the values themselves set the step */
        header->flags |= FLAG_NO_MEANS;
        memset(page->mean, 0, page->channels * sizeof *page->mean);
        total = token_energies(rows, page, energy);
    }
    if (total == 0) {
        if (!are_all_zero(rows, page->channels * page->tokens))
            return false; /* too small for their squares */
        header->step = 0x3f80;
        memset(page->scale, 0, page->tokens * sizeof *page->scale);
    } else {
        if (!set_step(header, total / (double)(page->tokens * page->channels)))
            return false;
        for (size_t t = 0; t < page->tokens; t++)
            page->scale[t] = (int16_t)scale_of(energy[t], total, page->tokens);
    }
    for (size_t t = 0; t < page->tokens; t++)
        page->step[t] = token_step(step_of(header->step), page->scale[t]);
    return true;
}

/* Rounds the means to units, the units so large that all fit 16 bits; false if none are. */
static bool quantise_means(struct page_header *header, struct quantised *page) {
    float largest = 0;
    for (size_t c = 0; c < page->channels; c++) {
        float magnitude = page->mean[c] < 0 ? -page->mean[c] : page->mean[c];
        largest = magnitude > largest ? magnitude : largest;
    }
    header->mean_shift = header->level < FINE_LEVEL ? (uint8_t)(FINE_LEVEL - header->level) : 0;
    while (largest / mean_unit(header) > 32766 && header->mean_shift < MEAN_SHIFT_MAX)
        header->mean_shift++;
    if (largest / mean_unit(header) > 32766)
        return false;
    float unit = mean_unit(header), inverse = 1 / unit;
    for (size_t c = 0; c < page->channels; c++) {
        float magic = page->mean[c] * inverse + 0x1.8p23f;
        page->mean_units[c] = (int16_t)float_bits(magic);
        page->mean[c] = (float)page->mean_units[c] * unit;
    }
    return true;
}

/* Quantises up to eight tokens and turns them to channel-major; false if a q does not fit. */
static bool quantise_tile(const float *rows, enum page_dtype dtype, size_t first,
                          struct quantised *page, struct loss_sums *loss) {
    const struct page_kernels *kernels = page_kernels();
    size_t tokens = page->tokens - first < TILE_TOKENS ? page->tokens - first : TILE_TOKENS;
    PAGE_SCRATCH int16_t tile[TILE_TOKENS * PAGE_BLOCK];
    struct page_lanes lanes[TILE_TOKENS] = {0};
    uint32_t outside = 0;
    for (size_t c = 0; c < page->channels; c += PAGE_BLOCK) {
        size_t count = page->channels - c < PAGE_BLOCK ? page->channels - c : PAGE_BLOCK;
        for (size_t t = 0; t < tokens; t++) {
            struct page_step step = {.step = page->step[first + t],
                                     .inverse = 1 / page->step[first + t]};
            outside |= kernels->row_quantise[dtype](rows + (first + t) * page->channels + c,
                                                    page->mean + c, step, count,
                                                    tile + t * PAGE_BLOCK, &lanes[t]);
        }
        kernels->transpose(tile, PAGE_BLOCK, tokens, count, page->q + c * page->tokens + first,
                           page->tokens);
    }
    for (size_t t = 0; t < tokens; t++) {
        loss->error += (double)page_fold(lanes[t].error);
        loss->energy += (double)page_fold(lanes[t].energy);
    }
    return outside == 0;
}

static unsigned channel_class(const int16_t *q, size_t tokens) {
    int32_t sum = 0;
    for (size_t t = 0; t < tokens; t++)
        sum += q[t] < 0 ? -q[t] : q[t];
    return rans_class_of_magnitude((uint64_t)sum, tokens);
}

/* Classes of the channels, as differences to their mean, and of the side rows. */
static void choose_classes(struct page_header *header, struct quantised *page) {
    size_t sum = 0;
    for (size_t c = 0; c < page->channels; c++) {
        page->channel_class[c] = (uint8_t)channel_class(page->q + c * page->tokens, page->tokens);
        sum += page->channel_class[c];
    }
    assert(page->channels > 0);
    header->centre[0] = (uint8_t)((sum + page->channels / 2) / page->channels);
    for (size_t c = 0; c < page->channels; c++)
        page->class_offset[c] = (int16_t)(page->channel_class[c] - header->centre[0]);
    header->row_class[0] = (uint8_t)rans_choose_class(page->scale, page->tokens);
    header->row_class[1] = (uint8_t)rans_choose_class(page->class_offset, page->channels);
    if (!(header->flags & FLAG_NO_MEANS))
        header->row_class[2] = (uint8_t)rans_choose_class(page->mean_units, page->channels);
}

/* Last row first: the decoder reads them the other way round. */
static bool encode_rows(const struct page_header *header, const struct quantised *page,
                        struct rans_encoder *encoder) {
    bool room = true;
    for (size_t c = page->channels; c-- > 0;)
        room &= rans_encode_side_row(encoder, rans_level_class(page->channel_class[c]),
                                     page->q + c * page->tokens, page->tokens);
    if (!(header->flags & FLAG_NO_MEANS))
        room &= rans_encode_side_row(encoder, rans_level_class(header->row_class[2]),
                                     page->mean_units, page->channels);
    room &= rans_encode_side_row(encoder, rans_level_class(header->row_class[1]),
                                 page->class_offset, page->channels);
    room &= rans_encode_side_row(encoder, rans_level_class(header->row_class[0]), page->scale,
                                 page->tokens);
    return room;
}

static size_t write_stream(struct page_header *header, const struct quantised *page,
                           uint8_t *memory, struct rans_encode_model *models, uint8_t *out,
                           size_t out_bytes) {
    struct rans_encoder encoder;
    rans_encoder_init(&encoder, memory, out_bytes, models);
    if (!encode_rows(header, page, &encoder))
        return 0;
    if (rans_encoder_bytes(&encoder) >= out_bytes)
        return 0;
    rans_encoder_write(&encoder, out);
    return rans_encoder_bytes(&encoder);
}

size_t quantise_encode(const struct page_source *source, struct workspace workspace,
                       struct page_header *header, struct loss_sums *loss, uint8_t *out,
                       size_t out_bytes) {
    struct quantised page;
    take_quantised(&page, header, &workspace);
    struct rans_encode_model *models = workspace_take(&workspace, PAGE_TABLES * sizeof *models);
    float *rows = workspace_take(&workspace, page.channels * page.tokens * sizeof(float));
    uint8_t *memory = workspace_take(&workspace, rans_encoder_memory_bytes(out_bytes));
    for (size_t t = 0; t < page.tokens; t++)
        page_load_token(source, header->sink_tokens + t, 0, page.channels,
                        rows + t * page.channels);
    if (!measure(rows, header, &page))
        return 0;
    if (!(header->flags & FLAG_NO_MEANS) && !quantise_means(header, &page))
        return 0;
    bool fits = true;
    for (size_t t = 0; t < page.tokens; t += TILE_TOKENS)
        fits &= quantise_tile(rows, header->dtype, t, &page, loss);
    if (!fits)
        return 0;
    choose_classes(header, &page);
    return write_stream(header, &page, memory, models, out, out_bytes);
}

/* ---- decoding ---- */

static bool decode_scales(const struct page_header *header, struct rans_decoder *decoder,
                          struct quantised *page) {
    if (!rans_decode_side_row(decoder, rans_level_class(header->row_class[0]), page->scale,
                              page->tokens))
        return false;
    for (size_t t = 0; t < page->tokens; t++) {
        if (page->scale[t] < -SCALE_MAX || page->scale[t] > SCALE_MAX)
            return false;
        page->step[t] = token_step(step_of(header->step), page->scale[t]);
    }
    return true;
}

static bool decode_classes(const struct page_header *header, struct rans_decoder *decoder,
                           struct quantised *page) {
    if (!rans_decode_side_row(decoder, rans_level_class(header->row_class[1]), page->class_offset,
                              page->channels))
        return false;
    for (size_t c = 0; c < page->channels; c++) {
        int k = page->class_offset[c] + header->centre[0];
        if (k < 0 || k >= PAGE_CLASSES)
            return false;
        page->channel_class[c] = (uint8_t)k;
    }
    return true;
}

static bool decode_means(const struct page_header *header, struct rans_decoder *decoder,
                         struct quantised *page) {
    if (header->flags & FLAG_NO_MEANS) {
        memset(page->mean, 0, page->channels * sizeof *page->mean);
        return true;
    }
    if (!rans_decode_side_row(decoder, rans_level_class(header->row_class[2]), page->mean_units,
                              page->channels))
        return false;
    float unit = mean_unit(header);
    for (size_t c = 0; c < page->channels; c++)
        page->mean[c] = (float)page->mean_units[c] * unit;
    return true;
}

static bool decode_channels(struct rans_decoder *decoder, struct quantised *page) {
    for (size_t c = 0; c < page->channels; c++)
        if (!rans_decode_side_row(decoder, rans_level_class(page->channel_class[c]),
                                  page->q + c * page->tokens, page->tokens))
            return false;
    return true;
}

/* Channels channel .. channel + count - 1 of a token (of the coded ones) to the target. */
static void store_token(const struct page_header *header, const struct quantised *page,
                        const int16_t *q, size_t token, size_t channel, size_t count,
                        const struct page_target *target) {
    float phase = (float)header->phase * 0x1p-7f;
    size_t value_bytes = page_value_bytes(target->dtype), run;
    for (size_t i = 0; i < count; i += run) {
        run = row_run(header->head_dim, &target->strides, channel + i, count - i);
        size_t index = row_index(header->head_dim, &target->strides,
                                 header->sink_tokens + token - target->first, channel + i);
        page_kernels()->row_dequantise[target->dtype](
            q + i, page->mean + channel + i, page->step[token], phase, run,
            (uint8_t *)target->values + index * value_bytes);
    }
}

static void store_tokens(const struct page_header *header, const struct quantised *page,
                         size_t first, size_t last, const struct page_target *target) {
    PAGE_SCRATCH int16_t tile[TILE_TOKENS * PAGE_BLOCK];
    for (size_t t0 = first; t0 < last; t0 += TILE_TOKENS) {
        size_t tokens = last - t0 < TILE_TOKENS ? last - t0 : TILE_TOKENS;
        for (size_t c = 0; c < page->channels; c += PAGE_BLOCK) {
            size_t count = page->channels - c < PAGE_BLOCK ? page->channels - c : PAGE_BLOCK;
            page_kernels()->transpose(page->q + c * page->tokens + t0, page->tokens, count, tokens,
                                      tile, PAGE_BLOCK);
            for (size_t t = 0; t < tokens; t++)
                store_token(header, page, tile + t * PAGE_BLOCK, t0 + t, c, count, target);
        }
    }
}

bool quantise_decode(const struct page_header *header, struct payload payload,
                     const struct page_target *target, size_t first, size_t last,
                     struct workspace workspace) {
    struct quantised page;
    take_quantised(&page, header, &workspace);
    struct rans_decoder decoder;
    if (!rans_decoder_init(&decoder, payload.bytes, payload.length,
                           workspace_take(&workspace, PAGE_TABLES * sizeof *decoder.models)))
        return false;
    if (!decode_scales(header, &decoder, &page) || !decode_classes(header, &decoder, &page) ||
        !decode_means(header, &decoder, &page) || !decode_channels(&decoder, &page) ||
        !rans_decoder_done(&decoder))
        return false;
    store_tokens(header, &page, first - header->sink_tokens, last - header->sink_tokens, target);
    return true;
}
