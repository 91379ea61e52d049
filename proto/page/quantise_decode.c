/* Levels 0 to 5, decoding: side rows, then tile by tile rows of the entropy coder and their values.
 */
#include "proto/page/compact.h"
#include "proto/page/quantise.h"
#include "proto/page/side_rows.h"

static bool decode_scales(struct quantise_reader *reader) {
    const struct page_header *header = reader->header;
    struct quantised *page = &reader->page;
    if (!rans_decode_side_row(&reader->decoder, rans_level_class(header->row_class[0]), page->scale,
                              page->tokens))
        return false;
    for (size_t t = 0; t < page->tokens; t++) {
        if (page->scale[t] < -SCALE_MAX || page->scale[t] > SCALE_MAX)
            return false;
        page->step[t] = quantised_step(header->step, page->scale[t]);
    }
    return true;
}

static bool decode_classes(struct quantise_reader *reader) {
    const struct page_header *header = reader->header;
    struct quantised *page = &reader->page;
    struct rans_classes classes;
    rans_classes_init(&classes, page->tokens);
    unsigned most = header->flags & FLAG_WIDE ? RANS_WIDE_BITS : RANS_NARROW_BITS;
    if (!rans_decode_side_row(&reader->decoder, rans_level_class(header->row_class[1]),
                              page->class_offset, page->channels))
        return false;
    for (size_t c = 0; c < page->channels; c++) {
        int k = page->class_offset[c] + header->centre[0];
        if (k < 0 || k >= PAGE_CLASSES)
            return false;
        page->classes[c] = classes.level[k];
        if (page->classes[c].low_bits > most)
            return false;
    }
    return true;
}

static bool decode_means(struct quantise_reader *reader) {
    const struct page_header *header = reader->header;
    struct quantised *page = &reader->page;
    if (header->flags & FLAG_NO_MEANS) {
        memset(page->mean, 0, page->channels * sizeof *page->mean);
        return true;
    }
    if (!rans_decode_side_row(&reader->decoder, rans_level_class(header->row_class[2]),
                              page->mean_units, page->channels))
        return false;
    float unit = quantised_mean_unit(header);
    for (size_t c = 0; c < page->channels; c++)
        page->mean[c] = (float)page->mean_units[c] * unit;
    return true;
}

size_t quantise_decode_workspace_bytes(size_t tokens, size_t channels) {
    return workspace_piece(PAGE_TABLES * sizeof(struct rans_decode_model)) +
           workspace_piece(PAGE_BLOCK * RANS_ROW_VALUES * sizeof(int16_t)) +
           side_row_piece(tokens) + 2 * side_row_piece(channels) +
           workspace_piece(channels * sizeof(float)) +
           workspace_piece(channels * sizeof(struct rans_class)) +
           workspace_piece(sizeof(struct page_staging));
}

bool quantise_open(struct quantise_reader *reader, const struct page_header *header,
                   struct payload payload, struct workspace *workspace) {
    struct rans_decode_model *models = workspace_take(workspace, PAGE_TABLES * sizeof *models);
    reader->header = header;
    reader->tile = workspace_take(workspace, PAGE_BLOCK * RANS_ROW_VALUES * sizeof(int16_t));
    reader->spare = (int8_t *)reader->tile + PAGE_BLOCK * RANS_ROW_VALUES;
    quantised_init(&reader->page, header, workspace);
    return rans_decoder_init(&reader->decoder, payload.bytes, payload.length, models) &&
           decode_scales(reader) && decode_classes(reader) && decode_means(reader);
}

static void set_jobs(struct quantise_reader *const readers[], size_t count, size_t channel,
                     struct rans_decode_job jobs[]) {
    for (size_t i = 0; i < count; i++)
        jobs[i] = (struct rans_decode_job){
            .decoder = &readers[i]->decoder,
            .classes = readers[i]->page.classes + channel,
            .rows = tile_channels(readers[i]->page.channels, channel),
            .count = readers[i]->page.tokens,
            .values = readers[i]->tile,
        };
}

bool quantise_read_tiles(struct quantise_reader *const readers[], size_t count, size_t channel) {
    PAGE_SCRATCH struct rans_decode_job jobs[2];
    set_jobs(readers, count, channel, jobs);
    return readers[0]->header->flags & FLAG_WIDE ? page_kernels()->rans_decode16(jobs, count)
                                                 : page_kernels()->rans_decode8(jobs, count);
}

