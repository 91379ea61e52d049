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

/* The smallest scale that spans the range and keeps base within 16 bits. */
static inline float scale_for(float low, float high) {
    float magnitude = low < 0 ? -low : low;
    float scale = (high - low) / 255, least = magnitude / 32767;
    scale = least > scale ? least : scale; /* a NaN stays */
    return low == 0 && high == 0 ? 1 : scale;
}

/* base and scale hold the channels' ranges on entry; false if there is no scale for one. */
static bool choose_scales(struct channels *channels, uint8_t *out) {
    const uint32_t least = float_bits(0x1p-120f), most = float_bits(0x1p120f);
    float *restrict base = channels->base, *restrict factor = channels->scale;
    float *restrict inverse = channels->inverse;
    unaligned_u16 *scales = (unaligned_u16 *)out, *bases = scales + channels->count;
    uint32_t outside = 0;
    for (size_t c = 0; c < channels->count; c++) {
        float low = base[c];
        uint32_t scale = float_bits(scale_for(low, factor[c]));
        outside |= (scale - least) | (most - scale);
        scale = (scale + 0xffff) >> 16; /* rounded up to eight significant bits */
        factor[c] = bits_float(scale << 16);
        inverse[c] = 1 / factor[c];
        float magic = low * inverse[c] + 0x1.8p23f;
        scales[c] = (uint16_t)scale;
        bases[c] = (uint16_t)float_bits(magic);
        base[c] = magic - 0x1.8p23f;
    }
    return outside >> 31 == 0;
}

static void encode_token(const uint8_t *values, enum page_dtype dtype,
                         const struct channels *channels, uint8_t *q, struct loss_sums *loss) {
    struct page_lanes lanes = {0};
    size_t value_bytes = page_value_bytes(dtype);
    for (size_t c = 0; c < channels->count; c += FAST8_BLOCK) {
        size_t count = channels->count - c < FAST8_BLOCK ? channels->count - c : FAST8_BLOCK;
        struct page_grid grid = {channels->base + c, channels->scale + c, channels->inverse + c};
        page_kernels()->fast8_encode[dtype](values + c * value_bytes, &grid, count, q + c, &lanes);
    }
    loss->error += (double)page_fold(lanes.error);
    loss->energy += (double)page_fold(lanes.energy);
}

/* A token's values side by side: where they stand, if they do there, or else in `copy`. */
static const uint8_t *packed_token(const struct page_source *source, size_t token, void *copy) {
    uint32_t head_dim = source->shape.head_dim;
    size_t count = shape_channels(&source->shape);
    if (row_run(head_dim, &source->strides, 0, count) == count)
        return (const uint8_t *)source->values + row_index(head_dim, &source->strides, token, 0) *
                                                     page_value_bytes(source->shape.dtype);
    page_copy_token(source, token, copy);
    return copy;
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
        const uint8_t *values = packed_token(source, header->sink_tokens + t, row);
        encode_token(values, header->dtype, &channels, q + t * count, loss);
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
                run, (uint8_t *)target->values + index * value_bytes, target->streaming);
        }
    return true;
}
