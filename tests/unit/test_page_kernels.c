/* The kernels over tiles of values of every table do what the portable ones do, bit for bit. */
#include "proto/page/convert.h"
#include "tests/unit/test_page_kernels_support.h"

#include <math.h>

enum { CASES = 48, TOKENS = PAGE_TOKENS_MAX, TILE = PAGE_BLOCK * RANS_ROW_VALUES };

/* A tile's numbers, its rows in memory that ends behind the last one. */
struct tile {
    enum page_dtype dtype;
    size_t tokens, channels, stride_bytes, offset_bytes, bytes;
    struct guarded memory;
    const void *rows[TOKENS];
    float mean[PAGE_BLOCK];
    float steps[TOKENS], fine[TOKENS];
};

static size_t row_bytes(const struct tile *tile) {
    return tile->channels * (tile->dtype == PAGE_F32 ? 4 : 2);
}

static float eight_digits(float x) {
    return bits_float(bfloat_bits(x) & 0xffff0000u);
}

/* `size` is about what values are, `spread` of them against their steps. */
static void fill(struct tile *tile, double size, double spread, uint64_t *random) {
    for (size_t t = 0; t < tile->tokens; t++)
        for (size_t c = 0; c < tile->channels; c++)
            set_value(tile->dtype, (uint8_t *)tile->rows[t] + tile->offset_bytes, c,
                      size * random_normal(random));
    for (size_t c = 0; c < tile->channels; c++)
        tile->mean[c] = (float)(size * random_normal(random) * (double)(c % 3) / 2);
    for (size_t t = 0; t < tile->tokens; t++) {
        float step = eight_digits((float)(size / spread * (1 + random_unit(random))));
        tile->steps[t] = step;
        tile->fine[t] = 256 * (1 / step);
    }
}

/* Large ones, and such that squares are below the least normal number, where they are rounded. */
static double size_of(enum page_dtype dtype, int i) {
    double tiny = dtype == PAGE_F16 ? 0x1p-20 : 0x1p-74;
    return i % 5 == 4 ? 30000 : i % 5 == 3 ? tiny : 1;
}

/* Whole tiles and odd ones, rows at any address. */
static struct tile tile_new(enum page_dtype dtype, int i, uint64_t *random) {
    struct tile tile = {.dtype = dtype, .tokens = TOKENS, .channels = PAGE_BLOCK};
    if (i % 3 == 1)
        tile.tokens = 1 + random_up_to(random, TOKENS - 1);
    if (i % 3 == 2 || i % 6 == 1)
        tile.channels = 1 + random_up_to(random, PAGE_BLOCK - 1);
    tile.offset_bytes = i % 2 == 0 ? 64 : random_up_to(random, 300);
    tile.stride_bytes = row_bytes(&tile) + (i % 2 == 0 ? 64 : random_up_to(random, 50));
    tile.bytes = tile.offset_bytes + (tile.tokens - 1) * tile.stride_bytes + row_bytes(&tile);
    uint8_t *first = guarded_bytes(&tile.memory, tile.bytes, i % 2 == 0);
    for (size_t t = 0; t < tile.tokens; t++)
        tile.rows[t] = first + t * tile.stride_bytes;
    fill(&tile, size_of(dtype, i), i % 4 == 3 ? 100 : 20, random);
    return tile;
}

static void tile_free(struct tile *tile) {
    guarded_free(&tile->memory);
}

static struct page_source_rows source_of(const struct tile *tile) {
    return (struct page_source_rows){tile->rows, tile->offset_bytes, tile->tokens, tile->channels};
}

static enum page_dtype dtype_of(int i) {
    return all_dtypes[i / TABLES % DTYPE_COUNT];
}

static int case_of(int i) {
    return i / TABLES / DTYPE_COUNT;
}

