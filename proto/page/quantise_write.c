/* Levels 0 to 5: quantised values to a stream. */
#include "proto/page/quantise.h"
#include "proto/page/side_rows.h"

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

size_t quantise_writer_end(struct quantise_writer *writer) {
    struct quantised *page = writer->page;
    struct page_header *header = writer->header;
    struct rans_encoder *encoder = &writer->encoder;
    header->centre[0] = side_row_centre(writer->channel_class, page->channels, page->class_offset);
    bool room = (header->flags & FLAG_NO_MEANS) != 0 ||
                side_row_write(header, encoder, 2, page->mean_units, page->channels);
    room = room && side_row_write(header, encoder, 1, page->class_offset, page->channels) &&
           side_row_write(header, encoder, 0, page->scale, page->tokens);
    return room ? rans_encoder_bytes(encoder) : 0;
}
