/* Bit for bit: exponents, as drops below their channel's largest, entropy coded; sign and mantissa
 * plain. */
#include "proto/page/coding.h"
#include "proto/page/convert.h"
#include "proto/page/kernels.h"
#include "proto/page/rans.h"
#include "proto/page/rows.h"

enum {
    DROP_ZERO = 15, /* drops 0..30 have symbols of their own: 15 less than the drop is coded */
    TILE_TOKENS = 8,
};

struct exponents {
    size_t channels, tokens;
    int16_t *largest_offset; /* [C], of the largest exponent to centre 0 */
    int16_t *class_offset;   /* [C], to centre 1 */
    uint8_t *largest;        /* [C] */
    uint8_t *channel_class;  /* [C] */
    int16_t *drop;           /* [C][n], less DROP_ZERO; exponents while encoding */
};

static void take_exponents(struct exponents *page, const struct page_header *header,
                           struct workspace *workspace) {
    page->channels = page_header_channels(header);
    page->tokens = page_header_coded(header);
    page->largest_offset = workspace_take(workspace, page->channels * sizeof(int16_t) + 128);
    page->class_offset = workspace_take(workspace, page->channels * sizeof(int16_t) + 128);
    page->largest = workspace_take(workspace, page->channels);
    page->channel_class = workspace_take(workspace, page->channels);
    page->drop = workspace_take(workspace, page->channels * page->tokens * sizeof(int16_t) + 256);
}

static unsigned exponent_mask(enum page_dtype dtype) {
    return dtype == PAGE_F16 ? 0x1f : 0xff;
}

/* ---- splitting a token's values into exponents and the rest ---- */

static size_t rest_bytes(enum page_dtype dtype, size_t channels) {
    switch (dtype) {
    case PAGE_F16:
        return channels + 3 * ((channels + 7) / 8);
    case PAGE_BF16:
        return channels;
    case PAGE_F32:
        break;
    }
    return 3 * channels;
}

/* Low mantissa bytes, then for every eight channels a byte each of mantissa bit 8, mantissa bit 9
 * and sign. */
static void split_f16(const uint16_t *values, size_t channels, int16_t *exponent, uint8_t *rest) {
    for (size_t c = 0; c < channels; c++) {
        exponent[c] = values[c] >> 10 & 0x1f;
        rest[c] = (uint8_t)values[c];
    }
    uint8_t *bits = rest + channels;
    for (size_t c = 0; c < channels; c += 8, bits += 3) {
        size_t count = channels - c < 8 ? channels - c : 8;
        unsigned low = 0, high = 0, sign = 0;
        for (size_t i = 0; i < count; i++) {
            low |= (values[c + i] >> 8 & 1u) << i;
            high |= (values[c + i] >> 9 & 1u) << i;
            sign |= (values[c + i] >> 15 & 1u) << i;
        }
        bits[0] = (uint8_t)low;
        bits[1] = (uint8_t)high;
        bits[2] = (uint8_t)sign;
    }
}

static void join_f16(const int16_t *exponent, const uint8_t *rest, size_t channels,
                     uint16_t *values) {
    const uint8_t *bits = rest + channels;
    for (size_t c = 0; c < channels; c++) {
        const uint8_t *eight = bits + c / 8 * 3;
        unsigned i = c % 8, high = (eight[0] >> i & 1u) << 8 | (eight[1] >> i & 1u) << 9 |
                                   (eight[2] >> i & 1u) << 15;
        values[c] = (uint16_t)(high | (unsigned)exponent[c] << 10 | rest[c]);
    }
}

static void split_bf16(const uint16_t *values, size_t channels, int16_t *exponent, uint8_t *rest) {
    for (size_t c = 0; c < channels; c++) {
        exponent[c] = values[c] >> 7 & 0xff;
        rest[c] = (uint8_t)((values[c] & 0x7f) | (values[c] >> 8 & 0x80));
    }
}

static void join_bf16(const int16_t *exponent, const uint8_t *rest, size_t channels,
                      uint16_t *values) {
    for (size_t c = 0; c < channels; c++)
        values[c] = (uint16_t)((rest[c] & 0x80) << 8 | exponent[c] << 7 | (rest[c] & 0x7f));
}

/* The low two bytes of all channels, then sign and high mantissa. */
static void split_f32(const uint32_t *values, size_t channels, int16_t *exponent, uint8_t *rest) {
    for (size_t c = 0; c < channels; c++) {
        exponent[c] = (int16_t)(values[c] >> 23 & 0xff);
        put_u16(rest + 2 * c, values[c] & 0xffff);
        rest[2 * channels + c] = (uint8_t)((values[c] >> 16 & 0x7f) | (values[c] >> 24 & 0x80));
    }
}

