/* The rANS kernels of every table do what the portable ones do, bit for bit. */
#include "tests/unit/test_page_kernels_support.h"

enum { ROWS = PAGE_BLOCK, CASES = 60, SIDE_VALUES = 1000 };

/* Rows of a job; a side row is one row of wide values. */
struct rows {
    bool wide;
    size_t rows, count;
    struct rans_class classes[ROWS];
    struct guarded memory;
    void *values;
};

static size_t rows_bytes(const struct rows *rows) {
    size_t room = (rows->count + 63) / 64 * 64;
    return ((rows->rows - 1) * RANS_ROW_VALUES + room) * (rows->wide ? 2 : 1);
}

static int row_value(const struct rows *rows, const void *values, size_t row, size_t i) {
    size_t at = row * RANS_ROW_VALUES + i;
    return rows->wide ? ((const int16_t *)values)[at] : ((const int8_t *)values)[at];
}

static void set_row_value(struct rows *rows, size_t row, size_t i, int value) {
    size_t at = row * RANS_ROW_VALUES + i;
    if (rows->wide)
        ((int16_t *)rows->values)[at] = (int16_t)value;
    else
        ((int8_t *)rows->values)[at] = (int8_t)value;
}

/* Values about as large as their class is for; one in `rarity` is anything. */
static void fill(struct rows *rows, size_t rarity, uint64_t *random) {
    for (size_t row = 0; row < rows->rows; row++) {
        unsigned most = rows->wide ? RANS_WIDE_BITS : RANS_NARROW_BITS;
        rows->classes[row] =
            (struct rans_class){.table = (uint8_t)random_up_to(random, PAGE_TABLES - 1),
                                .low_bits = (uint8_t)random_up_to(random, most)};
        if (random_bits(random) % 2 == 0)
            rows->classes[row].low_bits = 0;
        unsigned bits = rows->classes[row].low_bits + 3;
        for (size_t i = 0; i < rows->count; i++) {
            int value = (int)(random_bits(random) % (1u << bits)) - (1 << (bits - 1));
            if (random_bits(random) % rarity == 0)
                value = (int)(random_bits(random) & 0xffff);
            set_row_value(rows, row, i, value);
        }
    }
}

static struct rows rows_new(bool wide, size_t row_count, size_t count, size_t rarity,
                            uint64_t *random) {
    struct rows rows = {.wide = wide, .rows = row_count, .count = count};
    rows.values = guarded_bytes(&rows.memory, rows_bytes(&rows), true);
    fill(&rows, rarity, random);
    return rows;
}

static struct rows random_rows(bool wide, int i, uint64_t *random) {
    size_t rarity = i % 3 == 0 ? 1 : i % 3 == 1 ? 20 : 1000;
    size_t count = i % 2 == 0 ? RANS_ROW_VALUES : 1 + random_up_to(random, RANS_ROW_VALUES - 1);
    if (wide && i % 5 == 0)
        return rows_new(true, 1, 1 + random_up_to(random, SIDE_VALUES - 1), rarity, random);
    return rows_new(wide, 1 + random_up_to(random, ROWS - 1), count, rarity, random);
}

/* ---- encoding ---- */

struct stream {
    struct rans_encoder encoder;
    size_t bytes;
    uint8_t *data;
};

