/* Coding 1, encoding: a look at all exponents, then tile by tile the rest and the rows. */
#include "proto/page/convert.h"
#include "proto/page/exact.h"
#include "proto/page/side_rows.h"

struct encoding {
    struct page_header *header;
    struct exact_page page;
    struct page_source_tokens tokens;
    struct page_staging *staging;
};

/* ---- exponents ---- */

/* A channel's class by its cell, from sums alone; see FORMAT.md, "Coding 1". `reciprocal` is of the
 * number of tokens. */
static unsigned class_of(unsigned drops, unsigned negatives, unsigned tokens, uint64_t reciprocal) {
    enum { FINE_CELLS = 48 }; /* eighths up to a mean drop of 6, then whole ones */
    bool negative = 2 * negatives > tokens;
    unsigned flips = negative ? tokens - negatives : negatives;
    unsigned drop = (unsigned)(8 * drops * reciprocal >> 32);
    unsigned flip = (unsigned)(2 * PAGE_FLIP_CELLS * flips * reciprocal >> 32);
    drop = drop < FINE_CELLS ? drop : FINE_CELLS + (drop - FINE_CELLS) / 8;
    drop = drop < PAGE_DROP_CELLS ? drop : PAGE_DROP_CELLS - 1;
    flip = flip < PAGE_FLIP_CELLS ? flip : PAGE_FLIP_CELLS - 1;
    unsigned table = page_exact_table[drop][flip];
    return table < PAGE_UNSIGNED_TABLES ? table : 2 * table - PAGE_UNSIGNED_TABLES + negative;
}

static void take_exponents(struct exact_page *page, const struct page_survey *survey, size_t first,
                           size_t channels) {
    unsigned tokens = (unsigned)page->tokens;
    /* Rounded up, which does not tell in quotients of numbers below 2^18 by at most 128. */
    uint64_t reciprocal = ((uint64_t)1 << 32) / tokens + 1;
    for (size_t i = 0; i < channels; i++) {
        unsigned drops = survey->largest[i] * tokens - survey->sum[i];
        page->largest[first + i] = survey->largest[i];
        page->channel_class[first + i] =
            (uint8_t)class_of(drops, survey->negatives[i], tokens, reciprocal);
    }
}

/* Integers' classes follow from their differences to the mean, once these are there. */
static void take_means(struct exact_page *page, const struct page_survey *survey, size_t first,
                       size_t channels) {
    unsigned tokens = (unsigned)page->tokens;
    for (size_t i = 0; i < channels; i++) {
        page->largest[first + i] = (uint8_t)((2u * survey->sum[i] + tokens) / (2 * tokens));
        page->channel_class[first + i] = 0;
    }
}

/* Whether a v of the tile does not fit int8. */
static bool is_wide(const struct page_codes *codes, const struct page_survey *survey,
                    size_t channels) {
    int most = 0;
    for (size_t i = 0; i < channels; i++) {
        int v = codes->base[i] - 2 * survey->smallest[i];
        most = v > most ? v : most;
    }
    return most > INT8_MAX;
}

static void survey_channels(struct encoding *encoding) {
    struct exact_page *page = &encoding->page;
    enum page_dtype dtype = encoding->header->dtype;
    for (size_t first = 0; first < page->channels; first += PAGE_BLOCK) {
        struct page_survey survey;
        struct page_source_rows tile =
            page_source_tile(&encoding->tokens, first, encoding->staging);
        page_kernels()->exact[dtype]->survey(&tile, &survey);
        if (exact_is_integer(dtype))
            take_means(page, &survey, first, tile.channels);
        else
            take_exponents(page, &survey, first, tile.channels);
        exact_set_tile(page, dtype, first);
        if (!exact_is_integer(dtype) &&
            is_wide(&page->codes[first / PAGE_BLOCK], &survey, tile.channels))
            encoding->header->flags |= FLAG_WIDE;
    }
}

/* ---- the stream ---- */

static void split_tile(struct encoding *encoding, size_t channel, void *values, uint8_t *rest) {
    enum page_dtype dtype = encoding->header->dtype;
    const struct page_codes *codes = &encoding->page.codes[channel / PAGE_BLOCK];
    const struct page_exact_kernels *kernels = page_kernels()->exact[dtype];
    struct page_source_rows tile = page_source_tile(&encoding->tokens, channel, encoding->staging);
    rest += tile.tokens * exact_rest_bytes(dtype, channel);
    if (encoding->header->flags & FLAG_WIDE)
        kernels->split16(&tile, codes, values, rest);
    else
        kernels->split8(&tile, codes, values, rest);
}

static void choose_integer_classes(struct encoding *encoding, size_t channel, size_t end,
                                   const int8_t *values) {
    for (; channel < end; channel++, values += RANS_ROW_VALUES) {
        unsigned sum = 0;
        for (size_t t = 0; t < encoding->page.tokens; t++)
            sum += (unsigned)(values[t] < 0 ? -values[t] : values[t]);
        unsigned k = rans_class_of_magnitude(sum, encoding->page.tokens);
        encoding->page.channel_class[channel] = (uint8_t)k;
        encoding->page.classes[channel] = rans_level_class(k);
    }
}

