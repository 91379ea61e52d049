/* Ageing: a page of a level to a coarser one, on its integers alone. */
#include "proto/page/age.h"
#include "proto/page/quantise.h"

struct ageing {
    struct page_header old, header; /* as it came, and of the coarser page */
    const uint8_t *page;
    struct quantise_reader reader;
    struct quantise_writer writer;
    struct age_sample sample;
    unsigned shift;    /* levels to go */
    int up;            /* halving them all: q = (q + up) >> shift */
    size_t row_values; /* from one row in memory to the next */
    uint8_t *values;   /* all of the page's, in its width */
    double error;
    bool possible; /* the coarser page has a step, and is no longer */
};

static bool is_wide(const struct ageing *ageing) {
    return (ageing->old.flags & FLAG_WIDE) != 0;
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

/* The tile that has been read. */
static void keep_tile(struct ageing *ageing, size_t channel) {
    const struct quantise_reader *reader = &ageing->reader;
    size_t rows = tile_channels(reader->page.channels, channel);
    age_sample_take(&ageing->sample, reader->tile, rows, reader->page.tokens);
    if (is_packed(ageing))
        copy_rows(stored_tile(ageing, channel), ageing->row_values, reader->tile, RANS_ROW_VALUES,
                  rows, value_bytes(ageing));
}

/* Of one page, or of two of the same width and channels. */
static bool read_values(struct ageing *ageings, size_t count) {
    struct quantise_reader *readers[2];
    uint8_t *scratch[2];
    bool whole = true;
    for (size_t i = 0; i < count; i++) {
        readers[i] = &ageings[i].reader;
        scratch[i] = readers[i]->tile;
    }
    for (size_t c = 0; c < readers[0]->page.channels; c += PAGE_BLOCK) {
        for (size_t i = 0; i < count; i++)
            readers[i]->tile = is_packed(&ageings[i]) ? scratch[i] : stored_tile(&ageings[i], c);
        if (!quantise_read_tiles(readers, count, c))
            return false;
        for (size_t i = 0; i < count; i++)
            keep_tile(&ageings[i], c);
    }
    for (size_t i = 0; i < count; i++) {
        readers[i]->tile = scratch[i];
        whole = whole && rans_decoder_done(&readers[i]->decoder);
    }
    return whole;
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

static bool narrows(const struct ageing *ageing) {
    return is_wide(ageing) && (ageing->header.flags & FLAG_WIDE) == 0;
}

/* Of one page, or of two whose coarser ones are of the same width and channels. */
static void write_values(struct ageing *const ageings[], size_t count) {
    struct quantise_writer *writers[2];
    uint32_t magnitude[2][PAGE_BLOCK];
    size_t channels = ageings[0]->reader.page.channels;
    for (size_t i = 0; i < count; i++)
        writers[i] = &ageings[i]->writer;
    for (size_t c = (channels + PAGE_BLOCK - 1) / PAGE_BLOCK * PAGE_BLOCK; c > 0;) {
        struct quantise_tile tiles[2];
        c -= PAGE_BLOCK;
        for (size_t i = 0; i < count; i++) {
            uint8_t *tile = halved_tile(ageings[i], c, magnitude[i]);
            if (narrows(ageings[i]))
                narrow_tile(tile, tile_channels(channels, c));
            tiles[i] = (struct quantise_tile){tile, magnitude[i]};
        }
        quantise_write_tiles(writers, tiles, count, c);
    }
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

static size_t front_bytes(const struct ageing *ageing) {
    return page_exact_end(&ageing->old);
}

/* The header is that of a page to age, but for what the payload says. */
static int begin(struct ageing *ageing, const struct page_bytes *page, int level,
                 size_t out_bytes) {
    struct page_header *header = &ageing->old;
    *ageing = (struct ageing){.page = page->page};
    int error = page_header_read(page->page, page->bytes, header);
    if (error != PAGE_OK)
        return error;
    if (header->coding != CODING_RANS || level <= header->level || level > PAGE_LEVEL_MAX ||
        out_bytes < page->bytes)
        return PAGE_ARGUMENT;
    ageing->header = *header;
    return PAGE_OK;
}

static bool open_payload(struct ageing *ageing, struct workspace *workspace) {
    size_t front = front_bytes(ageing);
    struct payload payload = {ageing->page + front, ageing->old.page_bytes - front};
    if (!quantise_open(&ageing->reader, &ageing->old, payload, workspace))
        return false;
    take_memory(ageing, workspace);
    return true;
}

/* The header of the coarser page but for its stream, and the writer of that. */
static void begin_writing(struct ageing *ageing, int level, struct workspace *workspace) {
    struct page_header *header = &ageing->header;
    age_sample_end(&ageing->sample);
    while (header->level < level)
        coarsen(ageing);
    double error = (double)header->error + ageing->error;
    ageing->possible = header->step <= PAGE_STEP_MAX && error <= (double)PAGE_F32_MAX;
    if (!ageing->possible)
        return;
    header->flags |= FLAG_ESTIMATED;
    if (is_wide(ageing) && will_fit_narrow(ageing))
        header->flags &= (uint8_t)~FLAG_WIDE;
    header->error = error > 0 ? (float)error : 0;
    quantise_writer_init(&ageing->writer, header, &ageing->reader.page,
                         header->page_bytes - front_bytes(ageing), workspace);
}

/* The same page, which serves the coarser level no worse. */
static size_t rename_level(const struct ageing *ageing, int level, uint8_t *out) {
    struct page_header header = ageing->old;
    header.level = level;
    memcpy(out, ageing->page, header.page_bytes);
    page_header_write(&header, out);
    return header.page_bytes;
}

static size_t write_page(struct ageing *ageing, int level, uint8_t *out) {
    struct page_header *header = &ageing->header;
    size_t front = front_bytes(ageing), listed = page_header_bytes(header);
    size_t length = ageing->possible ? quantise_writer_end(&ageing->writer) : 0;
    if (length == 0 || front + length > ageing->old.page_bytes)
        return rename_level(ageing, level, out);
    header->page_bytes = (uint32_t)(front + length);
    page_header_write(header, out);
    memcpy(out + listed, ageing->page + listed, front - listed);
    rans_encoder_write(&ageing->writer.encoder, out + front);
    return front + length;
}

/* Whether tiles of the two fit one call of a kernel. */
static bool are_alike(const struct page_header *a, const struct page_header *b) {
    return (a->flags & FLAG_WIDE) == (b->flags & FLAG_WIDE) &&
           page_header_channels(a) == page_header_channels(b);
}

static void write_streams(struct ageing *ageings, size_t count) {
    struct ageing *possible[2];
    size_t ready = 0;
    for (size_t i = 0; i < count; i++)
        if (ageings[i].possible)
            possible[ready++] = &ageings[i];
    if (ready == 2 && are_alike(&possible[0]->header, &possible[1]->header))
        write_values(possible, 2);
    else
        for (size_t i = 0; i < ready; i++)
            write_values(&possible[i], 1);
}

/* One page, or two that are alike. */
static int age(struct ageing *ageings, size_t count, int level, struct workspace workspace,
               void *const outs[], size_t written[]) {
    for (size_t i = 0; i < count; i++)
        if (!open_payload(&ageings[i], &workspace))
            return PAGE_DAMAGED;
    if (!read_values(ageings, count))
        return PAGE_DAMAGED;
    for (size_t i = 0; i < count; i++)
        begin_writing(&ageings[i], level, &workspace);
    write_streams(ageings, count);
    for (size_t i = 0; i < count; i++)
        written[i] = write_page(&ageings[i], level, outs[i]);
    return PAGE_OK;
}

int page_age(struct page_bytes page, int level, void *workspace, void *out, size_t out_bytes,
             size_t *written, struct page_info *info) {
    struct ageing ageing;
    if (!page_workspace_is_valid(workspace))
        return PAGE_ARGUMENT;
    int error = begin(&ageing, &page, level, out_bytes);
    if (error == PAGE_OK)
        error = age(&ageing, 1, level, page_workspace(workspace), &out, written);
    return error == PAGE_OK && info ? page_peek(out, *written, info) : error;
}

/* Whether there is a gain in two at once, and room for it. */
static bool go_together(const struct ageing ageings[2]) {
    enum { CHANNELS_MAX = 1 << 13 };
    return are_alike(&ageings[0].old, &ageings[1].old) && !is_wide(&ageings[0]) &&
           page_header_channels(&ageings[0].old) <= CHANNELS_MAX;
}

int page_age_pair(const struct page_bytes pages[2], int level, void *workspace, void *const outs[2],
                  const size_t out_bytes[2], size_t written[2], struct page_info *info) {
    struct ageing ageings[2];
    if (!page_workspace_is_valid(workspace))
        return PAGE_ARGUMENT;
    int error = PAGE_OK;
    for (size_t i = 0; i < 2 && error == PAGE_OK; i++)
        error = begin(&ageings[i], &pages[i], level, out_bytes[i]);
    size_t step = error == PAGE_OK && go_together(ageings) ? 2 : 1;
    for (size_t i = 0; i < 2 && error == PAGE_OK; i += step)
        error = age(&ageings[i], step, level, page_workspace(workspace), &outs[i], &written[i]);
    for (size_t i = 0; i < 2 && error == PAGE_OK && info; i++)
        error = page_peek(outs[i], written[i], &info[i]);
    return error;
}
