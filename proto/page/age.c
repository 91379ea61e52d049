/* Ageing: a page of a level to a coarser one, on its integers alone. */
#include "proto/page/age.h"
#include "proto/page/quantise.h"

struct ageing {
    struct page_header header; /* of the coarser page */
    struct quantise_reader reader;
    struct age_sample sample;
    unsigned shift;    /* levels to go */
    int up;            /* halving them all: q = (q + up) >> shift */
    size_t row_values; /* from one row in memory to the next */
    uint8_t *values;   /* all of the page's, in its width */
    double error;
};

static bool is_wide(const struct ageing *ageing) {
    return (ageing->reader.header->flags & FLAG_WIDE) != 0;
}

static size_t value_bytes(const struct ageing *ageing) {
    return is_wide(ageing) ? sizeof(int16_t) : sizeof(int8_t);
}

/* ---- all values in memory: they are read first to last and written last to first ---- */

static uint8_t *stored_tile(const struct ageing *ageing, size_t channel) {
    return ageing->values + channel * ageing->row_values * value_bytes(ageing);
}

/* Short rows stand closer than kernels have them. */
static bool is_packed(const struct ageing *ageing) {
    return ageing->row_values != RANS_ROW_VALUES;
}

static void copy_rows(uint8_t *to, size_t to_values, const uint8_t *from, size_t from_values,
                      size_t rows, size_t bytes) {
    size_t row_bytes = (to_values < from_values ? to_values : from_values) * bytes;
    for (size_t row = 0; row < rows; row++)
        memcpy(to + row * to_values * bytes, from + row * from_values * bytes, row_bytes);
}

static void take_memory(struct ageing *ageing, struct workspace *workspace) {
    const struct quantised *page = &ageing->reader.page;
    bool wide = is_wide(ageing), long_rows = page->tokens > RANS_ROW_VALUES / 2;
    ageing->row_values = long_rows ? RANS_ROW_VALUES : page->tokens;
    ageing->values =
        workspace_take(workspace, page->channels * ageing->row_values * value_bytes(ageing));
    age_sample_init(&ageing->sample, wide, workspace_take(workspace, age_sample_bytes(wide)));
}

static bool read_values(struct ageing *ageing) {
    struct quantise_reader *reader = &ageing->reader;
    uint8_t *scratch = reader->tile;
    for (size_t c = 0; c < reader->page.channels; c += PAGE_BLOCK) {
        size_t rows = tile_channels(reader->page.channels, c);
        reader->tile = is_packed(ageing) ? scratch : stored_tile(ageing, c);
        if (!quantise_read_tiles(&(struct quantise_reader *){reader}, 1, c))
            return false;
        age_sample_take(&ageing->sample, reader->tile, is_wide(ageing), rows, reader->page.tokens);
        if (is_packed(ageing))
            copy_rows(stored_tile(ageing, c), ageing->row_values, scratch, RANS_ROW_VALUES, rows,
                      value_bytes(ageing));
    }
    reader->tile = scratch;
    return rans_decoder_done(&reader->decoder);
}

/* The tile as kernels have it, and its values halved. */
static uint8_t *halved_tile(struct ageing *ageing, size_t channel, uint32_t *magnitude) {
    size_t rows = tile_channels(ageing->reader.page.channels, channel);
    size_t tokens = ageing->reader.page.tokens;
    uint8_t *tile = stored_tile(ageing, channel);
    if (is_packed(ageing)) {
        copy_rows(ageing->reader.tile, RANS_ROW_VALUES, tile, ageing->row_values, rows,
                  value_bytes(ageing));
        tile = ageing->reader.tile;
    }
    if (is_wide(ageing))
        page_kernels()->halve16((int16_t *)tile, rows, tokens, ageing->shift, ageing->up,
                                magnitude);
    else
        page_kernels()->halve8((int8_t *)tile, rows, tokens, ageing->shift, ageing->up, magnitude);
    return tile;
}

/* Whether a page of int16 can do with int8 once its values are halved. */
static bool will_fit_narrow(const struct ageing *ageing) {
    for (size_t c = 0; c < ageing->reader.page.channels; c++)
        for (size_t t = 0; t < ageing->reader.page.tokens; t++) {
            int q = ((const int16_t *)stored_tile(ageing, c))[t] + ageing->up;
            if (q >> ageing->shift != (int8_t)(q >> ageing->shift))
                return false;
        }
    return true;
}

/* In place: int8 rows stand in the first halves of the int16 ones' memory. */
static void narrow_tile(uint8_t *tile, size_t rows) {
    for (size_t i = 0; i < rows * RANS_ROW_VALUES; i++)
        tile[i] = (uint8_t)((const int16_t *)tile)[i];
}