START_TEST(sums_are_the_same) {
    const struct page_kernels *kernels = table_of(_i);
    uint64_t random = (uint64_t)_i + 1;
    if (kernels == NULL)
        return;
    struct tile tile = tile_new(dtype_of(_i), case_of(_i), &random);
    struct page_source_rows in = source_of(&tile);
    float got[PAGE_BLOCK] = {1, 2, 3}, wanted[PAGE_BLOCK] = {1, 2, 3};
    kernels->sum[tile.dtype](&in, got);
    page_kernels_portable.sum[tile.dtype](&in, wanted);
    ck_assert_mem_eq(got, wanted, sizeof got);
    const uint8_t *first = (const uint8_t *)in.rows[0] + in.offset_bytes;
    float got_squares[PAGE_LANES] = {1, 2, 3}, wanted_squares[PAGE_LANES] = {1, 2, 3};
    kernels->squares[tile.dtype](first, tile.channels, got_squares);
    page_kernels_portable.squares[tile.dtype](first, tile.channels, wanted_squares);
    ck_assert_mem_eq(got_squares, wanted_squares, sizeof got_squares);
    static float got_lanes[TOKENS][PAGE_LANES], wanted_lanes[TOKENS][PAGE_LANES];
    for (int twice = 0; twice < 2; twice++) { /* the second time onto what is there */
        kernels->deviation[tile.dtype](&in, tile.mean, got_lanes);
        page_kernels_portable.deviation[tile.dtype](&in, tile.mean, wanted_lanes);
    }
    ck_assert_mem_eq(got_lanes, wanted_lanes, sizeof got_lanes);
    tile_free(&tile);
}
END_TEST

/* ---- quantising ---- */

static uint32_t residual_of(const struct page_sums *sums, size_t token) {
    uint32_t sum = 0;
    for (size_t lane = 0; lane < PAGE_LANES; lane++)
        sum += sums->residual[token][lane];
    return sum;
}

static void check_quantised(const struct tile *tile, bool wide, const void *got, const void *wanted,
                            const struct page_sums *sums, const struct page_sums *wanted_sums) {
    size_t value_bytes = wide ? 2 : 1, row = RANS_ROW_VALUES * value_bytes;
    for (size_t c = 0; c < tile->channels; c++) {
        ck_assert_mem_eq((const uint8_t *)got + c * row, (const uint8_t *)wanted + c * row,
                         tile->tokens * value_bytes);
        ck_assert_uint_eq(sums->magnitude[c], wanted_sums->magnitude[c]);
    }
    for (size_t t = 0; t < tile->tokens; t++)
        ck_assert_uint_eq(residual_of(sums, t), residual_of(wanted_sums, t));
}

static uint32_t quantise(const struct page_kernels *kernels, const struct tile *tile, bool wide,
                         void *q, struct page_sums *sums) {
    struct page_source_rows in = source_of(tile);
    memset(sums->magnitude, 0xa5, sizeof sums->magnitude);
    return wide ? kernels->quantise16[tile->dtype](&in, tile->mean, tile->fine, q, sums)
                : kernels->quantise8[tile->dtype](&in, tile->mean, tile->fine, q, sums);
}

START_TEST(values_are_quantised_alike) {
    const struct page_kernels *kernels = table_of(_i);
    uint64_t random = (uint64_t)_i + 1;
    if (kernels == NULL)
        return;
    struct tile tile = tile_new(dtype_of(_i), case_of(_i), &random);
    for (int wide = 0; wide < 2; wide++) {
        struct guarded got, wanted;
        size_t bytes = tile.channels * RANS_ROW_VALUES * (wide ? 2 : 1);
        guarded_bytes(&got, bytes, true);
        guarded_bytes(&wanted, bytes, true);
        uint32_t residual[2][TOKENS][PAGE_LANES] = {0};
        residual[0][5][3] = residual[1][5][0] = 77; /* sums are onto what is there */
        struct page_sums sums = {.residual = residual[0]}, wanted_sums = {.residual = residual[1]};
        uint32_t outside = quantise(kernels, &tile, wide, got.data, &sums);
        uint32_t wanted_outside =
            quantise(&page_kernels_portable, &tile, wide, wanted.data, &wanted_sums);
        ck_assert_int_eq(outside == 0, wanted_outside == 0);
        if (wanted_outside == 0)
            check_quantised(&tile, wide, got.data, wanted.data, &sums, &wanted_sums);
        guarded_free(&got);
        guarded_free(&wanted);
    }
    tile_free(&tile);
}
END_TEST