/* One or two jobs in one call. */
static void encode_streams(const struct page_kernels *kernels, const struct rows *rows,
                           size_t count, struct stream *streams) {
    struct guarded memory[2];
    struct rans_encode_job jobs[2];
    for (size_t i = 0; i < count; i++) {
        struct rans_bounds bounds = {.bytes = 8 * rows[i].rows * rows[i].count + 4096,
                                     .rows = rows[i].rows,
                                     .count = rows[i].count,
                                     .wide = rows[i].wide};
        uint8_t *section = guarded_bytes(&memory[i], rans_encoder_memory_bytes(&bounds), true);
        struct rans_encoder *encoder = &streams[i].encoder;
        rans_encoder_init(encoder, section, &bounds);
        ck_assert(rans_encoder_has_room(encoder, rows[i].classes, rows[i].rows, rows[i].count,
                                        rows[i].wide));
        jobs[i] = (struct rans_encode_job){encoder, rows[i].classes, rows[i].rows, rows[i].count,
                                           rows[i].values};
    }
    (rows->wide ? kernels->rans_encode16 : kernels->rans_encode8)(jobs, count);
    for (size_t i = 0; i < count; i++) {
        streams[i].bytes = rans_encoder_bytes(&streams[i].encoder);
        streams[i].data = keep(streams[i].bytes);
        rans_encoder_write(&streams[i].encoder, streams[i].data);
        guarded_free(&memory[i]);
    }
}

static struct stream encode_rows(const struct page_kernels *kernels, const struct rows *rows) {
    struct stream stream;
    encode_streams(kernels, rows, 1, &stream);
    return stream;
}

static void check_stream(const struct stream *got, const struct stream *wanted) {
    ck_assert_uint_eq(got->bytes, wanted->bytes);
    ck_assert_mem_eq(got->data, wanted->data, wanted->bytes);
}

static void check_encoding(int i, bool wide) {
    const struct page_kernels *kernels = table_of(i);
    uint64_t random = (uint64_t)i + 1;
    if (kernels == NULL)
        return;
    struct rows rows = random_rows(wide, i / TABLES, &random);
    struct stream wanted = encode_rows(&page_kernels_portable, &rows),
                  got = encode_rows(kernels, &rows);
    check_stream(&got, &wanted);
    guarded_free(&rows.memory);
}

START_TEST(rows_of_int8_are_encoded_to_the_same_bytes) {
    check_encoding(_i, false);
}
END_TEST

START_TEST(rows_of_int16_are_encoded_to_the_same_bytes) {
    check_encoding(_i, true);
}
END_TEST

/* Both of the same rows and count, or not. */
static void random_pair(bool wide, int i, uint64_t *random, struct rows rows[2]) {
    for (int k = 0; k < 2; k++)
        rows[k] = random_rows(wide, i, random);
    if (i % 3 == 0)
        return;
    guarded_free(&rows[1].memory);
    rows[1] =
        rows_new(wide, rows[0].rows, i % 3 == 1 ? rows[0].count : RANS_ROW_VALUES, 20, random);
}

START_TEST(two_streams_at_once_are_encoded_as_one_by_one) {
    const struct page_kernels *kernels = table_of(_i);
    uint64_t random = (uint64_t)_i + 1;
    if (kernels == NULL)
        return;
    struct rows rows[2];
    struct stream streams[2];
    random_pair(_i / TABLES % 4 == 3, _i / TABLES, &random, rows);
    encode_streams(kernels, rows, 2, streams);
    for (int k = 0; k < 2; k++) {
        struct stream wanted = encode_rows(&page_kernels_portable, &rows[k]);
        check_stream(&streams[k], &wanted);
        guarded_free(&rows[k].memory);
    }
}
END_TEST

/* ---- decoding ---- */

/* A stream at the end of what can be read, and room for its rows. */
struct decoding {
    const struct rows *rows;
    struct guarded stream, memory;
    struct rans_decoder decoder;
    void *values;
};

static void decoding_init(struct decoding *decoding, const struct rows *rows,
                          const struct stream *stream) {
    decoding->rows = rows;
    memcpy(guarded_bytes(&decoding->stream, stream->bytes, false), stream->data, stream->bytes);
    decoding->values = guarded_bytes(&decoding->memory, rows_bytes(rows), true);
    struct rans_decode_model *models = aligned_alloc(64, PAGE_TABLES * sizeof *models);
    ck_assert(rans_decoder_init(&decoding->decoder, decoding->stream.data, stream->bytes, models));
}