/* The stream's length; 0 if it is longer than `limit`. */
static size_t write_values(struct ageing *ageing, struct quantise_writer *writer, size_t limit,
                           struct workspace *workspace) {
    struct quantised *page = &ageing->reader.page;
    bool narrows = is_wide(ageing) && (ageing->header.flags & FLAG_WIDE) == 0;
    quantise_writer_init(writer, &ageing->header, page, limit, workspace);
    for (size_t c = (page->channels + PAGE_BLOCK - 1) / PAGE_BLOCK * PAGE_BLOCK; c > 0;) {
        uint32_t magnitude[PAGE_BLOCK];
        c -= PAGE_BLOCK;
        uint8_t *tile = halved_tile(ageing, c, magnitude);
        if (narrows)
            narrow_tile(tile, tile_channels(page->channels, c));
        if (!quantise_write_tile(writer, c, tile, magnitude))
            return 0;
    }
    size_t length = quantise_writer_end(writer);
    return length <= limit ? length : 0;
}

/* ---- one level coarser ---- */

/* Sum over the coded tokens of the square of the step, of a page so many levels coarser. */
static double sum_of_squared_steps(const struct quantised *page, unsigned levels) {
    double sum = 0, factor = 1u << levels;
    for (size_t t = 0; t < page->tokens; t++)
        sum += (double)page->step[t] * (double)page->step[t];
    return sum * factor * factor;
}

/* Means in twice the unit, ties to even; returns the squared error of that. */
static double halve_means(const struct page_header *header, struct quantised *page) {
    size_t moved = 0;
    double unit = (double)quantised_mean_unit(header);
    for (size_t c = 0; c < page->channels; c++) {
        int mean = page->mean_units[c], half = mean >> 1, odd = mean & 1;
        page->mean_units[c] = (int16_t)(half + (odd & half));
        moved += (size_t)odd;
    }
    return (double)(moved * page->tokens) * unit * unit;
}

static void coarsen(struct ageing *ageing) {
    struct page_header *header = &ageing->header;
    struct quantised *page = &ageing->reader.page;
    struct age_halving halving = age_sample_halve(&ageing->sample, header->phase);
    ageing->error +=
        halving.error * sum_of_squared_steps(page, ageing->shift) * (double)page->channels;
    ageing->up += halving.up ? 1 << ageing->shift : 0;
    ageing->shift++;
    if (header->mean_shift > 0)
        header->mean_shift--;
    else if ((header->flags & FLAG_NO_MEANS) == 0)
        ageing->error += halve_means(header, page);
    header->phase = halving.phase;
    header->step = (uint16_t)(header->step + 0x80);
    header->level++;
}

/* ---- pages ---- */

/* The coarser page; 0 if it would be longer. */
static size_t write_page(struct ageing *ageing, const uint8_t *page, size_t front,
                         struct workspace *workspace, uint8_t *out) {
    struct quantise_writer writer;
    struct page_header *header = &ageing->header;
    double error = (double)header->error + ageing->error;
    header->flags |= FLAG_ESTIMATED;
    if (is_wide(ageing) && will_fit_narrow(ageing))
        header->flags &= (uint8_t)~FLAG_WIDE;
    header->error = error > 0 ? (float)error : 0;
    size_t length = write_values(ageing, &writer, header->page_bytes - front, workspace);
    if (length == 0 || !(error <= (double)PAGE_F32_MAX))
        return 0;
    header->page_bytes = (uint32_t)(front + length);
    page_header_write(header, out);
    memcpy(out + page_header_bytes(header), page + page_header_bytes(header),
           front - page_header_bytes(header));
    rans_encoder_write(&writer.encoder, out + front);
    return front + length;
}

/* The same page, which serves the coarser level no worse. */
static size_t rename_level(const struct page_header *old, const uint8_t *page, int level,
                           uint8_t *out) {
    struct page_header header = *old;
    header.level = level;
    memcpy(out, page, header.page_bytes);
    page_header_write(&header, out);
    return header.page_bytes;
}

static bool read_page(struct ageing *ageing, const struct page_header *header,
                      struct payload payload, struct workspace *workspace) {
    ageing->header = *header;
    if (!quantise_open(&ageing->reader, header, payload, workspace))
        return false;
    take_memory(ageing, workspace);
    return read_values(ageing);
}

int page_age(struct page_bytes page, int level, void *workspace, void *out, size_t out_bytes,
             size_t *written, struct page_info *info) {
    struct page_header header;
    int error = page_header_read(page.page, page.bytes, &header);
    if (error != PAGE_OK)
        return error;
    if (header.coding != CODING_RANS || level <= header.level || level > PAGE_LEVEL_MAX ||
        out_bytes < page.bytes || !page_workspace_is_valid(workspace))
        return PAGE_ARGUMENT;
    struct workspace left = page_workspace(workspace);
    struct ageing ageing = {.shift = 0};
    size_t front = page_exact_end(&header);
    struct payload payload = {(const uint8_t *)page.page + front, header.page_bytes - front};
    if (page_header_coded(&header) == 0 || !read_page(&ageing, &header, payload, &left))
        return PAGE_DAMAGED;
    while (ageing.header.level < level)
        coarsen(&ageing);
    *written = 0;
    if (ageing.header.step <= PAGE_STEP_MAX)
        *written = write_page(&ageing, page.page, front, &left, out);
    if (*written == 0)
        *written = rename_level(&header, page.page, level, out);
    return info == NULL ? PAGE_OK : page_peek(out, *written, info);
}