/* The last integers that fit, and the next ones, halfway cases on both sides; and far ones. */
START_TEST(the_ends_of_an_integers_range_are_judged_alike) {
    static const float offsets[] = {-2,      -1.5f,   -1,      -0.75f,  -0.501f, -0.5f,   -0.499f,
                                    -0.25f,  0,       0.25f,   0.5f,    0.75f,   1,       200,
                                    0x1p14f, 0x1p15f, 0x1p16f, 0x1p22f, 0x1p23f, 0x1p31f, 0x1p127f};
    const struct page_kernels *kernels = table_of(_i);
    uint64_t random = (uint64_t)_i + 1;
    if (kernels == NULL)
        return;
    struct tile tile = tile_new(PAGE_F32, 0, &random);
    memset(tile.mean, 0, sizeof tile.mean);
    static _Alignas(64) int16_t q[TILE];
    for (int wide = 0; wide < 2; wide++)
        for (int side = -1; side <= 1; side += 2)
            for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
                float x = (float)side * (wide ? 32768 : 128) + offsets[i];
                fill(&tile, 0, 1, &random);
                for (size_t t = 0; t < tile.tokens; t++)
                    tile.fine[t] = 256;
                size_t t = random_up_to(&random, tile.tokens - 1);
                set_value(PAGE_F32, (uint8_t *)tile.rows[t] + tile.offset_bytes,
                          random_up_to(&random, tile.channels - 1), x);
                uint32_t residual[TOKENS][PAGE_LANES] = {0};
                struct page_sums sums = {.residual = residual}, wanted = {.residual = residual};
                ck_assert_int_eq(quantise(kernels, &tile, wide, q, &sums) == 0,
                                 quantise(&page_kernels_portable, &tile, wide, q, &wanted) == 0);
            }
    tile_free(&tile);
}
END_TEST

START_TEST(a_value_that_is_no_number_does_not_fit) {
    static const float values[] = {INFINITY, -INFINITY, NAN};
    const struct page_kernels *kernels = table_of(_i);
    uint64_t random = (uint64_t)_i + 1;
    if (kernels == NULL)
        return;
    struct tile tile = tile_new(dtype_of(_i), 0, &random);
    static _Alignas(64) int16_t q[TILE];
    for (size_t i = 0; i < 3; i++) {
        uint32_t residual[TOKENS][PAGE_LANES] = {0};
        struct page_sums sums = {.residual = residual};
        fill(&tile, 1, 20, &random);
        ck_assert_uint_eq(quantise(kernels, &tile, true, q, &sums), 0);
        void *row = (uint8_t *)tile.rows[77] + tile.offset_bytes;
        uint32_t bits = bits_of(values[i]);
        uint16_t half = tile.dtype == PAGE_BF16 ? (uint16_t)(bits >> 16)
                        : i == 2                ? 0x7e00
                                                : (uint16_t)(i == 1 ? 0xfc00 : 0x7c00);
        memcpy((uint8_t *)row + 33 * (tile.dtype == PAGE_F32 ? 4 : 2),
               tile.dtype == PAGE_F32 ? (void *)&bits : (void *)&half,
               tile.dtype == PAGE_F32 ? 4 : 2);
        ck_assert_uint_ne(quantise(kernels, &tile, false, q, &sums), 0);
        ck_assert_uint_ne(quantise(kernels, &tile, true, q, &sums), 0);
    }
    tile_free(&tile);
}
END_TEST

/* ---- dequantising ---- */

static void random_integers(void *q, bool wide, size_t count, uint64_t *random) {
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = random_bits(random);
        if (wide)
            ((int16_t *)q)[i] = (int16_t)(bits >> bits % 16);
        else
            ((int8_t *)q)[i] = (int8_t)bits;
    }
}

static void dequantise(const struct page_kernels *kernels, const struct tile *tile, bool wide,
                       const void *q, float phase, const struct page_target_rows *out) {
    if (wide)
        kernels->dequantise16[tile->dtype](q, tile->mean, tile->steps, phase, out);
    else
        kernels->dequantise8[tile->dtype](q, tile->mean, tile->steps, phase, out);
}

