/* Exact's kernels against FORMAT.md's words, bit by bit, in every table that this machine runs. */
#include "proto/page/kernels.h"
#include "tests/unit/test_page_support.h"

static const char *const table_names[] = {"portable", "x86_64_v3", "avx2", "avx512"};
static const uint32_t channel_counts[] = {1, 7, 8, 9, 31, 32, 40, 63, 64};
static const uint32_t token_counts[] = {1, 2, 15, 16, 17, 64, 100, 128};
enum {
    TABLES = 4,
    COUNTS = 9,
    REST_BYTES = 2 * 64 + 56 /* of a token, at most */,
    READ_BEHIND = 64
};

/* A number's parts, and where FORMAT.md puts the mantissa's. */
struct parts {
    unsigned value_bytes, mantissa, low_bits, high_bits, code_mask;
};

static struct parts parts_of(enum page_dtype dtype) {
    return dtype == PAGE_F16    ? (struct parts){2, 10, 8, 2, 0x3f}
           : dtype == PAGE_BF16 ? (struct parts){2, 7, 0, 7, 0x1ff}
                                : (struct parts){4, 23, 16, 7, 0x1ff};
}

struct tile {
    struct parts parts;
    uint32_t tokens, channels;
    uint8_t *values; /* [tokens][64] of the dtype */
    const void *rows[128];
    struct page_source_rows in;
    struct page_codes codes;
};

static uint32_t value_of(const struct tile *tile, size_t t, size_t c) {
    uint32_t value = 0;
    memcpy(&value, (const uint8_t *)tile->rows[t] + c * tile->parts.value_bytes,
           tile->parts.value_bytes);
    return value;
}

static unsigned exponent_of(const struct tile *tile, size_t t, size_t c) {
    return value_of(tile, t, c) >> tile->parts.mantissa & tile->parts.code_mask >> 1;
}

static unsigned sign_of(const struct tile *tile, size_t t, size_t c) {
    return value_of(tile, t, c) >> (8 * tile->parts.value_bytes - 1);
}

/* Exponents within `spread` of a channel's largest, all else random; rows at odd addresses. */
static void fill(struct tile *tile, enum page_dtype dtype, uint32_t tokens, uint32_t channels,
                 unsigned spread, uint64_t *seed) {
    *tile = (struct tile){.parts = parts_of(dtype), .tokens = tokens, .channels = channels};
    size_t row_bytes = channels * tile->parts.value_bytes;
    tile->values = keep(128 * (row_bytes + 1));
    for (size_t t = 0; t < tokens; t++) {
        uint8_t *row = tile->values + t * (row_bytes + 1);
        tile->rows[t] = row;
        for (size_t c = 0; c < channels; c++) {
            unsigned top = tile->parts.code_mask >> 1;
            uint32_t value = (uint32_t)random_bits(seed), mask = top << tile->parts.mantissa;
            uint32_t exponent = top - (uint32_t)c % 2 - (uint32_t)random_bits(seed) % spread;
            value = (value & ~mask) | exponent << tile->parts.mantissa;
            memcpy(row + c * tile->parts.value_bytes, &value, tile->parts.value_bytes);
        }
    }
    tile->in =
        (struct page_source_rows){.rows = tile->rows, .tokens = tokens, .channels = channels};
    for (size_t c = 0; c < 64; c++) {
        unsigned top = (tile->parts.code_mask >> 1) - (unsigned)c % 2;
        tile->codes.base[c] = (int16_t)(2 * top + 1 - (c % 3 == 0 ? 30 : 15));
        tile->codes.flip[c] = c / 2 % 2;
    }
}

static const struct page_exact_kernels *kernels_of(int table, enum page_dtype dtype) {
    const struct page_kernels *kernels = page_kernels_by_name(table_names[table]);
    return kernels == NULL ? NULL : kernels->exact[dtype];
}

/* Check writes down each assertion that it meets: here there are millions. */
static void assert_same(int64_t is, int64_t should_be) {
    if (is != should_be)
        ck_assert_int_eq(is, should_be);
}

