/* Levels 0 to 5, encoding: means, steps, tokens that stand out; then tile by tile values and their
 * rows. */
#include "proto/page/compact.h"
#include "proto/page/quantise.h"

enum {
    FINE_LEVEL = 2,      /* below it a step says more than a mean need */
    OUTLIERS_MAX = 4,    /* tokens that a page keeps exact because they stand out */
    OUTLIER_ENERGY = 16, /* times the mean of the other tokens, from which on they do */
};

struct encoding {
    const struct page_source *source;
    struct page_header *header;
    struct quantised page;
    struct page_source_tokens tokens;
    struct page_staging *staging;
    float (*lanes)[PAGE_LANES]; /* [n] */
    float energy[PAGE_TOKENS_MAX];
    double total;                     /* of energy */
    uint32_t (*residual)[PAGE_LANES]; /* [n] */
};

/* ---- what the values are like ---- */

/* Sums of each channel. The first to read the values: token by token, as they stand in memory,
 * since tiles of all tokens would jump about where the processor does not foresee it. */
static void sum_tokens(const struct page_source_tokens *tokens, float *sum) {
    size_t run, channels = tokens->layout.channels;
    for (size_t t = 0; t < tokens->count; t++)
        for (size_t c = 0; c < channels; c += run) {
            run = page_layout_run(&tokens->layout, c, channels - c);
            struct page_source_rows row = {.rows = tokens->rows + t,
                                           .offset_bytes = page_layout_offset(&tokens->layout, c),
                                           .tokens = 1,
                                           .channels = run};
            page_kernels()->sum[tokens->layout.dtype](&row, sum + c);
        }
}

static void take_means(struct encoding *encoding) {
    const struct page_source_tokens *tokens = &encoding->tokens;
    struct quantised *page = &encoding->page;
    memset(page->mean, 0, page->channels * sizeof *page->mean);
    if (!page_is_compact(tokens->layout.dtype))
        sum_tokens(tokens, page->mean);
    else
        for (size_t c = 0; c < page->channels; c += PAGE_BLOCK) {
            struct page_source_rows tile = page_source_numbers(tokens, c, encoding->staging);
            page_kernels()->sum[PAGE_F32](&tile, page->mean + c);
        }
    for (size_t c = 0; c < page->channels; c++)
        page->mean[c] /= (float)page->tokens;
}

static void take_energies(struct encoding *encoding) {
    struct quantised *page = &encoding->page;
    memset(encoding->lanes, 0, page->tokens * sizeof *encoding->lanes);
    for (size_t c = 0; c < page->channels; c += PAGE_BLOCK) {
        struct page_source_rows tile = page_source_numbers(&encoding->tokens, c, encoding->staging);
        page_kernels()->deviation[page_number_dtype(encoding->header->dtype)](&tile, page->mean + c,
                                                                              encoding->lanes);
    }
    encoding->total = 0;
    for (size_t t = 0; t < page->tokens; t++) {
        encoding->energy[t] = page_fold(encoding->lanes[t]);
        encoding->total += (double)encoding->energy[t];
    }
}

/* Means and energies of the tokens that the header does not keep exact. */
static void survey(struct encoding *encoding) {
    page_coded_source(encoding->source, encoding->header, &encoding->tokens);
    encoding->page.tokens = encoding->tokens.count;
    take_means(encoding);
    take_energies(encoding);
}

/* ---- tokens that stand out ---- */

static void keep_exact(struct page_header *header, uint8_t token) {
    int i = header->exact_tokens++;
    for (; i > 0 && header->exact_token[i - 1] > token; i--)
        header->exact_token[i] = header->exact_token[i - 1];
    header->exact_token[i] = token;
}

static size_t index_of_largest(const float *energy, size_t count) {
    size_t found = 0;
    for (size_t t = 1; t < count; t++)
        if (energy[t] > energy[found])
            found = t;
    return found;
}