/* Into the rows of the tile; what lies between them stays. */
static void dequantise_to(const struct page_kernels *kernels, const struct tile *tile, bool wide,
                          const void *q, float phase, size_t first, size_t last, bool streaming,
                          uint8_t *copy) {
    void *rows[TOKENS];
    memset(tile->memory.data, 0x5a, tile->bytes);
    for (size_t t = 0; t < tile->tokens; t++)
        rows[t] = tile->memory.data + t * tile->stride_bytes;
    struct page_target_rows out = {.rows = rows,
                                   .offset_bytes = tile->offset_bytes,
                                   .first = first,
                                   .last = last,
                                   .channels = tile->channels,
                                   .streaming = streaming};
    dequantise(kernels, tile, wide, q, phase, &out);
    memcpy(copy, tile->memory.data, tile->bytes);
}

START_TEST(integers_are_dequantised_alike) {
    static uint8_t got[1 << 17], wanted[1 << 17];
    const struct page_kernels *kernels = table_of(_i);
    uint64_t random = (uint64_t)_i + 1;
    if (kernels == NULL)
        return;
    int i = case_of(_i);
    struct tile tile = tile_new(dtype_of(_i), i, &random);
    bool wide = i % 4 == 3;
    struct guarded memory;
    size_t count = tile.channels * RANS_ROW_VALUES;
    void *q = guarded_bytes(&memory, count * (wide ? 2 : 1), true);
    random_integers(q, wide, count, &random);
    float phase = i % 2 == 0 ? 0 : (float)((int)random_up_to(&random, 64) - 32) / 128;
    size_t first = i % 5 == 0 ? 0 : random_up_to(&random, tile.tokens);
    size_t last = i % 5 == 0 ? tile.tokens : first + random_up_to(&random, tile.tokens - first);
    for (int streaming = 0; streaming < 2; streaming++) {
        dequantise_to(&page_kernels_portable, &tile, wide, q, phase, first, last, false, wanted);
        dequantise_to(kernels, &tile, wide, q, phase, first, last, streaming, got);
        ck_assert_mem_eq(got, wanted, sizeof got);
    }
    guarded_free(&memory);
    tile_free(&tile);
}
END_TEST

START_TEST(values_beyond_the_dtype_become_its_largest) {
    const struct page_kernels *kernels = table_of(_i);
    uint64_t random = (uint64_t)_i + 1;
    if (kernels == NULL)
        return;
    struct tile tile = tile_new(dtype_of(_i), 0, &random);
    static _Alignas(64) int8_t q[TILE];
    static uint8_t got[1 << 17], wanted[1 << 17];
    random_integers(q, false, TILE, &random);
    for (int huge = 0; huge < 2; huge++) {
        bool small = tile.dtype == PAGE_F16 && !huge;
        for (size_t t = 0; t < tile.tokens; t++)
            tile.steps[t] = eight_digits(small ? 800 : 0x1p117f);
        for (size_t c = 0; c < tile.channels; c++)
            tile.mean[c] = (float)((int)(c % 5) - 2) * (small ? 16000.0f : 0x1p126f);
        if (huge) /* of a damaged page */
            tile.mean[1] = INFINITY, tile.mean[2] = -INFINITY, tile.mean[3] = NAN;
        dequantise_to(&page_kernels_portable, &tile, false, q, 0, 0, tile.tokens, false, wanted);
        dequantise_to(kernels, &tile, false, q, 0, 0, tile.tokens, false, got);
        ck_assert_mem_eq(got, wanted, sizeof got);
    }
    tile_free(&tile);
}
END_TEST

/* ---- ageing ---- */

