/* Eight bits a value without an entropy coder: x = (base + q) * scale, for each channel. */
#include "proto/page/coding.h"
#include "proto/page/convert.h"
#include "proto/page/kernels.h"
#include "proto/page/rows.h"

enum { CHANNEL_BYTES = 4 }; /* scale and base */

struct channels {
    size_t count;
    float *base, *scale, *inverse;
};

static void take_channels(struct channels *channels, const struct page_header *header,
                          struct workspace *workspace) {
    channels->count = page_header_channels(header);
    channels->base = workspace_take(workspace, channels->count * sizeof(float));
    channels->scale = workspace_take(workspace, channels->count * sizeof(float));
    channels->inverse = workspace_take(workspace, channels->count * sizeof(float));
}

/* ---- encoding ---- */

static void find_range16(const struct page_source_tokens *tokens, struct workspace workspace,
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

static void find_range32(const struct page_source_tokens *tokens, struct workspace workspace,
                         float *low, float *high) {
    size_t count = tokens->layout.channels;
    float *row = workspace_take(&workspace, count * sizeof *row);
    page_copy_token(tokens, 0, low);
    memcpy(high, low, count * sizeof *high);
    for (size_t t = 0; t < tokens->count; t++) {
        page_copy_token(tokens, t, row);
        page_kernels()->range32(row, count, low, high);
    }
}

/* The smallest scale that spans the range and keeps base within 16 bits. */
static inline float scale_for(float low, float high) {
    float magnitude = low < 0 ? -low : low;
    float scale = (high - low) / 255, least = magnitude / 32767;
    scale = least > scale ? least : scale; /* a NaN stays */
    return low == 0 && high == 0 ? 1 : scale;
}

/* The highest bit is set unless a page may have these: a scale within 2^-120..2^120, and a finite
 * value for q = 0. */
static inline uint32_t outside_grid(float scale, float low) {
    const uint32_t least = float_bits(0x1p-120f), most = float_bits(0x1p120f);
    uint32_t largest = float_bits(PAGE_F32_MAX), magnitude = float_bits(low) & 0x7fffffff;
    return (float_bits(scale) - least) | (most - float_bits(scale)) | (largest - magnitude);
}

/* base and scale hold the channels' ranges on entry; false if there is no scale for one. */
static bool choose_scales(struct channels *channels, uint8_t *out) {
    float *restrict base = channels->base, *restrict factor = channels->scale;
    float *restrict inverse = channels->inverse;
    unaligned_u16 *scales = (unaligned_u16 *)out, *bases = scales + channels->count;
    uint32_t outside = 0;
    for (size_t c = 0; c < channels->count; c++) {
        float low = base[c];
        uint32_t scale = (float_bits(scale_for(low, factor[c])) + 0xffff) >> 16; /* rounded up */
        factor[c] = bits_float(scale << 16);
        inverse[c] = 1 / factor[c];
        float magic = low * inverse[c] + 0x1.8p23f;
        scales[c] = (uint16_t)scale;
        bases[c] = (uint16_t)float_bits(magic);
        base[c] = magic - 0x1.8p23f;
        outside |= outside_grid(factor[c], base[c] * factor[c]);
    }
    return outside >> 31 == 0;
}

static void encode_tile(const struct page_source_tokens *tokens, const struct channels *channels,
                        size_t channel, struct page_staging *staging, uint8_t *q,
                        struct loss_sums *loss) {
    struct page_lanes lanes;
    struct page_source_rows tile = page_source_tile(tokens, channel, staging);
    struct page_grid grid = {channels->base + channel, channels->scale + channel,
                             channels->inverse + channel};
    page_kernels()->fast8_encode[tokens->layout.dtype](&tile, &grid, q + channel, channels->count,
                                                       &lanes);
    loss->error += (double)page_fold(lanes.error);
    loss->energy += (double)page_fold(lanes.energy);
}

size_t fast8_encode(const struct page_source *source, struct workspace workspace,
                    struct page_header *header, uint8_t *page) {
    size_t count = page_header_channels(header), coded = page_header_coded(header);
    size_t length = count * (CHANNEL_BYTES + coded);
    if (length >= coded * count * page_value_bytes(header->dtype))
        return 0; /* so there are more tokens than one, and the workspace does */
    struct channels channels;
    struct page_source_tokens tokens;
    struct loss_sums loss = {0};
    uint8_t *out = page_write_exact_tokens(source, header, page, &loss.energy);
    take_channels(&channels, header, &workspace);
    page_coded_source(source, header, &tokens);
    if (header->dtype == PAGE_F32)
        find_range32(&tokens, workspace, channels.base, channels.scale);
    else
        find_range16(&tokens, workspace, channels.base, channels.scale);
    if (!choose_scales(&channels, out))
        return 0;
    uint8_t *q = out + CHANNEL_BYTES * count;
    struct page_staging *staging = workspace_take(&workspace, sizeof *staging);
    for (size_t c = 0; c < count; c += PAGE_BLOCK)
        encode_tile(&tokens, &channels, c, staging, q, &loss);
    return page_set_loss(header, &loss) ? (size_t)(out - page) + length : 0;
}

/* ---- decoding ---- */

/* Scales and what q = 0 stands for. No value that they make is beyond float32. */
static bool read_channels(const uint8_t *bytes, size_t count, float *scale, float *low) {
    const unaligned_u16 *scales = (const unaligned_u16 *)bytes, *bases = scales + count;
    uint32_t outside = 0;
    for (size_t c = 0; c < count; c++) {
        scale[c] = bits_float((uint32_t)scales[c] << 16);
        low[c] = (float)(int16_t)bases[c] * scale[c];
        outside |= outside_grid(scale[c], low[c]);
    }
    return outside >> 31 == 0;
}

bool fast8_decode(const struct page_header *header, struct payload payload,
                  const struct page_target_tokens *target, struct workspace workspace) {
    const struct page_layout *layout = &target->layout;
    size_t count = page_header_channels(header), run;
    float *scale = workspace_take(&workspace, count * sizeof *scale);
    float *low = workspace_take(&workspace, count * sizeof *low);
    if (payload.length != count * (CHANNEL_BYTES + page_header_coded(header)) ||
        !read_channels(payload.bytes, count, scale, low))
        return false;
    const uint8_t *q = payload.bytes + CHANNEL_BYTES * count;
    for (size_t c = 0; c < count; c += run) {
        run = page_layout_run(layout, c, count - c);
        struct page_target_rows rows = {.rows = target->rows,
                                        .offset_bytes = page_layout_offset(layout, c),
                                        .first = target->first,
                                        .last = target->last,
                                        .channels = run,
                                        .streaming = target->streaming};
        page_kernels()->fast8_decode[layout->dtype](q + c, count, low + c, scale + c, &rows);
    }
    return true;
}