/* The page's number of a token that has been numbered among the coded ones. */
static uint8_t number_in_page(const struct page_header *header, size_t coded) {
    size_t token = coded;
    for (int i = 0; i < header->exact_tokens && header->exact_token[i] <= token; i++)
        token++;
    return (uint8_t)token;
}

/* Attention sinks, wherever they stand, and the like: kept exact, they neither widen the page's
 * step nor take its error. They are compared with those that remain, so that neither one of few
 * tokens nor several hide themselves in the mean. Returns whether there are any. */
static bool find_outliers(struct encoding *encoding) {
    struct page_header *header = encoding->header;
    size_t tokens = encoding->page.tokens, count = 0;
    uint8_t found[OUTLIERS_MAX];
    float energy[PAGE_TOKENS_MAX];
    double others = encoding->total;
    memcpy(energy, encoding->energy, tokens * sizeof *energy);
    for (size_t k = 1; k <= OUTLIERS_MAX && k < tokens; k++) {
        size_t t = index_of_largest(energy, tokens);
        if (!(energy[t] > 0))
            break;
        found[k - 1] = number_in_page(header, t);
        others -= (double)energy[t];
        if ((double)energy[t] * (double)(tokens - k) > OUTLIER_ENERGY * others)
            count = k;
        energy[t] = 0;
    }
    for (size_t i = 0; i < count; i++)
        keep_exact(header, found[i]);
    return count > 0;
}

/* ---- steps and means ---- */

/* V's step in that of K: an error of an early layer's V passes through all later ones, and while
 * there is little in the residual stream yet (RATES.md). */
static float v_coarseness(const struct page_source *source) {
    static const float BY_DEPTH[4] = {1.5f * 0.771f, 1.5f * 0.917f, 1.5f * 1.091f, 1.5f * 1.297f};
    if (source->layer >= source->layers || source->layers < 4)
        return 1.5f; /* unknown, or no depth to speak of */
    return BY_DEPTH[4 * (uint64_t)source->layer / source->layers];
}

/* Upper half of step, rounded; false if that is not a step that the format allows. */
static bool set_step(const struct page_source *source, struct page_header *header,
                     double mean_square) {
    float step = 0.05f * (float)(1 << header->level) * __builtin_sqrtf((float)mean_square);
    if (header->part == PAGE_V)
        step *= v_coarseness(source);
    if (!(step >= 0x1p-99f && step <= 0x1p99f))
        return false;
    header->step = (uint16_t)(bfloat_bits(step) >> 16);
    return true;
}

/* Quarter octaves of a token's step from the page's: round(4 * a * log2(token's RMS / page's RMS)),
 * as the exponent of the 2a-th power of the ratio of their energies. a is 1/4 for K, because a loud
 * key bears little more error than a quiet one, and 5/4 for V, because loud values get little
 * attention (RATES.md). */
static int16_t scale_of(enum page_part part, float energy, double total, size_t tokens) {
    float ratio = (float)((double)energy * (double)tokens / total);
    ratio = ratio > 0x1p-16f ? ratio : 0x1p-16f;
    float power = __builtin_sqrtf(ratio);
    if (part == PAGE_V)
        power *= ratio * ratio;
    int quarters = (int)(float_bits(power * 0x1.6a09e6p+0f) >> 23) - 127;
    return (int16_t)(quarters > SCALE_MAX    ? SCALE_MAX
                     : quarters < -SCALE_MAX ? -SCALE_MAX
                                             : quarters);
}

static bool are_zero(enum page_dtype dtype, const uint8_t *values, size_t count) {
    uint32_t bits = 0;
    for (size_t i = 0; i < count; i++)
        bits |= dtype == PAGE_F32 ? ((const unaligned_u32 *)values)[i] & 0x7fffffffu
                                  : ((const unaligned_u16 *)values)[i] & 0x7fffu;
    return bits == 0;
}