static float phase_of(const struct quantise_reader *reader) {
    return (float)reader->header->phase * 0x1p-7f;
}

static void dequantise_tile(const struct quantise_reader *reader, size_t channel,
                            const struct page_target_tokens *target, struct page_staging *staging) {
    const float *mean = reader->page.mean + channel, *steps = reader->page.step;
    enum page_dtype dtype = page_number_dtype(target->layout.dtype);
    struct page_target_rows rows = page_target_numbers(target, channel, staging);
    if (reader->header->flags & FLAG_WIDE)
        page_kernels()->dequantise16[dtype](reader->tile, mean, steps, phase_of(reader), &rows);
    else
        page_kernels()->dequantise8[dtype](reader->tile, mean, steps, phase_of(reader), &rows);
    page_target_numbers_end(target, channel, staging);
}

/* ---- reading a tile while the one before it is stored ---- */

/* Pages on their way into their targets. */
struct decoding {
    struct quantise_reader *const *readers;
    const struct page_target_tokens *const *targets;
    size_t count;
    struct page_staging *staging;
};

/* Whole tiles of narrow pages, straight to the targets. */
static bool may_overlap(const struct decoding *decoding, size_t channel) {
    enum page_dtype dtype = decoding->targets[0]->layout.dtype;
    for (size_t i = 0; i < decoding->count; i++) {
        const struct page_layout *layout = &decoding->targets[i]->layout;
        if (decoding->readers[i]->header->flags & FLAG_WIDE || layout->dtype != dtype ||
            page_layout_run(layout, channel - PAGE_BLOCK, PAGE_BLOCK) < PAGE_BLOCK)
            return false;
    }
    return !page_is_compact(dtype) && page_kernels()->overlap[dtype] != NULL &&
           tile_channels(decoding->readers[0]->page.channels, channel) == PAGE_BLOCK;
}

static bool overlap_tiles(const struct decoding *decoding, size_t channel) {
    PAGE_SCRATCH struct rans_decode_job jobs[2];
    PAGE_SCRATCH struct page_tile tiles[2];
    for (size_t i = 0; i < decoding->count; i++) {
        struct quantise_reader *reader = decoding->readers[i];
        tiles[i] = (struct page_tile){
            .q = reader->tile,
            .mean = reader->page.mean + channel - PAGE_BLOCK,
            .steps = reader->page.step,
            .phase = phase_of(reader),
            .out =
                page_target_numbers(decoding->targets[i], channel - PAGE_BLOCK, decoding->staging),
        };
        reader->tile = reader->spare;
        reader->spare = (void *)tiles[i].q;
    }
    set_jobs(decoding->readers, decoding->count, channel, jobs);
    return page_kernels()->overlap[decoding->targets[0]->layout.dtype](jobs, tiles,
                                                                       decoding->count);
}

static void store_tiles(const struct decoding *decoding, size_t channel) {
    for (size_t i = 0; i < decoding->count; i++)
        dequantise_tile(decoding->readers[i], channel, decoding->targets[i], decoding->staging);
}

static bool next_tiles(const struct decoding *decoding, size_t channel) {
    if (channel > 0 && may_overlap(decoding, channel))
        return overlap_tiles(decoding, channel);
    if (channel > 0)
        store_tiles(decoding, channel - PAGE_BLOCK);
    return quantise_read_tiles(decoding->readers, decoding->count, channel);
}

bool quantise_decode(struct quantise_reader *const readers[],
                     const struct page_target_tokens *const targets[], size_t count,
                     struct workspace workspace) {
    struct decoding decoding = {readers, targets, count,
                                workspace_take(&workspace, sizeof *decoding.staging)};
    size_t channels = readers[0]->page.channels;
    for (size_t c = 0; c < channels; c += PAGE_BLOCK)
        if (!next_tiles(&decoding, c))
            return false;
    store_tiles(&decoding, (channels - 1) / PAGE_BLOCK * PAGE_BLOCK);
    for (size_t i = 0; i < count; i++)
        if (!rans_decoder_done(&readers[i]->decoder))
            return false;
    return true;
}

bool quantise_decode_page(const struct page_header *header, struct payload payload,
                          const struct page_target_tokens *target, struct workspace workspace) {
    struct quantise_reader reader;
    return quantise_open(&reader, header, payload, &workspace) &&
           quantise_decode(&(struct quantise_reader *){&reader}, &target, 1, workspace);
}
