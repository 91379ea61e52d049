/* Levels 0 to 5: quantised values to a stream. */
#include "proto/page/quantise.h"
#include "proto/page/side_rows.h"

void quantise_writer_init(struct quantise_writer *writer, struct page_header *header,
                          struct quantised *page, size_t limit, struct workspace *workspace) {
    struct rans_bounds bounds = {.bytes = limit,
                                 .rows = page->channels,
                                 .count = page->tokens,
                                 .wide = (header->flags & FLAG_WIDE) != 0,
                                 .side_values = 2 * page->channels + page->tokens};
    *writer = (struct quantise_writer){.header = header, .page = page};
    writer->channel_class = workspace_take(workspace, page->channels);
    rans_classes_init(&writer->classes, page->tokens);
    rans_encoder_init(&writer->encoder,
                      workspace_take(workspace, rans_encoder_memory_bytes(&bounds)), &bounds);
}

/* Chooses the channels' classes; false if there is no room. */
static bool begin_tile(struct quantise_writer *writer, const struct quantise_tile *tile,
                       size_t channel, struct rans_encode_job *job) {
    struct quantised *page = writer->page;
    *job = (struct rans_encode_job){.encoder = &writer->encoder,
                                    .classes = page->classes + channel,
                                    .rows = tile_channels(page->channels, channel),
                                    .count = page->tokens,
                                    .values = tile->values};
    for (size_t i = 0; i < job->rows; i++) {
        unsigned k = rans_class_of_sum(&writer->classes, tile->magnitude[i]);
        writer->channel_class[channel + i] = (uint8_t)k;
        page->classes[channel + i] = writer->classes.level[k];
    }
    return rans_encoder_has_room(&writer->encoder, job->classes, job->rows, job->count,
                                 (writer->header->flags & FLAG_WIDE) != 0);
}

void quantise_write_tiles(struct quantise_writer *const writers[],
                          const struct quantise_tile tiles[], size_t count, size_t channel) {
    struct rans_encode_job jobs[2];
    size_t ready = 0;
    for (size_t i = 0; i < count; i++) {
        struct quantise_writer *writer = writers[i];
        writer->full = writer->full || !begin_tile(writer, &tiles[i], channel, &jobs[ready]);
        ready += !writer->full;
    }
    if (ready == 0)
        return;
    if (writers[0]->header->flags & FLAG_WIDE)
        page_kernels()->rans_encode16(jobs, ready);
    else
        page_kernels()->rans_encode8(jobs, ready);
}

size_t quantise_writer_end(struct quantise_writer *writer) {
    struct quantised *page = writer->page;
    struct page_header *header = writer->header;
    struct rans_encoder *encoder = &writer->encoder;
    if (writer->full)
        return 0;
    header->centre[0] = side_row_centre(writer->channel_class, page->channels, page->class_offset);
    bool room = (header->flags & FLAG_NO_MEANS) != 0 ||
                side_row_write(header, encoder, 2, page->mean_units, page->channels);
    room = room && side_row_write(header, encoder, 1, page->class_offset, page->channels) &&
           side_row_write(header, encoder, 0, page->scale, page->tokens);
    return room ? rans_encoder_bytes(encoder) : 0;
}
