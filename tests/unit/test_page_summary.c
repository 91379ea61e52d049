/* Summaries of keys: bounds of each block's channels, the same bytes on every processor. */
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

static double coded_at(const struct summary *summary, size_t head, size_t row, size_t d) {
    struct summary_head at = page_summary_head(&summary->shape, summary->bytes, (uint32_t)head);
    return (double)at.base + (double)at.step * at.codes[row * summary->shape.head_dim + d];
}

/* What float32 leaves out of the largest of them. */
static double rounding_of(const struct summary *summary, size_t head) {
    struct summary_head at = page_summary_head(&summary->shape, summary->bytes, (uint32_t)head);
    return 1e-6 * (fabs((double)at.base) + 255 * (double)at.step);
}

static double step_of(const struct summary *summary, size_t head) {
    return (double)page_summary_head(&summary->shape, summary->bytes, (uint32_t)head).step;
}

/* As float32, which has all of them exactly. */
static struct tensor numbers_of(const struct tensor *tensor) {
    struct coded page = encode(tensor, PAGE_EXACT, 0);
    return decode_as(&page, PAGE_F32, 0, tensor->shape.tokens);
}

struct range {
    double low, high;
};

static struct range range_of(const struct tensor *numbers, size_t channel, size_t first,
                             size_t last) {
    size_t channels = (size_t)numbers->shape.heads * numbers->shape.head_dim;
    struct range range = {INFINITY, -INFINITY};
    for (size_t t = first; t < last; t++) {
        range.low = fmin(range.low, tensor_at(numbers, t * channels + channel));
        range.high = fmax(range.high, tensor_at(numbers, t * channels + channel));
    }
    return range;
}

/* Of a block's tokens, the sinks among them left out unless there are no others. */
static struct range block_range(const struct tensor *numbers, size_t channel, size_t block,
                                uint32_t sinks) {
    size_t first = block * BLOCK, last = first + BLOCK;
    last = last < numbers->shape.tokens ? last : numbers->shape.tokens;
    return range_of(numbers, channel, sinks < last && sinks > first ? sinks : first, last);
}

static bool is_near(double got, double least, double most) {
    return got >= least && got <= most;
}

/* No further off than a step, and never within the range: what is scored by it is a bound. */
static void expect_bounds_of(const struct summary *summary, const struct tensor *numbers,
                             size_t channel, uint32_t sinks) {
    size_t head_dim = summary->shape.head_dim, head = channel / head_dim, d = channel % head_dim;
    double step = step_of(summary, head), least = rounding_of(summary, head);
    for (size_t block = 0; block < page_summary_blocks(summary->shape.tokens); block++) {
        struct range range = block_range(numbers, channel, block, sinks);
        double low = coded_at(summary, head, 2 * block, d);
        double high = coded_at(summary, head, 2 * block + 1, d);
        ck_assert_msg(is_near(low, range.low - step - least, range.low + least) &&
                          is_near(high, range.high - least, range.high + step + least),
                      "%g..%g for %g..%g", low, high, range.low, range.high);
    }
}