/* All tiles, last to first: the decoder reads them the other way round. */
static bool write_tiles(struct encoding *encoding, struct rans_encoder *encoder, void *values,
                        uint8_t *rest) {
    struct exact_page *page = &encoding->page;
    bool wide = encoding->header->flags & FLAG_WIDE;
    for (size_t end = page->channels; end > 0;) {
        size_t channel = (end - 1) / PAGE_BLOCK * PAGE_BLOCK;
        struct rans_encode_job job = {.encoder = encoder,
                                      .classes = page->classes + channel,
                                      .rows = end - channel,
                                      .count = page->tokens,
                                      .values = values};
        split_tile(encoding, channel, values, rest);
        if (exact_is_integer(encoding->header->dtype))
            choose_integer_classes(encoding, channel, end, values);
        if (!rans_encoder_has_room(encoder, job.classes, job.rows, job.count, wide))
            return false;
        if (wide)
            page_kernels()->rans_encode16(&job, 1);
        else
            page_kernels()->rans_encode8(&job, 1);
        end = channel;
    }
    return true;
}

static bool write_side_rows(struct encoding *encoding, struct rans_encoder *encoder) {
    struct exact_page *page = &encoding->page;
    struct page_header *header = encoding->header;
    header->centre[0] = side_row_centre(page->largest, page->channels, page->largest_offset);
    header->centre[1] = side_row_centre(page->channel_class, page->channels, page->class_offset);
    return side_row_write(header, encoder, 1, page->class_offset, page->channels) &&
           side_row_write(header, encoder, 0, page->largest_offset, page->channels);
}

static void encoding_init(struct encoding *encoding, const struct page_source *source,
                          struct page_header *header, struct workspace *workspace) {
    encoding->header = header;
    exact_page_init(&encoding->page, header, workspace);
    page_coded_source(source, header, &encoding->tokens);
    encoding->staging = workspace_take(workspace, sizeof *encoding->staging);
}

size_t exact_encode(const struct page_source *source, struct workspace workspace,
                    struct page_header *header, uint8_t *page) {
    struct encoding encoding;
    struct loss_sums loss = {0};
    uint8_t *payload = page_write_exact_tokens(source, header, page, &loss.energy);
    encoding_init(&encoding, source, header, &workspace);
    size_t rest = encoding.page.tokens * exact_rest_bytes(header->dtype, encoding.page.channels);
    size_t front = (size_t)(payload - page) + rest, raw = page_raw_bytes(header);
    if (front + RANS_STREAM_HEADER_BYTES >= raw)
        return 0;
    loss.energy += page_tokens_energy(&encoding.tokens);
    if (!page_set_loss(header, &loss))
        header->energy = PAGE_F32_MAX;
    survey_channels(&encoding);
    struct rans_encoder encoder;
    void *values = workspace_take(&workspace, PAGE_BLOCK * RANS_ROW_VALUES * sizeof(int16_t));
    struct rans_bounds bounds = {.bytes = raw - front,
                                 .rows = encoding.page.channels,
                                 .count = encoding.page.tokens,
                                 .wide = (header->flags & FLAG_WIDE) != 0,
                                 .side_values = 2 * encoding.page.channels};
    rans_encoder_init(&encoder, workspace_take(&workspace, rans_encoder_memory_bytes(&bounds)),
                      &bounds);
    if (!write_tiles(&encoding, &encoder, values, payload) || !write_side_rows(&encoding, &encoder))
        return 0;
    size_t stream = rans_encoder_bytes(&encoder);
    if (stream >= bounds.bytes)
        return 0;
    rans_encoder_write(&encoder, payload + rest);
    return front + stream;
}

/* ---- a bound ---- */

static unsigned likeliest_frequency(struct rans_class class) {
    const uint8_t *frequency = page_tables[class.table].symbol_frequency;
    unsigned likeliest = 0;
    for (int i = 0; i < PAGE_SYMBOLS; i++)
        likeliest = frequency[i] > likeliest ? frequency[i] : likeliest;
    return likeliest;
}

/* Bytes of the stream if every v were the likeliest of its channel's class. */
static size_t least_stream_bytes(struct encoding *encoding) {
    const struct exact_page *page = &encoding->page;
    size_t length = 0, planes = 0;
    survey_channels(encoding);
    for (size_t c = 0; c < page->channels; c++) {
        length += page_code_length[likeliest_frequency(page->classes[c])] * page->tokens;
        planes += page->classes[c].low_bits * rans_plane_bytes(page->tokens);
    }
    size_t bytes = length / (8 * 256); /* of which the states can hold a byte each */
    return RANS_STREAM_HEADER_BYTES + planes + (bytes > RANS_LANES ? bytes - RANS_LANES : 0);
}

bool exact_takes(const struct page_source *source, const struct page_header *header,
                 struct workspace workspace, size_t page_bytes) {
    struct page_header exact = *header;
    struct encoding encoding;
    encoding_init(&encoding, source, &exact, &workspace);
    size_t token = page_row_bytes(header->dtype, encoding.page.channels);
    size_t rest = encoding.page.tokens * exact_rest_bytes(header->dtype, encoding.page.channels);
    size_t least =
        page_header_bytes(header) + header->exact_tokens * token + rest + RANS_STREAM_HEADER_BYTES;
    if (page_bytes <= least || exact_is_integer(header->dtype))
        return page_bytes <= least;
    return page_bytes <= least - RANS_STREAM_HEADER_BYTES + least_stream_bytes(&encoding);
}
