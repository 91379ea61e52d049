/* Summaries of keys: the means of each block's channels, the same bytes on every processor. */
#include "proto/page/summary.h"

#include "tests/fuzz/kernel_tables.h"
#include "tests/unit/test_page_support.h"

#include <xxhash.h>

static const enum page_dtype summarised[] = {PAGE_F16,    PAGE_BF16,   PAGE_F32,
                                             PAGE_F8E4M3, PAGE_F8E5M2, PAGE_I8};
enum { SUMMARISED = 6, BLOCK = SUMMARY_BLOCK_TOKENS };

struct summary {
    struct page_shape shape;
    uint8_t *bytes;
    size_t length;
};

/* Into memory that ends with it. */
static struct summary summarise(const struct tensor *tensor, uint32_t sinks) {
    struct summary summary = {.shape = tensor->shape, .length = page_summary_bytes(&tensor->shape)};
    struct page_source source = {.shape = tensor->shape,
                                 .part = PAGE_K,
                                 .sink_tokens = sinks,
                                 .values = tensor->data,
                                 .strides = tensor->strides};
    summary.bytes = guarded_new(summary.length, 1).data;
    memset(summary.bytes, 0xa5, summary.length);
    ck_assert_int_eq(page_summarise(&source, dirty_workspace(), summary.bytes), PAGE_OK);
    return summary;
}

/* What the code of a block and channel stands for, by SUMMARY.md. */
static double coded_at(const struct summary *summary, size_t head, size_t block, size_t d) {
    struct summary_layout layout;
    ck_assert(page_summary_layout(&summary->shape, &layout));
    struct summary_head at = page_summary_head(&layout, summary->bytes, (uint32_t)head);
    size_t vector = d / 4 * layout.groups + block / SUMMARY_LANES;
    uint8_t codes[SUMMARY_UNIT_VECTORS * SUMMARY_VECTOR_BYTES];
    page_summary_unpack(at.units + vector / SUMMARY_UNIT_VECTORS * SUMMARY_UNIT_BYTES, codes);
    uint8_t code = codes[vector % SUMMARY_UNIT_VECTORS * SUMMARY_VECTOR_BYTES +
                         block % SUMMARY_LANES * 4 + d % 4];
    uint8_t step = at.steps[d / layout.sharing];
    return (double)at.centre_scale * at.centres[d] + (code - 3.5) * (double)at.step_scale * step;
}

/* As float32, which has all of them exactly. */
static struct tensor numbers_of(const struct tensor *tensor) {
    struct coded page = encode(tensor, PAGE_EXACT, 0);
    return decode_as(&page, PAGE_F32, 0, tensor->shape.tokens);
}

static double mean_of(const struct tensor *numbers, size_t channel, size_t block) {
    size_t channels = (size_t)numbers->shape.heads * numbers->shape.head_dim;
    size_t first = block * BLOCK, last = first + BLOCK;
    double sum = 0;
    last = last < numbers->shape.tokens ? last : numbers->shape.tokens;
    for (size_t t = first; t < last; t++)
        sum += tensor_at(numbers, t * channels + channel);
    return sum / (double)(last - first);
}

/* Of a channel's blocks: their mean, and what they are away from it. */
struct spread {
    double centre, deviation;
};

static struct spread spread_of(const struct tensor *numbers, size_t channel, size_t blocks) {
    double sum = 0, squares = 0;
    for (size_t b = 0; b < blocks; b++)
        sum += mean_of(numbers, channel, b);
    for (size_t b = 0; b < blocks; b++)
        squares += pow(mean_of(numbers, channel, b) - sum / (double)blocks, 2);
    return (struct spread){sum / (double)blocks, sqrt(squares / (double)blocks)};
}

/* The square of what it is off, over the square of what the blocks are apart: with steps of 0.6
 * deviations a third of a step's square, and what is beyond the codes. */
static double error_of(const struct summary *summary, const struct tensor *numbers) {
    size_t head_dim = summary->shape.head_dim, blocks = (summary->shape.tokens + BLOCK - 1) / BLOCK;
    double error = 0, energy = 0;
    for (size_t c = 0; c < summary->shape.heads * head_dim; c++) {
        struct spread spread = spread_of(numbers, c, blocks);
        energy += spread.deviation * spread.deviation * (double)blocks;
        for (size_t b = 0; b < blocks; b++)
            error +=
                pow(coded_at(summary, c / head_dim, b, c % head_dim) - mean_of(numbers, c, b), 2);
    }
    return error / energy;
}