static void expect_bounds(const struct tensor *tensor, uint32_t sinks) {
    struct tensor numbers = numbers_of(tensor);
    struct summary summary = summarise(tensor, sinks);
    for (size_t c = 0; c < (size_t)tensor->shape.heads * tensor->shape.head_dim; c++)
        expect_bounds_of(&summary, &numbers, c, sinks);
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

START_TEST(every_value_lies_within_its_blocks_bounds) {
    static const uint32_t tokens[] = {1, 3, 4, 5, 31, 32, 33, 64, 100, 128};
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        struct tensor tensor = some_values(summarised[_i], tokens[i], i);
        expect_bounds(&tensor, 0);
        expect_bounds(&tensor, tokens[i] < 4 ? tokens[i] : 4);
    }
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

START_TEST(every_table_of_kernels_gives_the_same_bytes) {
    for (size_t i = 0; i < SUMMARISED; i++) {
        struct tensor tensor = some_values(summarised[i], 128, 6);
        page_kernels_use(&page_kernels_portable);
        struct summary summary = summarise(&tensor, 4);
        for (size_t table = 1; table < KERNEL_TABLES_MAX; table++) {
            if (!kernel_table(table))
                continue;
            page_kernels_use(kernel_table(table));
            struct summary same = summarise(&tensor, 4);
            ck_assert_mem_eq(summary.bytes, same.bytes, summary.length);
        }
    }
}
END_TEST

/* Of values that no rounding of this machine's has made. */
START_TEST(they_are_the_same_bytes_as_ever) {
    struct tensor tensor = tensor_new(PAGE_F16, 100, 2, 64);
    uint64_t state = 1;
    for (size_t i = 0; i < tensor.values; i++)
        ((uint16_t *)tensor.data)[i] = (uint16_t)(random_bits(&state) & 0xbfff);
    struct summary summary = summarise(&tensor, 4);
    ck_assert_uint_eq(summary.length, 1088);
    ck_assert_msg(XXH3_64bits(summary.bytes, summary.length) == 0xff6dbb06934e962b, "%016llx",
                  (unsigned long long)XXH3_64bits(summary.bytes, summary.length));
}
END_TEST

START_TEST(equal_values_are_told_exactly) {
    struct tensor tensor = tensor_new(PAGE_F32, 40, 1, 8);
    for (size_t i = 0; i < tensor.values; i++)
        ((float *)tensor.data)[i] = -1.7F;
    struct summary summary = summarise(&tensor, 0);
    for (size_t row = 0; row < 4; row++)
        ck_assert_double_eq(coded_at(&summary, 0, row, 3), (double)-1.7F);
}
END_TEST

/* Pages have whatever they were given, and are kept exact then. */
START_TEST(values_that_are_no_numbers_are_no_fault) {
    static const uint16_t odd[] = {0x7c00, 0xfc00, 0x7e00, 0xffff, 0x7bff, 0x8000};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        for (size_t table = 0; table < KERNEL_TABLES_MAX; table++) {
            struct tensor tensor = tensor_random(PAGE_F16, 64, 2, 32, 1);
            ((uint16_t *)tensor.data)[100] = odd[i];
            if (kernel_table(table))
                page_kernels_use(kernel_table(table));
            struct summary summary = summarise(&tensor, 0);
            ck_assert_double_le(coded_at(&summary, 1, 0, 0), tensor_at(&tensor, 32) + 1e-6);
        }
}
END_TEST

START_TEST(what_is_no_page_has_none) {
    static const struct page_shape none[] = {{0, 1, 1, PAGE_F16}, {129, 1, 1, PAGE_F16},
                                             {1, 0, 1, PAGE_F16}, {1, 1, 0, PAGE_F16},
                                             {1, 1, 1, 0},        {128, 64, 64, PAGE_F16}};
    static uint8_t out[64];
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        struct page_source source = {.shape = none[i], .values = out, .strides = {1, 1}};
        ck_assert_uint_eq(page_summary_bytes(&none[i]), 0);
        ck_assert_int_eq(page_summarise(&source, dirty_workspace(), out), PAGE_ARGUMENT);
    }
}
END_TEST

START_TEST(the_widest_page_has_one) {
    struct tensor tensor = tensor_random(PAGE_F16, 1, 1 << 10, 1 << 8, 3);
    expect_bounds(&tensor, 0);
    struct tensor wide = tensor_random(PAGE_F32, 1, 1 << 10, 1 << 8, 3);
    expect_bounds(&wide, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page summary");
    TCase *cases = tcase_create("summary");
    tcase_add_loop_test(cases, every_value_lies_within_its_blocks_bounds, 0, SUMMARISED);
    tcase_add_test(cases, it_does_not_matter_how_heads_stand);
    tcase_add_test(cases, every_table_of_kernels_gives_the_same_bytes);
    tcase_add_test(cases, they_are_the_same_bytes_as_ever);
    tcase_add_test(cases, equal_values_are_told_exactly);
    tcase_add_test(cases, values_that_are_no_numbers_are_no_fault);
    tcase_add_test(cases, what_is_no_page_has_none);
    tcase_add_test(cases, the_widest_page_has_one);
    tcase_set_timeout(cases, 60);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