START_TEST(integers_are_halved_alike) {
    const struct page_kernels *kernels = table_of(_i);
    uint64_t random = (uint64_t)_i + 1;
    if (kernels == NULL)
        return;
    size_t channels = 1 + random_up_to(&random, PAGE_BLOCK - 1);
    size_t tokens = _i % 2 ? TOKENS : 1 + random_up_to(&random, TOKENS - 1);
    for (int wide = 0; wide < 2; wide++)
        for (unsigned shift = 1; shift <= 5; shift++) {
            struct guarded got, wanted;
            size_t count = channels * RANS_ROW_VALUES, bytes = count * (wide ? 2 : 1);
            random_integers(guarded_bytes(&got, bytes, true), wide, count, &random);
            memcpy(guarded_bytes(&wanted, bytes, true), got.data, bytes);
            uint32_t sums[PAGE_BLOCK] = {0}, wanted_sums[PAGE_BLOCK] = {0};
            int up = (int)random_up_to(&random, (1u << shift) - 1);
            if (wide) {
                kernels->halve16((int16_t *)got.data, channels, tokens, shift, up, sums);
                page_kernels_portable.halve16((int16_t *)wanted.data, channels, tokens, shift, up,
                                              wanted_sums);
            } else {
                kernels->halve8((int8_t *)got.data, channels, tokens, shift, up, sums);
                page_kernels_portable.halve8((int8_t *)wanted.data, channels, tokens, shift, up,
                                             wanted_sums);
            }
            for (size_t c = 0; c < channels; c++)
                ck_assert_mem_eq(got.data + c * bytes / channels,
                                 wanted.data + c * bytes / channels, tokens * (wide ? 2 : 1));
            ck_assert_mem_eq(sums, wanted_sums, sizeof sums);
            guarded_free(&got);
            guarded_free(&wanted);
        }
}
END_TEST

/* ---- fast8 ---- */

enum { ROW_VALUES = 600, Q_TOKEN_BYTES = 600 };

/* What q of a tile's channels stand for. */
struct grid {
    float fine[PAGE_BLOCK], offset[PAGE_BLOCK];
};

/* fast8 asks for it. */
static void make_finite(const struct tile *tile) {
    for (size_t t = 0; t < tile->tokens; t++)
        for (size_t c = 0; c < tile->channels; c++) {
            uint8_t *row = (uint8_t *)tile->rows[t] + tile->offset_bytes;
            if (isinf(value_at(tile->dtype, row, c)))
                set_value(tile->dtype, row, c, 60000);
        }
}

/* Grids begin at a channel's least value or below; some end below its largest. */
static void grid_init(struct grid *grid, const struct tile *tile, uint64_t *random) {
    for (size_t c = 0; c < tile->channels; c++) {
        double least = INFINITY, largest = -INFINITY;
        for (size_t t = 0; t < tile->tokens; t++) {
            double x =
                value_at(tile->dtype, (const uint8_t *)tile->rows[t] + tile->offset_bytes, c);
            least = fmin(least, x);
            largest = fmax(largest, x);
        }
        double span = fmax(largest - least, fabs(least) / 100) + 1e-3;
        double scale = span / (200 + (double)random_up_to(random, 100));
        double base = floor(least / scale) - (double)random_up_to(random, 20);
        grid->fine[c] = (float)(256 / scale);
        grid->offset[c] = (float)(256 * base - 128);
    }
}

START_TEST(fast8_encodes_alike) {
    const struct page_kernels *kernels = table_of(_i);
    uint64_t random = (uint64_t)_i + 1;
    if (kernels == NULL)
        return;
    struct tile tile = tile_new(dtype_of(_i), case_of(_i), &random);
    struct page_source_rows in = source_of(&tile);
    make_finite(&tile);
    struct grid numbers;
    grid_init(&numbers, &tile, &random);
    struct page_grid grid = {numbers.fine, numbers.offset};
    struct page_fast8_sums sums, wanted_sums;
    memset(&sums, 0xa5, sizeof sums);
    struct guarded q, wanted_q;
    size_t q_bytes = (tile.tokens - 1) * Q_TOKEN_BYTES + tile.channels;
    guarded_bytes(&q, q_bytes, false);
    guarded_bytes(&wanted_q, q_bytes, false);
    kernels->fast8_encode[tile.dtype](&in, &grid, q.data, Q_TOKEN_BYTES, &sums);
    page_kernels_portable.fast8_encode[tile.dtype](&in, &grid, wanted_q.data, Q_TOKEN_BYTES,
                                                   &wanted_sums);
    ck_assert_mem_eq(q.data, wanted_q.data, q_bytes); /* between tokens too nothing is written */
    ck_assert_mem_eq(sums.energy, wanted_sums.energy, tile.channels * sizeof *sums.energy);
    ck_assert_mem_eq(sums.residual, wanted_sums.residual, tile.channels * sizeof *sums.residual);
    guarded_free(&q);
    guarded_free(&wanted_q);
    tile_free(&tile);
}
END_TEST