static void assert_survey_is_true(const struct page_exact_kernels *kernels,
                                  const struct tile *tile) {
    struct page_survey survey;
    memset(&survey, 0xa5, sizeof survey);
    kernels->survey(&tile->in, &survey);
    for (size_t c = 0; c < tile->channels; c++) {
        unsigned sum = 0, largest = 0, smallest = 255, negatives = 0;
        for (size_t t = 0; t < tile->tokens; t++) {
            unsigned exponent = exponent_of(tile, t, c);
            sum += exponent;
            largest = exponent > largest ? exponent : largest;
            smallest = exponent < smallest ? exponent : smallest;
            negatives += sign_of(tile, t, c);
        }
        assert_same(survey.sum[c], sum);
        assert_same(survey.largest[c], largest);
        assert_same(survey.smallest[c], smallest);
        assert_same(survey.negatives[c], negatives);
    }
}

static unsigned bit(const uint8_t *bytes, size_t i) {
    return bytes[i / 8] >> i % 8 & 1;
}

static size_t rest_bytes(const struct tile *tile) {
    return tile->channels * tile->parts.low_bits / 8 +
           (tile->channels * tile->parts.high_bits + 7) / 8;
}

static void assert_rest_is_in_place(const struct tile *tile, const uint8_t *rest, size_t t) {
    unsigned low_bytes = tile->parts.low_bits / 8, width = tile->parts.high_bits;
    const uint8_t *low = rest + t * rest_bytes(tile), *bits = low + tile->channels * low_bytes;
    for (size_t c = 0; c < tile->channels; c++) {
        uint32_t value = value_of(tile, t, c);
        for (unsigned i = 0; i < low_bytes; i++)
            assert_same(low[c * low_bytes + i], value >> 8 * i & 255);
        for (unsigned i = 0; i < width; i++)
            assert_same(bit(bits, c * width + i), value >> (8 * low_bytes + i) & 1);
    }
    size_t used = tile->channels * width;
    for (size_t i = used; i < (used + 7) / 8 * 8; i++)
        assert_same(bit(bits, i), 0);
}

static void assert_values_are_as_written(const struct tile *tile, const int8_t *narrow,
                                         const int16_t *wide) {
    for (size_t c = 0; c < tile->channels; c++)
        for (size_t t = 0; t < tile->tokens; t++) {
            int code = (int)(2 * exponent_of(tile, t, c) + sign_of(tile, t, c));
            int v = tile->codes.base[c] - (code ^ tile->codes.flip[c]);
            assert_same(narrow != NULL ? narrow[c * RANS_ROW_VALUES + t]
                                       : wide[c * RANS_ROW_VALUES + t],
                        v);
        }
}

static void assert_nothing_else_is_written(const struct tile *tile, const uint8_t *rest,
                                           size_t bytes) {
    for (size_t i = tile->tokens * rest_bytes(tile); i < bytes; i++)
        assert_same(rest[i], 0xa5);
}

static void assert_joins_again(const struct page_exact_kernels *kernels, const struct tile *tile,
                               const int8_t *narrow, const int16_t *wide, const uint8_t *rest,
                               size_t first, size_t last, bool streaming) {
    size_t row_bytes = tile->channels * tile->parts.value_bytes;
    struct guarded memory = guarded_new(row_bytes * (last - first), 1);
    void *rows[128] = {0};
    for (size_t t = first; t < last; t++)
        rows[t] = memory.data + (t - first) * row_bytes;
    struct page_target_rows out = {.rows = rows,
                                   .first = first,
                                   .last = last,
                                   .channels = tile->channels,
                                   .streaming = streaming};
    if (narrow != NULL)
        kernels->join8(narrow, &tile->codes, rest, &out);
    else
        kernels->join16(wide, &tile->codes, rest, &out);
    for (size_t t = first; t < last; t++)
        ck_assert_mem_eq(rows[t], tile->rows[t], row_bytes);
    guarded_free(&memory);
}