static void join_f32(const int16_t *exponent, const uint8_t *rest, size_t channels,
                     uint32_t *values) {
    for (size_t c = 0; c < channels; c++) {
        uint32_t high = rest[2 * channels + c];
        values[c] = (high & 0x80) << 24 | (uint32_t)exponent[c] << 23 | (high & 0x7f) << 16 |
                    get_u16(rest + 2 * c);
    }
}

static void split(enum page_dtype dtype, const void *values, size_t channels, int16_t *exponent,
                  uint8_t *rest) {
    if (dtype == PAGE_F16)
        split_f16(values, channels, exponent, rest);
    else if (dtype == PAGE_BF16)
        split_bf16(values, channels, exponent, rest);
    else
        split_f32(values, channels, exponent, rest);
}

static void join(enum page_dtype dtype, const int16_t *exponent, const uint8_t *rest,
                 size_t channels, void *values) {
    if (dtype == PAGE_F16)
        join_f16(exponent, rest, channels, values);
    else if (dtype == PAGE_BF16)
        join_bf16(exponent, rest, channels, values);
    else
        join_f32(exponent, rest, channels, values);
}

/* out[c * out_stride + r] = in[r * in_stride + c] */
static void transpose(const int16_t *in, size_t in_stride, size_t rows, size_t columns,
                      int16_t *out, size_t out_stride) {
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            out[c * out_stride + r] = in[r * in_stride + c];
}

/* ---- encoding ---- */

static void split_tokens(const struct page_source *source, const struct page_header *header,
                         struct exponents *page, struct workspace workspace, uint8_t *rest) {
    size_t channels = page->channels, row_bytes = rest_bytes(header->dtype, channels);
    size_t tile_tokens = page->tokens < TILE_TOKENS ? page->tokens : TILE_TOKENS;
    void *values = workspace_take(&workspace, channels * page_value_bytes(header->dtype));
    int16_t *tile = workspace_take(&workspace, tile_tokens * channels * sizeof *tile);
    struct page_source_tokens from;
    page_coded_source(source, header, &from);
    for (size_t t0 = 0; t0 < page->tokens; t0 += TILE_TOKENS) {
        size_t tokens = page->tokens - t0 < TILE_TOKENS ? page->tokens - t0 : TILE_TOKENS;
        for (size_t t = 0; t < tokens; t++, rest += row_bytes) {
            page_copy_token(&from, t0 + t, values);
            split(header->dtype, values, channels, tile + t * channels, rest);
        }
        transpose(tile, channels, tokens, channels, page->drop + t0, page->tokens);
    }
}

static unsigned drop_class(unsigned sum, size_t tokens) {
    unsigned k = 0;
    while (k < PAGE_TABLE_CLASSES - 1 && 256 * (size_t)sum >= page_drop_limits[k] * tokens)
        k++;
    return k;
}

/* Exponents of a channel to drops. */
static void take_drops(struct exponents *page, size_t c) {
    int16_t *exponent = page->drop + c * page->tokens, largest = 0;
    unsigned sum = 0;
    for (size_t t = 0; t < page->tokens; t++)
        largest = exponent[t] > largest ? exponent[t] : largest;
    for (size_t t = 0; t < page->tokens; t++) {
        sum += (unsigned)(largest - exponent[t]);
        exponent[t] = (int16_t)(largest - exponent[t] - DROP_ZERO);
    }
    page->largest[c] = (uint8_t)largest;
    page->channel_class[c] = (uint8_t)drop_class(sum, page->tokens);
}

static uint8_t offsets_to_mean(const uint8_t *values, size_t count, int16_t *offsets) {
    assert(count > 0);
    size_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += values[i];
    uint8_t centre = (uint8_t)((sum + count / 2) / count);
    for (size_t i = 0; i < count; i++)
        offsets[i] = (int16_t)(values[i] - centre);
    return centre;
}

static bool encode_rows(const struct page_header *header, const struct exponents *page,
                        struct rans_encoder *encoder) {
    bool room = true;
    for (size_t c = page->channels; c-- > 0;)
        room &= rans_encode_side_row(encoder, rans_drop_class(page->channel_class[c]),
                                     page->drop + c * page->tokens, page->tokens);
    room &= rans_encode_side_row(encoder, rans_level_class(header->row_class[1]),
                                 page->class_offset, page->channels);
    room &= rans_encode_side_row(encoder, rans_level_class(header->row_class[0]),
                                 page->largest_offset, page->channels);
    return room;
}

