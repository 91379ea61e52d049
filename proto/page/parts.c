#include "proto/page/parts.h"
#include "proto/page/exact.h"
#include "proto/page/quantise.h"
#include "proto/page/side_rows.h"

/* A stream on its way through its side rows. */
struct side_reader {
    struct rans_decoder decoder;
    const struct page_header *header;
    int16_t *row; /* room for any of them */
    bool sound;
};

static size_t left(const struct rans_decoder *decoder) {
    return (size_t)(decoder->refill_end - decoder->refill) +
           (size_t)(decoder->plane_end - decoder->plane) +
           (size_t)(decoder->escape_end - decoder->escape);
}

/* What the stream's side row takes; of symbols what is read meanwhile. */
static size_t take_side_row(struct side_reader *reader, int number, size_t count) {
    size_t before = left(&reader->decoder);
    struct rans_class class = rans_level_class(reader->header->row_class[number]);
    reader->sound =
        reader->sound && rans_decode_side_row(&reader->decoder, class, reader->row, count);
    return before - left(&reader->decoder);
}

/* Side rows stand before the values: what is left is of these. */
static int take_stream(struct side_reader *reader, struct payload stream,
                       struct workspace workspace, struct page_parts *parts) {
    const struct page_header *header = reader->header;
    size_t channels = page_header_channels(header);
    bool is_exact = header->coding == CODING_EXACT;
    struct rans_decode_model *models = workspace_take(&workspace, PAGE_TABLES * sizeof *models);
    reader->row =
        side_row_take(&workspace, channels > PAGE_TOKENS_MAX ? channels : PAGE_TOKENS_MAX);
    reader->sound = rans_decoder_init(&reader->decoder, stream.bytes, stream.length, models);
    if (!reader->sound)
        return PAGE_DAMAGED;
    parts->stream_header = RANS_STREAM_HEADER_BYTES;
    if (is_exact)
        parts->means = take_side_row(reader, 0, channels);
    else
        parts->scales = take_side_row(reader, 0, page_header_coded(header));
    parts->classes = take_side_row(reader, 1, channels);
    if (!is_exact && (header->flags & FLAG_NO_MEANS) == 0)
        parts->means = take_side_row(reader, 2, channels);
    parts->symbols = (size_t)(reader->decoder.refill_end - reader->decoder.refill);
    parts->planes += (size_t)(reader->decoder.plane_end - reader->decoder.plane);
    parts->escapes = (size_t)(reader->decoder.escape_end - reader->decoder.escape);
    return reader->sound ? PAGE_OK : PAGE_DAMAGED;
}

static int take_payload(const struct page_header *header, struct payload payload,
                        struct workspace workspace, struct page_parts *parts) {
    size_t channels = page_header_channels(header), tokens = page_header_coded(header);
    struct side_reader reader = {.header = header};
    switch (header->coding) {
    case CODING_EXACT:
        parts->planes = tokens * exact_rest_bytes(header->dtype, channels);
        if (parts->planes > payload.length)
            return PAGE_DAMAGED;
        payload.bytes += parts->planes;
        payload.length -= parts->planes;
        return take_stream(&reader, payload, workspace, parts);
    case CODING_RANS:
        return take_stream(&reader, payload, workspace, parts);
    case CODING_FAST8:
        parts->scales = parts->means = channels * sizeof(uint16_t);
        break;
    case CODING_RAW:
        break;
    }
    if (payload.length < parts->scales + parts->means)
        return PAGE_DAMAGED;
    parts->planes = payload.length - parts->scales - parts->means;
    return PAGE_OK;
}

int page_parts(const void *page, size_t page_bytes, void *workspace, struct page_parts *parts) {
    struct page_header header;
    *parts = (struct page_parts){0};
    int error = page_header_read(page, page_bytes, &header);
    if (error != PAGE_OK)
        return error;
    if (!page_workspace_is_valid(workspace))
        return PAGE_ARGUMENT;
    size_t front = page_exact_end(&header);
    parts->header = page_header_bytes(&header);
    parts->exact_tokens = front - parts->header;
    struct payload payload = {(const uint8_t *)page + front, header.page_bytes - front};
    return take_payload(&header, payload, page_workspace(workspace), parts);
}