static void assert_splits_and_joins(const struct page_exact_kernels *kernels,
                                    const struct tile *tile, bool narrow_values) {
    static _Alignas(64) int8_t narrow_rows[64 * RANS_ROW_VALUES];
    static _Alignas(64) int16_t wide_rows[64 * RANS_ROW_VALUES];
    static uint8_t rest[128 * REST_BYTES + READ_BEHIND];
    int8_t *narrow = narrow_values ? narrow_rows : NULL;
    int16_t *wide = narrow_values ? NULL : wide_rows;
    memset(rest, 0xa5, sizeof rest);
    if (narrow != NULL)
        kernels->split8(&tile->in, &tile->codes, narrow, rest);
    else
        kernels->split16(&tile->in, &tile->codes, wide, rest);
    assert_values_are_as_written(tile, narrow, wide);
    for (size_t t = 0; t < tile->tokens; t++)
        assert_rest_is_in_place(tile, rest, t);
    assert_nothing_else_is_written(tile, rest, sizeof rest);
    for (size_t first = 0; first < tile->tokens; first = 2 * first + 1)
        assert_joins_again(kernels, tile, narrow, wide, rest, first, tile->tokens, first % 2);
    assert_joins_again(kernels, tile, narrow, wide, rest, 0, (tile->tokens + 1) / 2, true);
}

START_TEST(numbers_are_split_as_the_format_says_and_joined_again) {
    uint64_t seed = 7;
    enum page_dtype dtype = all_dtypes[_i % DTYPE_COUNT];
    const struct page_exact_kernels *kernels = kernels_of(_i / DTYPE_COUNT, dtype);
    for (int i = 0; kernels != NULL && i < COUNTS; i++)
        for (int j = 0; j < 8; j++) {
            struct tile tile;
            fill(&tile, dtype, token_counts[j], channel_counts[i], 30, &seed);
            assert_survey_is_true(kernels, &tile);
            assert_splits_and_joins(kernels, &tile, true);
            if (dtype == PAGE_F16)
                continue;
            fill(&tile, dtype, token_counts[j], channel_counts[i], 254, &seed);
            assert_survey_is_true(kernels, &tile);
            assert_splits_and_joins(kernels, &tile, false);
        }
}
END_TEST

/* A damaged page may hold any v. */
START_TEST(any_v_gives_the_same_number_in_every_table) {
    uint64_t seed = 8;
    enum page_dtype dtype = all_dtypes[_i % DTYPE_COUNT];
    const struct page_exact_kernels *kernels = kernels_of(_i / DTYPE_COUNT, dtype);
    struct tile tile;
    fill(&tile, dtype, 128, 64, 254, &seed);
    static _Alignas(64) int8_t narrow[64 * RANS_ROW_VALUES];
    static _Alignas(64) int16_t wide[64 * RANS_ROW_VALUES];
    static uint8_t rest[128 * REST_BYTES + READ_BEHIND];
    static uint32_t out[2][128 * 64];
    for (size_t i = 0; i < 64 * RANS_ROW_VALUES; i++)
        wide[i] = (int16_t)random_bits(&seed), narrow[i] = (int8_t)wide[i];
    for (int is_wide = 0; kernels != NULL && is_wide <= (dtype != PAGE_F16); is_wide++) {
        for (int which = 0; which < 2; which++) {
            const struct page_exact_kernels *one = which ? kernels : kernels_of(0, dtype);
            void *rows[128];
            for (size_t t = 0; t < 128; t++)
                rows[t] = out[which] + t * 64;
            struct page_target_rows target = {.rows = rows, .last = 128, .channels = 64};
            if (is_wide)
                one->join16(wide, &tile.codes, rest, &target);
            else
                one->join8(narrow, &tile.codes, rest, &target);
        }
        ck_assert_mem_eq(out[0], out[1], sizeof out[0]);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page, exact's kernels");
    TCase *tests = tcase_create("kernels");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, numbers_are_split_as_the_format_says_and_joined_again, 0,
                        TABLES * DTYPE_COUNT);
    tcase_add_loop_test(tests, any_v_gives_the_same_number_in_every_table, 0, TABLES * DTYPE_COUNT);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