static size_t write_stream(struct page_header *header, const struct exponents *page,
                           struct workspace workspace, uint8_t *out, size_t out_bytes) {
    struct rans_encode_model *models = workspace_take(&workspace, PAGE_TABLES * sizeof *models);
    uint8_t *memory = workspace_take(&workspace, rans_encoder_memory_bytes(out_bytes));
    struct rans_encoder encoder;
    rans_encoder_init(&encoder, memory, out_bytes, models);
    if (!encode_rows(header, page, &encoder))
        return 0;
    if (rans_encoder_bytes(&encoder) >= out_bytes)
        return 0;
    rans_encoder_write(&encoder, out);
    return rans_encoder_bytes(&encoder);
}

size_t exact_encode(const struct page_source *source, struct workspace workspace,
                    struct page_header *header, uint8_t *page_bytes) {
    struct exponents page;
    struct loss_sums loss = {0};
    struct page_source_tokens tokens;
    uint8_t *out = page_write_exact_tokens(source, header, workspace, page_bytes, &loss.energy);
    page_coded_source(source, header, &tokens);
    loss.energy += page_tokens_energy(&tokens, &(struct page_staging){0});
    if (!page_set_loss(header, &loss))
        header->energy = PAGE_F32_MAX;
    take_exponents(&page, header, &workspace);
    size_t rest = page.tokens * rest_bytes(header->dtype, page.channels);
    size_t out_bytes = page_raw_bytes(header) - (size_t)(out - page_bytes);
    if (rest + RANS_STREAM_HEADER_BYTES >= out_bytes)
        return 0;
    split_tokens(source, header, &page, workspace, out);
    for (size_t c = 0; c < page.channels; c++)
        take_drops(&page, c);
    header->centre[0] = offsets_to_mean(page.largest, page.channels, page.largest_offset);
    header->centre[1] = offsets_to_mean(page.channel_class, page.channels, page.class_offset);
    header->row_class[0] = (uint8_t)rans_choose_class(page.largest_offset, page.channels);
    header->row_class[1] = (uint8_t)rans_choose_class(page.class_offset, page.channels);
    size_t stream = write_stream(header, &page, workspace, out + rest, out_bytes - rest);
    return stream == 0 ? 0 : (size_t)(out - page_bytes) + rest + stream;
}

static unsigned likeliest_frequency(struct rans_class class) {
    unsigned likeliest = 0;
    for (int i = 0; i < PAGE_SYMBOLS; i++)
        if (page_tables[class.table].symbol_frequency[i] > likeliest)
            likeliest = page_tables[class.table].symbol_frequency[i];
    return likeliest;
}

/* Largest exponent and sum of exponents of each channel, 16-bit dtypes only. */
static void sum_exponents(const struct page_source *source, struct workspace workspace,
                          int16_t *restrict largest, int16_t *restrict sum) {
    size_t channels = shape_channels(&source->shape);
    int shift = source->shape.dtype == PAGE_F16 ? 10 : 7;
    int mask = (int)exponent_mask(source->shape.dtype);
    int16_t *row = workspace_take(&workspace, channels * sizeof *row);
    memset(largest, 0, channels * sizeof *largest);
    memset(sum, 0, channels * sizeof *sum);
    struct page_header header = {.exact_tokens = 0};
    struct page_source_tokens tokens;
    page_coded_source(source, &header, &tokens);
    for (size_t t = source->sink_tokens; t < source->shape.tokens; t++) {
        page_copy_token(&tokens, t, row);
        for (size_t c = 0; c < channels; c++) {
            int16_t exponent = (int16_t)(row[c] >> shift & mask);
            largest[c] = exponent > largest[c] ? exponent : largest[c];
            sum[c] = (int16_t)(sum[c] + exponent); /* at most 128 * 255 */
        }
    }
}

/* Bytes of the stream if every exponent were the likeliest of its channel's class. */
static size_t least_stream_bytes(const struct page_source *source, struct workspace workspace) {
    size_t channels = shape_channels(&source->shape);
    size_t tokens = source->shape.tokens - source->sink_tokens, length = 0;
    int16_t *largest = workspace_take(&workspace, channels * sizeof *largest);
    int16_t *sum = workspace_take(&workspace, channels * sizeof *sum);
    sum_exponents(source, workspace, largest, sum);
    for (size_t c = 0; c < channels; c++) {
        unsigned drops = (unsigned)(largest[c] * (int)tokens - sum[c]);
        struct rans_class class = rans_drop_class(drop_class(drops, tokens));
        length += page_code_length[likeliest_frequency(class)] * tokens;
    }
    size_t bytes = length / (8 * 256); /* of which the states can hold a byte each */
    return RANS_STREAM_HEADER_BYTES + (bytes > RANS_LANES ? bytes - RANS_LANES : 0);
}

