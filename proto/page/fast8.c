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

static void find_range16(const struct page_source *source, const struct page_header *header,
                         struct workspace workspace, float *low, float *high) {
    size_t count = shape_channels(&source->shape), run;
    int16_t *lowest = workspace_take(&workspace, count * sizeof *lowest);
    int16_t *highest = workspace_take(&workspace, count * sizeof *highest);
    for (size_t c = 0; c < count; c++)
        lowest[c] = INT16_MAX, highest[c] = INT16_MIN;
    for (size_t t = header->sink_tokens; t < header->tokens; t++)
        for (size_t c = 0; c < count; c += run) {
            run = row_run(header->head_dim, &source->strides, c, count - c);
            size_t index = row_index(header->head_dim, &source->strides, t, c);
            page_kernels()->range16((const unaligned_u16 *)source->values + index, run, lowest + c,
                                    highest + c);
        }
    for (size_t c = 0; c < count; c++) { /* back from integers that order as the floats do */
        lowest[c] = (int16_t)(lowest[c] ^ (lowest[c] >> 15 & 0x7fff));
        highest[c] = (int16_t)(highest[c] ^ (highest[c] >> 15 & 0x7fff));
    }
    page_kernels()->load[header->dtype](lowest, count, low);
    page_kernels()->load[header->dtype](highest, count, high);
}

static void find_range32(const struct page_source *source, const struct page_header *header,
                         float *row, float *low, float *high) {
    size_t count = shape_channels(&source->shape);
    page_load_token(source, header->sink_tokens, 0, count, low);
    memcpy(high, low, count * sizeof *high);
    for (size_t t = header->sink_tokens; t < header->tokens; t++) {
        page_load_token(source, t, 0, count, row);
        page_kernels()->range32(row, count, low, high);
    }
}

/* The smallest scale of eight significant bits that spans the range and keeps base within 16 bits;
 * 0 if there is none. */
static uint16_t scale_for(float low, float high) {
    float magnitude = low < 0 ? -low : low;
    float scale = (high - low) / 255, least = magnitude / 32767;
    scale = scale > least ? scale : least;
    if (scale == 0 && low == 0 && high == 0)
        scale = 1;
    if (!(scale >= 0x1p-120f && scale <= 0x1p120f))
        return 0;
    return (uint16_t)((float_bits(scale) + 0xffff) >> 16);
}

/* base and scale hold the channels' ranges on entry. */
static bool choose_scales(struct channels *channels, uint8_t *out) {
    uint8_t *scales = out, *bases = out + 2 * channels->count;
    for (size_t c = 0; c < channels->count; c++) {
        float low = channels->base[c], high = channels->scale[c];
        uint16_t scale = scale_for(low, high);
        if (scale == 0)
            return false;
        put_u16(scales + 2 * c, scale);
        channels->scale[c] = bits_float((uint32_t)scale << 16);
        channels->inverse[c] = 1 / channels->scale[c];
        float magic = low * channels->inverse[c] + 0x1.8p23f;
        put_u16(bases + 2 * c, float_bits(magic) & 0xffff);
        channels->base[c] = magic - 0x1.8p23f;
    }
    return true;
}

static void encode_token(const float *row, enum page_dtype dtype, const struct channels *channels,
                         uint8_t *q, struct loss_sums *loss) {
    struct page_lanes lanes = {0};
    for (size_t c = 0; c < channels->count; c += PAGE_BLOCK) {
        size_t count = channels->count - c < PAGE_BLOCK ? channels->count - c : PAGE_BLOCK;
        struct page_grid grid = {channels->base + c, channels->scale + c, channels->inverse + c};
        page_kernels()->fast8_encode[dtype](row + c, &grid, count, q + c, &lanes);
    }
    loss->error += (double)page_fold(lanes.error);
    loss->energy += (double)page_fold(lanes.energy);
}

size_t fast8_encode(const struct page_source *source, struct workspace workspace,
                    struct page_header *header, struct loss_sums *loss, uint8_t *out,
                    size_t out_bytes) {
    size_t count = shape_channels(&source->shape), tokens = page_header_coded(header);
    size_t length = count * (CHANNEL_BYTES + tokens);
    if (length >= out_bytes) /* so there are two tokens at least, and the workspace does */
        return 0;
    struct channels channels;
    take_channels(&channels, header, &workspace);
    float *row = workspace_take(&workspace, count * sizeof *row);
    if (header->dtype == PAGE_F32)
        find_range32(source, header, row, channels.base, channels.scale);
    else
        find_range16(source, header, workspace, channels.base, channels.scale);
    if (!choose_scales(&channels, out))
        return 0;
    uint8_t *q = out + CHANNEL_BYTES * count;
    for (size_t t = 0; t < tokens; t++) {
        page_load_token(source, header->sink_tokens + t, 0, count, row);
        encode_token(row, header->dtype, &channels, q + t * count, loss);
    }
    return length;
}

/* ---- decoding ---- */

static bool read_channels(struct channels *channels, const uint8_t *bytes) {
    bool sane = true;
    for (size_t c = 0; c < channels->count; c++) {
        uint16_t scale = get_u16(bytes + 2 * c);
        int16_t base = (int16_t)get_u16(bytes + 2 * (channels->count + c));
        sane &= scale >= 0x0080 && scale < 0x7f80; /* normal, positive */
        channels->scale[c] = bits_float((uint32_t)scale << 16);
        channels->base[c] = base;
    }
    return sane;
}

bool fast8_decode(const struct page_header *header, struct payload payload,
                  const struct page_target *target, size_t first, size_t last,
                  struct workspace workspace) {
    struct channels channels;
    take_channels(&channels, header, &workspace);
    size_t count = channels.count, value_bytes = page_value_bytes(target->dtype), run;
    if (payload.length != count * (CHANNEL_BYTES + page_header_coded(header)) ||
        !read_channels(&channels, payload.bytes))
        return false;
    const uint8_t *q = payload.bytes + CHANNEL_BYTES * count;
    for (size_t t = first; t < last; t++)
        for (size_t c = 0; c < count; c += run) {
            run = row_run(header->head_dim, &target->strides, c, count - c);
            size_t index = row_index(header->head_dim, &target->strides, t - target->first, c);
            page_kernels()->fast8_decode[target->dtype](
                q + (t - header->sink_tokens) * count + c, channels.base + c, channels.scale + c,
                run, (uint8_t *)target->values + index * value_bytes);
        }
    return true;
}