static struct tensor small_values(enum page_dtype dtype, uint32_t tokens, uint64_t seed) {
    struct tensor tensor = tensor_new(dtype, tokens, 3, 40);
    for (size_t i = 0; i < tensor.bytes; i++) /* none is a NaN or an infinity */
        ((uint8_t *)tensor.data)[i] = (uint8_t)random_bits(&seed) & 0xb7;
    return tensor;
}

static struct tensor some_values(enum page_dtype dtype, uint32_t tokens, uint64_t seed) {
    return dtype <= PAGE_F32 ? tensor_random(dtype, tokens, 3, 40, seed)
                             : small_values(dtype, tokens, seed);
}

START_TEST(every_block_has_about_its_mean) {
    static const uint32_t tokens[] = {9, 31, 32, 33, 64, 66, 100, 128};
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        struct tensor tensor = some_values(summarised[_i], tokens[i], i);
        struct summary summary = summarise(&tensor, 4);
        struct tensor numbers = numbers_of(&tensor);
        ck_assert_double_le(error_of(&summary, &numbers), 0.08);
    }
}
END_TEST

START_TEST(where_a_token_has_many_keys_neighbours_share_a_step) {
    struct tensor tensor = tensor_random(PAGE_F16, 64, 24, 96, 1);
    struct summary summary = summarise(&tensor, 0);
    struct tensor numbers = numbers_of(&tensor);
    ck_assert_double_le(error_of(&summary, &numbers), 0.12);
    ck_assert_double_le((double)summary.length, 0.03 * 64 * 24 * 96 * 4);
}
END_TEST

START_TEST(of_common_pages_they_are_three_percent_with_v_at_most) {
    static const struct page_shape shapes[] = {{128, 8, 128, PAGE_F16}, {128, 3, 64, PAGE_F16},
                                               {128, 2, 64, PAGE_F16},  {128, 4, 256, PAGE_F16},
                                               {128, 8, 80, PAGE_F16},  {64, 32, 128, PAGE_F16}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        ck_assert_double_le((double)page_summary_bytes(&shapes[i]),
                            0.03 * shapes[i].tokens * shapes[i].heads * shapes[i].head_dim * 4);
}
END_TEST

START_TEST(one_block_is_its_mean) {
    struct tensor tensor = tensor_random(PAGE_F32, 3, 1, 64, 1);
    struct summary summary = summarise(&tensor, 0);
    for (size_t d = 0; d < 64; d++)
        ck_assert_double_le(fabs(coded_at(&summary, 0, 0, d) - mean_of(&tensor, d, 0)), 0.03);
}
END_TEST

START_TEST(it_does_not_matter_how_heads_stand) {
    for (size_t i = 0; i < SUMMARISED; i++) {
        struct tensor tensor = some_values(summarised[i], 77, 5), apart = tensor_by_heads(&tensor);
        struct summary summary = summarise(&tensor, 4), same = summarise(&apart, 4);
        ck_assert_mem_eq(summary.bytes, same.bytes, summary.length);
    }
}
END_TEST

/* Of values that no rounding of this machine's has made. */
/* Of values that no rounding of this machine's has made. */
START_TEST(they_are_the_same_bytes_as_ever) {
    struct tensor tensor = tensor_new(PAGE_F16, 100, 2, 64);
    uint64_t state = 1;
    for (size_t i = 0; i < tensor.values; i++)
        ((uint16_t *)tensor.data)[i] = (uint16_t)(random_bits(&state) & 0xbfff);
    struct summary summary = summarise(&tensor, 4);
    ck_assert_uint_eq(summary.length, 1856);
    ck_assert_msg(XXH3_64bits(summary.bytes, summary.length) == 0x2b0c9c0ba82c2bbe, "%016llx",
                  (unsigned long long)XXH3_64bits(summary.bytes, summary.length));
}
END_TEST

START_TEST(packed_codes_come_back) {
    uint8_t unit[SUMMARY_UNIT_BYTES], codes[SUMMARY_UNIT_VECTORS * SUMMARY_VECTOR_BYTES];
    bool seen[SUMMARY_CODE_MAX + 1] = {false};
    uint64_t state = 3;
    for (size_t i = 0; i < sizeof unit; i++)
        unit[i] = (uint8_t)random_bits(&state);
    page_summary_unpack(unit, codes);
    for (size_t i = 0; i < sizeof codes; i++) {
        ck_assert_uint_le(codes[i], SUMMARY_CODE_MAX);
        seen[codes[i]] = true;
    }
    for (size_t code = 0; code <= SUMMARY_CODE_MAX; code++)
        ck_assert(seen[code]);
}
END_TEST

static void expect_same_of_all_tables(const struct tensor *tensor) {
    page_kernels_use(&page_kernels_portable);
    struct summary summary = summarise(tensor, 4);
    for (size_t table = 1; table < KERNEL_TABLES_MAX; table++) {
        if (!kernel_table(table))
            continue;
        page_kernels_use(kernel_table(table));
        struct summary same = summarise(tensor, 4);
        ck_assert_mem_eq(summary.bytes, same.bytes, summary.length);
    }
}

START_TEST(every_table_of_kernels_gives_the_same_bytes) {
    for (size_t i = 0; i < SUMMARISED; i++) {
        struct tensor tensor = some_values(summarised[i], 128, 6);
        expect_same_of_all_tables(&tensor);
    }
}
END_TEST

/* Pages have whatever they were given, and are kept exact then. */
START_TEST(values_that_are_no_numbers_are_no_fault) {
    static const uint16_t odd[] = {0x7c00, 0xfc00, 0x7e00, 0xffff, 0x7bff, 0x8000};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        struct tensor tensor = tensor_random(PAGE_F16, 64, 2, 32, 1);
        struct summary before = summarise(&tensor, 0);
        double whole = coded_at(&before, 1, 0, 0);
        ((uint16_t *)tensor.data)[64] = odd[i]; /* of the first head */
        struct summary summary = summarise(&tensor, 0);
        ck_assert_double_eq(coded_at(&summary, 1, 0, 0), whole);
        expect_same_of_all_tables(&tensor);
    }
}
END_TEST

