/* Coding 1, decoding: side rows, then tile by tile rows of the entropy coder and their values. */
#include "proto/page/convert.h"
#include "proto/page/exact.h"
#include "proto/page/side_rows.h"

/* A side row's numbers, all of them below `limit`. */
static bool take_side_row(const int16_t *offset, int centre, size_t channels, int limit,
                          uint8_t *numbers) {
    unsigned outside = 0;
    for (size_t c = 0; c < channels; c++) {
        int number = offset[c] + centre;
        outside |= number < 0 || number >= limit;
        numbers[c] = (uint8_t)number;
    }
    return outside == 0;
}

static bool decode_side_rows(struct exact_reader *reader) {
    const struct page_header *header = reader->header;
    struct exact_page *page = &reader->page;
    if (!rans_decode_side_row(&reader->decoder, rans_level_class(header->row_class[0]),
                              page->largest_offset, page->channels) ||
        !rans_decode_side_row(&reader->decoder, rans_level_class(header->row_class[1]),
                              page->class_offset, page->channels) ||
        !take_side_row(page->largest_offset, header->centre[0], page->channels,
                       exact_largest(header->dtype) + 1, page->largest) ||
        !take_side_row(page->class_offset, header->centre[1], page->channels,
                       exact_classes(header->dtype), page->channel_class))
        return false;
    unsigned most = 0;
    for (size_t c = 0; c < page->channels; c += PAGE_BLOCK)
        exact_set_tile(page, header->dtype, c);
    for (size_t c = 0; c < page->channels; c++)
        most = page->classes[c].low_bits > most ? page->classes[c].low_bits : most;
    return most <= RANS_NARROW_BITS;
}

size_t exact_decode_workspace_bytes(size_t channels) {
    size_t blocks = (channels + PAGE_BLOCK - 1) / PAGE_BLOCK;
    return workspace_piece(PAGE_TABLES * sizeof(struct rans_decode_model)) +
           workspace_piece(PAGE_BLOCK * RANS_ROW_VALUES * sizeof(int16_t)) +
           2 * side_row_piece(channels) + 2 * workspace_piece(channels) +
           workspace_piece(channels * sizeof(struct rans_class)) +
           workspace_piece(blocks * sizeof(struct page_codes)) +
           workspace_piece(sizeof(struct page_staging));
}

bool exact_open(struct exact_reader *reader, const struct page_header *header,
                struct payload payload, struct workspace *workspace) {
    struct rans_decode_model *models = workspace_take(workspace, PAGE_TABLES * sizeof *models);
    reader->header = header;
    reader->rest = payload.bytes;
    reader->tile = workspace_take(workspace, PAGE_BLOCK * RANS_ROW_VALUES * sizeof(int16_t));
    exact_page_init(&reader->page, header, workspace);
    size_t rest = reader->page.tokens * exact_rest_bytes(header->dtype, reader->page.channels);
    return payload.length >= rest &&
           rans_decoder_init(&reader->decoder, payload.bytes + rest, payload.length - rest,
                             models) &&
           decode_side_rows(reader);
}

static bool read_tiles(struct exact_reader *const readers[], size_t count, size_t channel) {
    struct rans_decode_job jobs[2];
    for (size_t i = 0; i < count; i++)
        jobs[i] = (struct rans_decode_job){
            .decoder = &readers[i]->decoder,
            .classes = readers[i]->page.classes + channel,
            .rows = tile_channels(readers[i]->page.channels, channel),
            .count = readers[i]->page.tokens,
            .values = readers[i]->tile,
        };
    return readers[0]->header->flags & FLAG_WIDE ? page_kernels()->rans_decode16(jobs, count)
                                                 : page_kernels()->rans_decode8(jobs, count);
}

static void join_tile(const struct exact_reader *reader, size_t channel,
                      const struct page_target_rows *rows) {
    const struct page_header *header = reader->header;
    const struct page_codes *codes = &reader->page.codes[channel / PAGE_BLOCK];
    const struct page_exact_kernels *kernels = page_kernels()->exact[header->dtype];
    const uint8_t *rest =
        reader->rest + reader->page.tokens * exact_rest_bytes(header->dtype, channel);
    if (header->flags & FLAG_WIDE)
        kernels->join16(reader->tile, codes, rest, rows);
    else
        kernels->join8(reader->tile, codes, rest, rows);
}

/* A tile of another dtype than the target's. */
static void convert_tile(const struct exact_reader *reader, size_t channel,
                         const struct page_target_tokens *target, struct page_staging *staging) {
    enum page_dtype from = reader->header->dtype, to = target->layout.dtype;
    size_t channels = tile_channels(reader->page.channels, channel), run;
    struct page_target_rows rows = {
        .rows = staging->rows, .first = target->first, .last = target->last, .channels = channels};
    for (size_t t = rows.first; t < rows.last; t++)
        staging->rows[t] = staging->values + t * page_row_bytes(from, channels);
    join_tile(reader, channel, &rows);
    for (size_t c = 0; c < channels; c += run) {
        run = page_layout_run(&target->layout, channel + c, channels - c);
        size_t offset = page_layout_offset(&target->layout, channel + c);
        for (size_t t = rows.first; t < rows.last; t++)
            page_convert_row(from, (const uint8_t *)staging->rows[t] + page_row_bytes(from, c), to,
                             (uint8_t *)target->rows[t] + offset, run);
    }
}

static void store_tile(const struct exact_reader *reader, size_t channel,
                       const struct page_target_tokens *target, struct page_staging *staging) {
    if (target->layout.dtype != reader->header->dtype) {
        convert_tile(reader, channel, target, staging);
        return;
    }
    struct page_target_rows rows = page_target_tile(target, channel, staging);
    join_tile(reader, channel, &rows);
    page_target_tile_end(target, channel, staging);
}

bool exact_decode(struct exact_reader *const readers[],
                  const struct page_target_tokens *const targets[], size_t count,
                  struct workspace workspace) {
    struct page_staging *staging = workspace_take(&workspace, sizeof *staging);
    for (size_t c = 0; c < readers[0]->page.channels; c += PAGE_BLOCK) {
        if (!read_tiles(readers, count, c))
            return false;
        for (size_t i = 0; i < count; i++)
            store_tile(readers[i], c, targets[i], staging);
    }
    for (size_t i = 0; i < count; i++)
        if (!rans_decoder_done(&readers[i]->decoder))
            return false;
    return true;
}

bool exact_decode_page(const struct page_header *header, struct payload payload,
                       const struct page_target_tokens *target, struct workspace workspace) {
    struct exact_reader reader;
    return exact_open(&reader, header, payload, &workspace) &&
           exact_decode(&(struct exact_reader *){&reader}, &target, 1, workspace);
}