static bool are_all_zero(struct encoding *encoding) {
    for (size_t c = 0; c < encoding->page.channels; c += PAGE_BLOCK) {
        struct page_source_rows tile = page_source_numbers(&encoding->tokens, c, encoding->staging);
        for (size_t t = 0; t < tile.tokens; t++)
            if (!are_zero(page_number_dtype(encoding->header->dtype),
                          (const uint8_t *)tile.rows[t] + tile.offset_bytes, tile.channels))
                return false;
    }
    return true;
}

/* Steps and scales of the page; false if its numbers are out of bounds. */
static bool choose_steps(struct encoding *encoding) {
    struct page_header *header = encoding->header;
    struct quantised *page = &encoding->page;
    if (encoding->total == 0) { /* one token, or equal ones: the values themselves set the step */
        header->flags |= FLAG_NO_MEANS;
        memset(page->mean, 0, page->channels * sizeof *page->mean);
        take_energies(encoding);
    }
    if (encoding->total == 0) {
        if (!are_all_zero(encoding))
            return false; /* too small for their squares */
        header->step = 0x3f80;
        memset(page->scale, 0, page->tokens * sizeof *page->scale);
    } else {
        if (!set_step(encoding->source, header,
                      encoding->total / (double)(page->tokens * page->channels)))
            return false;
        for (size_t t = 0; t < page->tokens; t++)
            page->scale[t] =
                scale_of(header->part, encoding->energy[t], encoding->total, page->tokens);
    }
    for (size_t t = 0; t < page->tokens; t++)
        page->step[t] = quantised_step(header->step, page->scale[t]);
    return true;
}

/* Of the values: that of their deviations and that of the means, which are not rounded yet. */
static double coded_energy(const struct encoding *encoding) {
    const struct quantised *page = &encoding->page;
    double means = 0;
    for (size_t c = 0; c < page->channels; c++)
        means += (double)page->mean[c] * (double)page->mean[c];
    return encoding->total + (double)page->tokens * means;
}

/* Of finite numbers: as integers, magnitudes order the same. */
static float largest_magnitude(const float *values, size_t count) {
    int32_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        int32_t magnitude = (int32_t)(float_bits(values[i]) & 0x7fffffffu);
        largest = magnitude > largest ? magnitude : largest;
    }
    return bits_float((uint32_t)largest);
}

/* Rounds the means to units, the units so large that all fit 16 bits; false if none are. */
static bool round_means(struct encoding *encoding) {
    struct page_header *header = encoding->header;
    struct quantised *page = &encoding->page;
    if (header->flags & FLAG_NO_MEANS)
        return true;
    float largest = largest_magnitude(page->mean, page->channels);
    header->mean_shift = header->level < FINE_LEVEL ? (uint8_t)(FINE_LEVEL - header->level) : 0;
    while (largest / quantised_mean_unit(header) > 32766 && header->mean_shift < MEAN_SHIFT_MAX)
        header->mean_shift++;
    float unit = quantised_mean_unit(header), inverse = 1 / unit;
    if (largest / unit > 32766 || !page_means_are_numbers(header))
        return false;
    for (size_t c = 0; c < page->channels; c++) {
        float magic = page->mean[c] * inverse + 0x1.8p23f;
        page->mean_units[c] = (int16_t)float_bits(magic);
        page->mean[c] = (float)page->mean_units[c] * unit;
    }
    return true;
}

/* ---- values ---- */

enum outcome { WRITTEN, TOO_WIDE, NO_ROOM };

static uint32_t quantise_tile(struct encoding *encoding, size_t channel, const float *fine,
                              void *values, struct page_sums *sums) {
    const struct page_kernels *kernels = page_kernels();
    struct page_source_rows tile =
        page_source_numbers(&encoding->tokens, channel, encoding->staging);
    const float *mean = encoding->page.mean + channel;
    enum page_dtype dtype = page_number_dtype(encoding->header->dtype);
    return encoding->header->flags & FLAG_WIDE
               ? kernels->quantise16[dtype](&tile, mean, fine, values, sums)
               : kernels->quantise8[dtype](&tile, mean, fine, values, sums);
}