static void decoding_deinit(struct decoding *decoding) {
    free(decoding->decoder.models);
    guarded_free(&decoding->stream);
    guarded_free(&decoding->memory);
}

static struct rans_decode_job job_of(struct decoding *decoding) {
    const struct rows *rows = decoding->rows;
    return (struct rans_decode_job){&decoding->decoder, rows->classes, rows->rows, rows->count,
                                    decoding->values};
}

static void check_values(const struct decoding *decoding) {
    const struct rows *rows = decoding->rows;
    for (size_t row = 0; row < rows->rows; row++)
        for (size_t i = 0; i < rows->count; i++)
            ck_assert_int_eq(row_value(rows, decoding->values, row, i),
                             row_value(rows, rows->values, row, i));
    ck_assert(rans_decoder_done(&decoding->decoder));
}

static void check_decoding(int i, bool wide) {
    const struct page_kernels *kernels = table_of(i);
    uint64_t random = (uint64_t)i + 1;
    if (kernels == NULL)
        return;
    struct rows rows = random_rows(wide, i / TABLES, &random);
    struct stream stream = encode_rows(&page_kernels_portable, &rows);
    struct decoding decoding;
    decoding_init(&decoding, &rows, &stream);
    struct rans_decode_job job = job_of(&decoding);
    ck_assert((wide ? kernels->rans_decode16 : kernels->rans_decode8)(&job, 1));
    check_values(&decoding);
    decoding_deinit(&decoding);
    guarded_free(&rows.memory);
}

START_TEST(rows_of_int8_are_decoded_to_the_values_encoded) {
    check_decoding(_i, false);
}
END_TEST

START_TEST(rows_of_int16_are_decoded_to_the_values_encoded) {
    check_decoding(_i, true);
}
END_TEST

START_TEST(two_streams_at_once_are_decoded_as_one_by_one) {
    const struct page_kernels *kernels = table_of(_i);
    uint64_t random = (uint64_t)_i + 1;
    if (kernels == NULL)
        return;
    int i = _i / TABLES;
    bool wide = i % 4 == 3;
    struct rows rows[2];
    random_pair(wide, i, &random, rows);
    struct decoding decodings[2];
    struct rans_decode_job jobs[2];
    for (int k = 0; k < 2; k++) {
        struct stream stream = encode_rows(&page_kernels_portable, &rows[k]);
        decoding_init(&decodings[k], &rows[k], &stream);
        jobs[k] = job_of(&decodings[k]);
    }
    ck_assert((wide ? kernels->rans_decode16 : kernels->rans_decode8)(jobs, 2));
    for (int k = 0; k < 2; k++) {
        check_values(&decodings[k]);
        decoding_deinit(&decodings[k]);
        guarded_free(&rows[k].memory);
    }
}
END_TEST

/* ---- decoding while tiles are dequantised ---- */

/* A tile on its way to values, and room for these that ends at a page that cannot be touched. */
struct stored {
    struct guarded integers, values;
    float mean[PAGE_BLOCK], steps[RANS_ROW_VALUES];
    void *rows[RANS_ROW_VALUES];
    struct page_tile tile;
    size_t bytes;
};

/* Steps of eight digits; some so large that values leave float16. Streaming to whole cache lines
 * and to where none begins. */