/* Rows of any length, some of whose values leave the dtype's range. */
START_TEST(fast8_decodes_alike) {
    const struct page_kernels *kernels = table_of(_i);
    uint64_t random = (uint64_t)_i + 1;
    enum page_dtype dtype = dtype_of(_i);
    if (kernels == NULL)
        return;
    enum { ROWS = 5 };
    size_t channels = case_of(_i) % 2 == 0 ? 512 : 1 + random_up_to(&random, ROW_VALUES - 1);
    size_t row_bytes = channels * (dtype == PAGE_F32 ? 4 : 2);
    static float low[ROW_VALUES], scale[ROW_VALUES];
    bool far = case_of(_i) % 3 == 0;
    for (size_t c = 0; c < channels; c++) {
        scale[c] = eight_digits((float)((far ? (dtype == PAGE_F16 ? 0x1p10 : 0x1p119) : 1) *
                                        (random_unit(&random) + 0.001)));
        low[c] = (float)((int)random_up_to(&random, 400) - 300) * scale[c];
    }
    struct guarded q, rows[ROWS];
    size_t q_bytes = ROWS * channels;
    uint8_t *integers = guarded_bytes(&q, q_bytes, case_of(_i) % 4 == 0);
    for (size_t i = 0; i < q_bytes; i++)
        integers[i] = (uint8_t)random_bits(&random);
    static uint8_t wanted[ROWS][4 * ROW_VALUES];
    void *got_rows[ROWS], *wanted_rows[ROWS];
    for (size_t t = 0; t < ROWS; t++) {
        got_rows[t] = guarded_bytes(&rows[t], row_bytes, case_of(_i) % 4 == 0);
        wanted_rows[t] = wanted[t];
    }
    struct page_target_rows out = {wanted_rows, 0, 1, ROWS, channels, false};
    page_kernels_portable.fast8_decode[dtype](integers, channels, low, scale, &out);
    out.rows = got_rows;
    for (int streaming = 0; streaming < 2; streaming++) {
        out.streaming = streaming;
        kernels->fast8_decode[dtype](integers, channels, low, scale, &out);
        for (size_t t = 1; t < ROWS; t++) {
            ck_assert_mem_eq(got_rows[t], wanted[t], row_bytes);
            memset(got_rows[t], 0x5a, row_bytes);
        }
    }
    for (size_t t = 0; t < ROWS; t++)
        guarded_free(&rows[t]);
    guarded_free(&q);
}
END_TEST

START_TEST(ranges_are_the_same) {
    const struct page_kernels *kernels = table_of(_i);
    uint64_t random = (uint64_t)_i + 1;
    if (kernels == NULL)
        return;
    size_t count = 1 + random_up_to(&random, ROW_VALUES - 1);
    struct guarded memory;
    uint8_t *values = guarded_bytes(&memory, count * 4, false);
    int16_t low16[ROW_VALUES], high16[ROW_VALUES], wanted_low16[ROW_VALUES],
        wanted_high16[ROW_VALUES];
    float low[ROW_VALUES], high[ROW_VALUES], wanted_low[ROW_VALUES], wanted_high[ROW_VALUES];
    for (size_t i = 0; i < count; i++) {
        low16[i] = wanted_low16[i] = INT16_MAX;
        high16[i] = wanted_high16[i] = INT16_MIN;
        low[i] = wanted_low[i] = high[i] = wanted_high[i] = 0;
    }
    for (int rows = 0; rows < 5; rows++) {
        for (size_t i = 0; i < count; i++)
            set_value(PAGE_F32, values, i, random_normal(&random));
        kernels->range32((const float *)(const void *)values, count, low, high);
        page_kernels_portable.range32((const float *)(const void *)values, count, wanted_low,
                                      wanted_high);
        const uint8_t *end = values + 2 * count; /* any 16 bits */
        const void *halves[] = {end, values, end - 2, values + 1, end - 1, values + 2};
        struct page_source_rows in = {halves, 0, 1 + (size_t)rows, count};
        kernels->range16(&in, low16, high16);
        page_kernels_portable.range16(&in, wanted_low16, wanted_high16);
    }
    ck_assert_mem_eq(low, wanted_low, count * sizeof *low);
    ck_assert_mem_eq(high, wanted_high, count * sizeof *high);
    ck_assert_mem_eq(low16, wanted_low16, count * sizeof *low16);
    ck_assert_mem_eq(high16, wanted_high16, count * sizeof *high16);
    guarded_free(&memory);
}
END_TEST