START_TEST(what_is_no_page_has_none) {
    static const struct page_shape none[] = {
        {0, 1, 1, PAGE_F16}, {129, 1, 1, PAGE_F16},   {1, 0, 1, PAGE_F16},    {1, 1, 0, PAGE_F16},
        {1, 1, 1, 0},        {128, 64, 64, PAGE_F16}, {16, 1, 4097, PAGE_F16}};
    static uint8_t out[64];
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        struct page_source source = {.shape = none[i], .values = out, .strides = {1, 1}};
        ck_assert_uint_eq(page_summary_bytes(&none[i]), 0);
        ck_assert_int_eq(page_summarise(&source, dirty_workspace(), out), PAGE_ARGUMENT);
    }
}
END_TEST

START_TEST(the_widest_page_has_one) {
    struct tensor tensor = tensor_random(PAGE_F32, 64, 1, 4096, 3);
    struct summary summary = summarise(&tensor, 0);
    ck_assert_double_le(error_of(&summary, &tensor), 0.12);
    struct tensor short_one = tensor_random(PAGE_F16, 1, 64, 64, 3);
    summarise(&short_one, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page summary");
    TCase *cases = tcase_create("summary");
    tcase_add_loop_test(cases, every_block_has_about_its_mean, 0, SUMMARISED);
    tcase_add_test(cases, where_a_token_has_many_keys_neighbours_share_a_step);
    tcase_add_test(cases, of_common_pages_they_are_three_percent_with_v_at_most);
    tcase_add_test(cases, one_block_is_its_mean);
    tcase_add_test(cases, it_does_not_matter_how_heads_stand);
    tcase_add_test(cases, every_table_of_kernels_gives_the_same_bytes);
    tcase_add_test(cases, they_are_the_same_bytes_as_ever);
    tcase_add_test(cases, packed_codes_come_back);
    tcase_add_test(cases, values_that_are_no_numbers_are_no_fault);
    tcase_add_test(cases, what_is_no_page_has_none);
    tcase_add_test(cases, the_widest_page_has_one);
    tcase_set_timeout(cases, 60);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