bool exact_takes(const struct page_source *source, struct workspace workspace, size_t bytes) {
    size_t tokens = source->shape.tokens - source->sink_tokens;
    size_t rest = tokens * rest_bytes(source->shape.dtype, shape_channels(&source->shape));
    if (bytes <= rest + RANS_STREAM_HEADER_BYTES)
        return true;
    return source->shape.dtype != PAGE_F32 && bytes <= rest + least_stream_bytes(source, workspace);
}

/* ---- decoding ---- */

static bool decode_side_rows(const struct page_header *header, struct rans_decoder *decoder,
                             struct exponents *page) {
    if (!rans_decode_side_row(decoder, rans_level_class(header->row_class[0]), page->largest_offset,
                              page->channels) ||
        !rans_decode_side_row(decoder, rans_level_class(header->row_class[1]), page->class_offset,
                              page->channels))
        return false;
    for (size_t c = 0; c < page->channels; c++) {
        int largest = page->largest_offset[c] + header->centre[0];
        int k = page->class_offset[c] + header->centre[1];
        if (largest < 0 || largest > (int)exponent_mask(header->dtype) || k < 0 ||
            k >= PAGE_TABLE_CLASSES)
            return false;
        page->largest[c] = (uint8_t)largest;
        page->channel_class[c] = (uint8_t)k;
    }
    return true;
}

/* Drops of a channel back to exponents; false if there is one that cannot be. */
static bool take_exponents_back(int16_t *drop, size_t tokens, int largest) {
    int outside = 0;
    for (size_t t = 0; t < tokens; t++) {
        int exponent = largest - DROP_ZERO - drop[t];
        outside |= exponent < 0 || exponent > largest;
        drop[t] = (int16_t)exponent;
    }
    return !outside;
}

static bool decode_channels(struct rans_decoder *decoder, struct exponents *page) {
    for (size_t c = 0; c < page->channels; c++) {
        int16_t *drop = page->drop + c * page->tokens;
        if (!rans_decode_side_row(decoder, rans_drop_class(page->channel_class[c]), drop,
                                  page->tokens) ||
            !take_exponents_back(drop, page->tokens, page->largest[c]))
            return false;
    }
    return true;
}

static void join_tokens(const struct page_header *header, const struct exponents *page,
                        const uint8_t *rest, const struct page_target_tokens *target,
                        struct workspace workspace) {
    size_t first = target->first, last = target->last;
    size_t channels = page->channels, row_bytes = rest_bytes(header->dtype, channels);
    size_t tile_tokens = page->tokens < TILE_TOKENS ? page->tokens : TILE_TOKENS;
    void *values = workspace_take(&workspace, channels * page_value_bytes(header->dtype));
    int16_t *tile = workspace_take(&workspace, tile_tokens * channels * sizeof *tile);
    for (size_t t0 = first; t0 < last; t0 += TILE_TOKENS) {
        size_t tokens = last - t0 < TILE_TOKENS ? last - t0 : TILE_TOKENS;
        transpose(page->drop + t0, page->tokens, channels, tokens, tile, channels);
        for (size_t t = 0; t < tokens; t++) {
            join(header->dtype, tile + t * channels, rest + (t0 + t) * row_bytes, channels, values);
            page_store_row(&target->layout, header->dtype, values, target->rows[t0 + t]);
        }
    }
}

bool exact_decode(const struct page_header *header, struct payload payload,
                  const struct page_target_tokens *target, struct workspace workspace) {
    struct exponents page;
    take_exponents(&page, header, &workspace);
    size_t rest = page.tokens * rest_bytes(header->dtype, page.channels);
    if (payload.length < rest)
        return false;
    struct rans_decoder decoder;
    struct workspace models = workspace;
    if (!rans_decoder_init(&decoder, payload.bytes + rest, payload.length - rest,
                           workspace_take(&models, PAGE_TABLES * sizeof *decoder.models)))
        return false;
    if (!decode_side_rows(header, &decoder, &page) || !decode_channels(&decoder, &page) ||
        !rans_decoder_done(&decoder))
        return false;
    join_tokens(header, &page, payload.bytes, target, workspace);
    return true;
}