/* The portable one too: what a half is worth is written here once more. */
static uint32_t widened(uint32_t half) {
    uint32_t exponent = half >> 10 & 31, mantissa = half & 1023, sign = (half & 0x8000) << 16;
    if (exponent == 31)
        return sign | 0x7f800000u | mantissa << 13 | (mantissa ? 0x400000u : 0);
    double magnitude =
        exponent ? ldexp(1024.0 + mantissa, (int)exponent - 25) : ldexp(mantissa, -24);
    return sign | float_bits((float)magnitude);
}

START_TEST(halves_are_widened_alike) {
    const struct page_kernels *kernels = _i < TABLES ? table_of(_i) : &page_kernels_portable;
    if (kernels == NULL)
        return;
    enum { HALVES = 1 << 16 };
    static uint16_t halves[HALVES];
    static uint32_t floats[HALVES];
    for (uint32_t half = 0; half < HALVES; half++)
        halves[half] = (uint16_t)half;
    kernels->widen(halves, floats, HALVES);
    for (uint32_t half = 0; half < HALVES; half++)
        ck_assert_uint_eq(floats[half], widened(half));
}
END_TEST

START_TEST(any_number_of_halves_is_widened_within_its_bounds) {
    const struct page_kernels *kernels = _i < TABLES ? table_of(_i) : &page_kernels_portable;
    if (kernels == NULL)
        return;
    for (size_t count = 1; count < 70; count++) {
        struct guarded in, out;
        uint16_t *halves = guarded_bytes(&in, count * sizeof *halves, false);
        uint32_t *floats = guarded_bytes(&out, count * sizeof *floats, false);
        for (size_t i = 0; i < count; i++)
            halves[i] = (uint16_t)(0x3c00 + i);
        kernels->widen(halves, floats, count);
        for (size_t i = 0; i < count; i++)
            ck_assert_uint_eq(floats[i], widened(halves[i]));
        guarded_free(&in);
        guarded_free(&out);
    }
}
END_TEST

int main(void) {
    TCase *tests = tcase_create("kernels");
    int all = CASES * TABLES * DTYPE_COUNT;
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, sums_are_the_same, 0, all);
    tcase_add_loop_test(tests, values_are_quantised_alike, 0, all);
    tcase_add_loop_test(tests, the_ends_of_an_integers_range_are_judged_alike, 0, TABLES);
    tcase_add_loop_test(tests, a_value_that_is_no_number_does_not_fit, 0, TABLES * DTYPE_COUNT);
    tcase_add_loop_test(tests, integers_are_dequantised_alike, 0, all);
    tcase_add_loop_test(tests, values_beyond_the_dtype_become_its_largest, 0, TABLES * DTYPE_COUNT);
    tcase_add_loop_test(tests, integers_are_halved_alike, 0, 10 * TABLES);
    tcase_add_loop_test(tests, fast8_encodes_alike, 0, all);
    tcase_add_loop_test(tests, fast8_decodes_alike, 0, all);
    tcase_add_loop_test(tests, ranges_are_the_same, 0, 20 * TABLES);
    tcase_add_loop_test(tests, halves_are_widened_alike, 0, TABLES + 1);
    tcase_add_loop_test(tests, any_number_of_halves_is_widened_within_its_bounds, 0, TABLES + 1);
    Suite *suite = suite_create("page, kernels");
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
