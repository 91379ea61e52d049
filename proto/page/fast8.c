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
    for (size_t t = 0; t < tokens->count; t++)
        for (size_t c = 0; c < count; c += run) {
            run = page_layout_run(layout, c, count - c);
            page_kernels()->range16((const uint8_t *)tokens->rows[t] +
                                        page_layout_offset(layout, c),
                                    run, lowest + c, highest + c);
        }
    for (size_t c = 0; c < count; c++) { /* back from integers that order as the floats do */
        lowest[c] = (int16_t)(lowest[c] ^ (lowest[c] >> 15 & 0x7fff));
        highest[c] = (int16_t)(highest[c] ^ (highest[c] >> 15 & 0x7fff));
    }
    page_convert_row(layout->dtype, lowest, PAGE_F32, low, count);
    page_convert_row(layout->dtype, highest, PAGE_F32, high, count);
}

static void find_range32(const struct page_source_tokens *tokens, float *row, float *low,
                         float *high) {
    size_t count = tokens->layout.channels;
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

size_t fast8_encode(const struct page_source *source, struct workspace workspace,
                    struct page_header *header, uint8_t *page) {
    size_t count = page_header_channels(header), coded = page_header_coded(header);
    size_t length = count * (CHANNEL_BYTES + coded);
    if (length >= coded * count * page_value_bytes(header->dtype))
        return 0; /* so there are more tokens than one, and the workspace does */
    struct channels channels;
    struct page_source_tokens tokens;
    struct loss_sums loss = {0};
    uint8_t *out = page_write_exact_tokens(source, header, workspace, page, &loss.energy);
    take_channels(&channels, header, &workspace);
    page_coded_source(source, header, &tokens);
    float *row = workspace_take(&workspace, count * sizeof *row);
    if (header->dtype == PAGE_F32)
        find_range32(&tokens, row, channels.base, channels.scale);
    else
        find_range16(&tokens, workspace, channels.base, channels.scale);
    if (!choose_scales(&channels, out))
        return 0;
    uint8_t *q = out + CHANNEL_BYTES * count;
    for (size_t t = 0; t < coded; t++)
        encode_token(page_packed_token(&tokens, t, row), header->dtype, &channels, q + t * count,
                     &loss);
    return page_set_loss(header, &loss) ? (size_t)(out - page) + length : 0;
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
                  const struct page_target_tokens *target, struct workspace workspace) {
    const struct page_layout *layout = &target->layout;
    struct channels channels;
    take_channels(&channels, header, &workspace);
    size_t count = channels.count, run;
    if (payload.length != count * (CHANNEL_BYTES + page_header_coded(header)) ||
        !read_channels(&channels, payload.bytes))
        return false;
    const uint8_t *q = payload.bytes + CHANNEL_BYTES * count;
    for (size_t t = target->first; t < target->last; t++)
        for (size_t c = 0; c < count; c += run) {
            run = page_layout_run(layout, c, count - c);
            page_kernels()->fast8_decode[layout->dtype](
                q + t * count + c, channels.base + c, channels.scale + c, run,
                (uint8_t *)target->rows[t] + page_layout_offset(layout, c), target->streaming);
        }
    return true;
}