/* What the coded tokens' steps have left, in steps, to squares. */
static double error_of(const struct encoding *encoding) {
    double error = 0;
    for (size_t t = 0; t < encoding->page.tokens; t++) {
        uint32_t squares = 0;
        for (size_t lane = 0; lane < PAGE_LANES; lane++)
            squares += encoding->residual[t][lane];
        double fine = (double)encoding->page.step[t] / 256;
        error += squares * (fine * fine);
    }
    return error;
}

/* All tiles, last to first: the decoder reads them the other way round. */
static enum outcome write_tiles(struct encoding *encoding, struct quantise_writer *writer,
                                void *values) {
    struct page_sums sums = {.residual = encoding->residual};
    float fine[PAGE_TOKENS_MAX];
    memset(encoding->residual, 0, encoding->page.tokens * sizeof *encoding->residual);
    for (size_t t = 0; t < encoding->page.tokens; t++)
        fine[t] = 256 * (1 / encoding->page.step[t]);
    size_t last = (encoding->page.channels - 1) / PAGE_BLOCK;
    for (size_t c = (last + 1) * PAGE_BLOCK; c > 0;) {
        c -= PAGE_BLOCK;
        if (quantise_tile(encoding, c, fine, values, &sums) != 0)
            return TOO_WIDE;
        struct quantise_tile tile = {values, sums.magnitude};
        quantise_write_tiles(&writer, &tile, 1, c);
        if (writer->full)
            return NO_ROOM;
    }
    return WRITTEN;
}

/* The stream's length, or 0: with the narrowest values that do. */
static size_t write_stream(struct encoding *encoding, struct workspace workspace, size_t limit,
                           double energy, struct quantise_writer *writer) {
    void *values = workspace_take(&workspace, PAGE_BLOCK * RANS_ROW_VALUES * sizeof(int16_t));
    for (int wide = 0; wide < 2; wide++) {
        struct workspace left = workspace;
        encoding->header->flags |= wide ? FLAG_WIDE : 0;
        quantise_writer_init(writer, encoding->header, &encoding->page, limit, &left);
        enum outcome outcome = write_tiles(encoding, writer, values);
        if (outcome == NO_ROOM)
            return 0;
        if (outcome == WRITTEN) {
            struct loss_sums loss = {.error = error_of(encoding), .energy = energy};
            return page_set_loss(encoding->header, &loss) ? quantise_writer_end(writer) : 0;
        }
    }
    return 0;
}

size_t quantise_encode(const struct page_source *source, struct workspace workspace,
                       struct page_header *header, uint8_t *page) {
    struct encoding encoding = {.source = source, .header = header};
    quantised_init(&encoding.page, header, &workspace);
    encoding.staging = workspace_take(&workspace, sizeof *encoding.staging);
    encoding.lanes = workspace_take(&workspace, PAGE_TOKENS_MAX * sizeof *encoding.lanes);
    encoding.residual = workspace_take(&workspace, PAGE_TOKENS_MAX * sizeof *encoding.residual);
    survey(&encoding);
    if (find_outliers(&encoding))
        survey(&encoding);
    if (!choose_steps(&encoding))
        return 0;
    double energy = coded_energy(&encoding);
    if (!round_means(&encoding))
        return 0;
    uint8_t *payload = page_write_exact_tokens(source, header, page, &energy);
    size_t front = (size_t)(payload - page), raw = page_raw_bytes(header);
    struct quantise_writer writer;
    size_t length = write_stream(&encoding, workspace, raw - front, energy, &writer);
    if (length == 0 || front + length >= raw)
        return 0;
    rans_encoder_write(&writer.encoder, payload);
    return front + length;
}