static void stored_init(struct stored *stored, int i, enum page_dtype dtype, uint64_t *random) {
    size_t token_bytes = PAGE_BLOCK * page_value_bytes(dtype);
    size_t stride = token_bytes + (i % 2 == 0 ? 64 : random_up_to(random, 50));
    size_t offset = i % 2 == 0 ? 64 : random_up_to(random, 300);
    int8_t *q = guarded_bytes(&stored->integers, PAGE_BLOCK * RANS_ROW_VALUES, true);
    for (size_t k = 0; k < PAGE_BLOCK * RANS_ROW_VALUES; k++)
        q[k] = (int8_t)random_bits(random);
    for (size_t c = 0; c < PAGE_BLOCK; c++)
        stored->mean[c] = (float)random_normal(random);
    for (size_t t = 0; t < RANS_ROW_VALUES; t++)
        stored->steps[t] = (float)(128 + random_up_to(random, 127)) * (i % 7 == 6 ? 8 : 0x1p-12f);
    stored->bytes = offset + (RANS_ROW_VALUES - 1) * stride + token_bytes;
    uint8_t *values = guarded_bytes(&stored->values, stored->bytes, i % 2 == 0);
    for (size_t t = 0; t < RANS_ROW_VALUES; t++)
        stored->rows[t] = values + t * stride;
    size_t first = i % 3 == 2 ? random_up_to(random, RANS_ROW_VALUES - 1) : 0;
    size_t last =
        i % 3 == 0 ? RANS_ROW_VALUES : first + random_up_to(random, RANS_ROW_VALUES - first);
    stored->tile = (struct page_tile){.q = q,
                                      .mean = stored->mean,
                                      .steps = stored->steps,
                                      .phase = i % 4 == 3 ? -0.25f : 0,
                                      .out = {.rows = stored->rows,
                                              .offset_bytes = offset,
                                              .first = first,
                                              .last = last,
                                              .channels = PAGE_BLOCK,
                                              .streaming = i % 5 < 2}};
}

/* What the portable kernel makes of the same tile. */
static void check_stored(const struct stored *stored, enum page_dtype dtype) {
    uint8_t *got = keep(stored->bytes);
    const struct page_tile *tile = &stored->tile;
    memcpy(got, stored->values.data, stored->bytes);
    memset(stored->values.data, 0xa5, stored->bytes);
    page_kernels_portable.dequantise8[dtype](tile->q, tile->mean, tile->steps, tile->phase,
                                             &tile->out);
    ck_assert_mem_eq(got, stored->values.data, stored->bytes);
}

static void stored_deinit(struct stored *stored) {
    guarded_free(&stored->integers);
    guarded_free(&stored->values);
}

START_TEST(streams_are_decoded_and_tiles_dequantised_at_once_as_one_after_the_other) {
    const struct page_kernels *kernels = table_of(_i);
    int i = _i / TABLES;
    enum page_dtype dtype = (enum page_dtype)(PAGE_F16 + i / 3 % 3);
    uint64_t random = (uint64_t)_i + 1;
    if (kernels == NULL || kernels->overlap[dtype] == NULL)
        return;
    size_t count = i % 3 == 0 ? 1 : 2;
    struct rows rows[2];
    struct decoding decodings[2];
    struct stored stored[2];
    struct rans_decode_job jobs[2];
    struct page_tile tiles[2];
    for (size_t k = 0; k < count; k++) {
        size_t values =
            i % 8 < 5 ? RANS_ROW_VALUES : 1 + random_up_to(&random, RANS_ROW_VALUES - 1);
        rows[k] = rows_new(false, ROWS, values, i % 4 == 0 ? 20 : 1000, &random);
        struct stream stream = encode_rows(&page_kernels_portable, &rows[k]);
        decoding_init(&decodings[k], &rows[k], &stream);
        jobs[k] = job_of(&decodings[k]);
        stored_init(&stored[k], i + (int)k, dtype, &random);
        tiles[k] = stored[k].tile;
    }
    ck_assert(kernels->overlap[dtype](jobs, tiles, count));
    for (size_t k = 0; k < count; k++) {
        check_values(&decodings[k]);
        check_stored(&stored[k], dtype);
        decoding_deinit(&decodings[k]);
        stored_deinit(&stored[k]);
        guarded_free(&rows[k].memory);
    }
}
END_TEST

/* ---- damage ---- */

static bool decodes(const struct page_kernels *kernels, const struct rows *rows,
                    const struct stream *stream) {
    struct decoding decoding;
    decoding_init(&decoding, rows, stream);
    struct rans_decode_job job = job_of(&decoding);
    bool whole = (rows->wide ? kernels->rans_decode16 : kernels->rans_decode8)(&job, 1) &&
                 rans_decoder_done(&decoding.decoder);
    decoding_deinit(&decoding);
    return whole;
}

