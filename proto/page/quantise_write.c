/* Levels 0 to 5: quantised values to a stream. */
#include "proto/page/quantise.h"

void quantise_writer_init(struct quantise_writer *writer, struct page_header *header,
                          struct quantised *page, size_t limit, struct workspace *workspace) {
    uint8_t *memory = workspace_take(workspace, rans_encoder_memory_bytes(limit));
    writer->header = header;
    writer->page = page;
    writer->channel_class = workspace_take(workspace, page->channels);
    rans_classes_init(&writer->classes, page->tokens);
    rans_encoder_init(&writer->encoder, memory, limit);
}

bool quantise_write_tile(struct quantise_writer *writer, size_t channel, const void *values,
                         const uint32_t *magnitude) {
    struct quantised *page = writer->page;
    bool wide = writer->header->flags & FLAG_WIDE;
    struct rans_encode_job job = {.encoder = &writer->encoder,
                                  .classes = page->classes + channel,
                                  .rows = tile_channels(page->channels, channel),
                                  .count = page->tokens,
                                  .values = values};
    for (size_t i = 0; i < job.rows; i++) {
        unsigned k = rans_class_of_sum(&writer->classes, magnitude[i]);
        writer->channel_class[channel + i] = (uint8_t)k;
        page->classes[channel + i] = writer->classes.level[k];
    }
    if (!rans_encoder_has_room(&writer->encoder, job.classes, job.rows, job.count, wide))
        return false;
    if (wide)
        page_kernels()->rans_encode16(&job, 1);
    else
        page_kernels()->rans_encode8(&job, 1);
    return true;
}

/* Classes of the channels, as differences to their mean. */
static void centre_classes(struct quantise_writer *writer) {
    struct quantised *page = writer->page;
    assert(page->channels > 0);
    size_t sum = 0;
    for (size_t c = 0; c < page->channels; c++)
        sum += writer->channel_class[c];
    writer->header->centre[0] = (uint8_t)((sum + page->channels / 2) / page->channels);
    for (size_t c = 0; c < page->channels; c++)
        page->class_offset[c] = (int16_t)(writer->channel_class[c] - writer->header->centre[0]);
}

/* Chooses the row's class and notes it. */
static bool write_side_row(struct quantise_writer *writer, int row, const int16_t *values,
                           size_t count) {
    uint8_t k = (uint8_t)rans_choose_class(values, count);
    writer->header->row_class[row] = k;
    return rans_encode_side_row(&writer->encoder, rans_level_class(k), values, count);
}

size_t quantise_writer_end(struct quantise_writer *writer) {
    struct quantised *page = writer->page;
    centre_classes(writer);
    bool room = (writer->header->flags & FLAG_NO_MEANS) != 0 ||
                write_side_row(writer, 2, page->mean_units, page->channels);
    room = room && write_side_row(writer, 1, page->class_offset, page->channels) &&
           write_side_row(writer, 0, page->scale, page->tokens);
    return room ? rans_encoder_bytes(&writer->encoder) : 0;
}
