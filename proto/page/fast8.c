/* Eight bits a value without an entropy coder: x = (base + q) * scale, for each channel. */
#include "proto/page/coding.h"
#include "proto/page/convert.h"
#include "proto/page/kernels.h"
#include "proto/page/rows.h"

enum {
    CHANNEL_BYTES = 4, /* scale and base */
    LOSS_SUMS = 8,
};

struct channels {
    size_t count;
    float *base, *scale; /* the channels' lows and highs, until scales are chosen */
    float *fine, *offset;
};

static void take_channels(struct channels *channels, const struct page_header *header,
                          struct workspace *workspace) {
    channels->count = page_header_channels(header);
    channels->base = workspace_take(workspace, channels->count * sizeof(float));
    channels->scale = workspace_take(workspace, channels->count * sizeof(float));
    channels->fine = workspace_take(workspace, channels->count * sizeof(float));
    channels->offset = workspace_take(workspace, channels->count * sizeof(float));
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

/* The smallest scale that spans the range and keeps base within 16 bits; 1 if all is 0. Without a
 * branch, which would keep compilers from choosing several channels' at once. */
static inline float scale_for(float low, float high) {
    float magnitude = bits_float(float_bits(low) & 0x7fffffff);
    float scale = (high - low) / 255, least = magnitude / 32767;
    scale = least > scale ? least : scale; /* a NaN stays */
    bool zero = ((float_bits(low) | float_bits(high)) & 0x7fffffff) == 0;
    return bits_float(float_bits(scale) | (0x3f800000 & -(uint32_t)zero));
}

/* The highest bit is set unless a page may have these: a scale within 2^-120..2^120, and a finite
 * value for q = 0. */
static inline uint32_t outside_grid(float scale, float low) {
    const uint32_t least = float_bits(0x1p-120f), most = float_bits(0x1p120f);
    uint32_t largest = float_bits(PAGE_F32_MAX), magnitude = float_bits(low) & 0x7fffffff;
    return (float_bits(scale) - least) | (most - float_bits(scale)) | (largest - magnitude);
}

static void choose_scales(size_t count, const float *restrict low, float *restrict high_to_scale) {
    for (size_t c = 0; c < count; c++) {
        uint32_t bits = float_bits(scale_for(low[c], high_to_scale[c]));
        high_to_scale[c] = bits_float((bits + 0xffff) & 0xffff0000); /* rounded up */
    }
}

/* The highest bit is set if one is outside what a page may have, or fine is not finite. */
static uint32_t choose_bases(size_t count, const float *restrict scale, float *restrict low_to_base,
                             float *restrict fine, float *restrict offset) {
    uint32_t outside = 0;
    for (size_t c = 0; c < count; c++) {
        float inverse = 1 / scale[c];
        float base = (low_to_base[c] * inverse + 0x1.8p23f) - 0x1.8p23f;
        low_to_base[c] = base;
        fine[c] = 256 * inverse;
        offset[c] = 256 * base - 128;
        outside |= outside_grid(scale[c], base * scale[c]);
        outside |= float_bits(scale[c]) - float_bits(0x1p-119f);
    }
    return outside;
}

static void write_channels(size_t count, const float *restrict scale, const float *restrict base,
                           uint8_t *out) {
    unaligned_u16 *restrict scales = (unaligned_u16 *)out, *restrict bases = scales + count;
    for (size_t c = 0; c < count; c++)
        scales[c] = (uint16_t)(float_bits(scale[c]) >> 16);
    for (size_t c = 0; c < count; c++)
        bases[c] = (uint16_t)(int32_t)base[c];
}

/* base and scale hold the channels' ranges on entry; false if there is no scale for one. */
static bool choose_channels(struct channels *channels, uint8_t *out) {
    size_t count = channels->count;
    choose_scales(count, channels->base, channels->scale);
    if (choose_bases(count, channels->scale, channels->base, channels->fine, channels->offset) >>
            31 !=
        0)
        return false;
    write_channels(count, channels->scale, channels->base, out);
    return true;
}

/* Of the channels c mod LOSS_SUMS: partial sums do not wait for each other. */
struct loss_lanes {
    double error[LOSS_SUMS], energy[LOSS_SUMS];
};

static inline void add_loss(const float *restrict scale, const int32_t *restrict residual,
                            const float *restrict energy, size_t count,
                            struct loss_lanes *restrict lanes) {
    for (size_t i = 0; i < count; i++) {
        double fine = (double)scale[i] / 256;
        lanes->error[i] += residual[i] * (fine * fine);
        lanes->energy[i] += (double)energy[i];
    }
}

static void add_tile(const float *scale, const struct page_fast8_sums *sums, size_t channels,
                     struct loss_lanes *lanes) {
    size_t c = 0;
    for (; c + LOSS_SUMS <= channels; c += LOSS_SUMS)
        add_loss(scale + c, sums->residual + c, sums->energy + c, LOSS_SUMS, lanes);
    add_loss(scale + c, sums->residual + c, sums->energy + c, channels - c, lanes);
}

static void encode_tile(const struct page_source_tokens *tokens, const struct channels *channels,
                        size_t channel, struct page_staging *staging, uint8_t *q,
                        struct loss_lanes *lanes) {
    struct page_fast8_sums sums;
    struct page_source_rows tile = page_source_tile(tokens, channel, staging);
    struct page_grid grid = {channels->fine + channel, channels->offset + channel};
    page_kernels()->fast8_encode[tokens->layout.dtype](&tile, &grid, q + channel, channels->count,
                                                       &sums);
    add_tile(channels->scale + channel, &sums, tile.channels, lanes);
}

size_t fast8_encode(const struct page_source *source, struct workspace workspace,
                    struct page_header *header, uint8_t *page) {
    size_t count = page_header_channels(header), coded = page_header_coded(header);
    size_t length = count * (CHANNEL_BYTES + coded);
    if (length >= coded * count * page_value_bytes(header->dtype))
        return 0; /* so there are more tokens than one, and the workspace does */
    struct channels channels;
    struct page_source_tokens tokens;
    struct loss_lanes lanes = {0};
    struct loss_sums loss = {0};
    uint8_t *out = page_write_exact_tokens(source, header, page, &loss.energy);
    take_channels(&channels, header, &workspace);
    page_coded_source(source, header, &tokens);
    if (header->dtype == PAGE_F32)
        find_range32(&tokens, workspace, channels.base, channels.scale);
    else
        find_range16(&tokens, workspace, channels.base, channels.scale);
    if (!choose_channels(&channels, out))
        return 0;
    uint8_t *q = out + CHANNEL_BYTES * count;
    struct page_staging *staging = workspace_take(&workspace, sizeof *staging);
    for (size_t c = 0; c < count; c += PAGE_BLOCK)
        encode_tile(&tokens, &channels, c, staging, q, &lanes);
    for (size_t i = 0; i < LOSS_SUMS; i++) {
        loss.error += lanes.error[i];
        loss.energy += lanes.energy[i];
    }
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