/* The header's three sizes and the body are not what the encoder wrote. */
START_TEST(a_damaged_stream_is_read_within_its_bounds_and_judged_alike) {
    const struct page_kernels *kernels = table_of(_i);
    uint64_t random = (uint64_t)_i + 1;
    if (kernels == NULL)
        return;
    int i = _i / TABLES;
    struct rows rows = random_rows(i % 2 == 1, i / 2, &random);
    struct stream stream = encode_rows(&page_kernels_portable, &rows);
    size_t body = stream.bytes - RANS_STREAM_HEADER_BYTES, refill, escape;
    for (int change = 0; change < 20; change++) {
        refill = random_up_to(&random, body);
        escape = random_up_to(&random, change % 2 == 0 ? 0 : body - refill);
        uint32_t sizes[2] = {(uint32_t)refill, (uint32_t)escape};
        if (change > 3)
            memcpy(stream.data + 2 * RANS_LANES, sizes, sizeof sizes);
        size_t at = random_up_to(&random, stream.bytes - 1);
        if (at >= RANS_STREAM_HEADER_BYTES || at % 2 == 0) /* states stay above 255 */
            stream.data[at < 2 * RANS_LANES || at >= RANS_STREAM_HEADER_BYTES ? at : 0] ^= 0x24;
        ck_assert_int_eq(decodes(kernels, &rows, &stream),
                         decodes(&page_kernels_portable, &rows, &stream));
    }
    guarded_free(&rows.memory);
}
END_TEST

START_TEST(a_row_costs_the_same) {
    const struct page_kernels *kernels = table_of(_i);
    uint64_t random = (uint64_t)_i + 1;
    if (kernels == NULL)
        return;
    struct rows rows = rows_new(true, 1, 1 + random_up_to(&random, SIDE_VALUES - 1), 3, &random);
    uint16_t cost[PAGE_SYMBOLS];
    for (int symbol = 0; symbol < PAGE_SYMBOLS; symbol++)
        cost[symbol] = (uint16_t)random_bits(&random);
    for (unsigned low_bits = 0; low_bits <= RANS_WIDE_BITS; low_bits++)
        ck_assert_uint_eq(kernels->row_cost(rows.values, rows.count, low_bits, cost),
                          page_kernels_portable.row_cost(rows.values, rows.count, low_bits, cost));
    guarded_free(&rows.memory);
}
END_TEST

int main(void) {
    TCase *tests = tcase_create("rans");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, rows_of_int8_are_encoded_to_the_same_bytes, 0, CASES * TABLES);
    tcase_add_loop_test(tests, rows_of_int16_are_encoded_to_the_same_bytes, 0, CASES * TABLES);
    tcase_add_loop_test(tests, two_streams_at_once_are_encoded_as_one_by_one, 0, CASES * TABLES);
    tcase_add_loop_test(tests, rows_of_int8_are_decoded_to_the_values_encoded, 0, CASES * TABLES);
    tcase_add_loop_test(tests, rows_of_int16_are_decoded_to_the_values_encoded, 0, CASES * TABLES);
    tcase_add_loop_test(tests, two_streams_at_once_are_decoded_as_one_by_one, 0, CASES * TABLES);
    tcase_add_loop_test(tests,
                        streams_are_decoded_and_tiles_dequantised_at_once_as_one_after_the_other, 0,
                        2 * CASES * TABLES);
    tcase_add_loop_test(tests, a_damaged_stream_is_read_within_its_bounds_and_judged_alike, 0,
                        CASES * TABLES);
    tcase_add_loop_test(tests, a_row_costs_the_same, 0, CASES * TABLES);
    Suite *suite = suite_create("page_rans_kernels");
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
