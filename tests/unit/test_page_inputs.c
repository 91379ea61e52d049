/* Whatever the values and wherever they lie: within bounds, as page.h says, the same on all
 * kernels.
 */
#include "tests/fuzz/kernel_tables.h"
#include "tests/fuzz/page_values.h"
#include "tests/unit/test_page_support.h"

static const struct page_shape shapes[] = {
    {1, 1, 1, 0},   {1, 1, 576, 0},  {128, 1, 1, 0}, {128, 1, 40, 0},
    {7, 3, 80, 0},  {64, 1, 96, 0},  {65, 2, 64, 0}, {127, 1, 112, 0},
    {33, 5, 17, 0}, {16, 1, 256, 0}, {2, 1, 576, 0}, {128, 3, 65, 0},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* ---- values ---- */

struct tensor_kind {
    const char *name;
    double (*value)(size_t i, size_t channels, uint64_t *state);
};

static double ordinary(size_t i, size_t channels, uint64_t *state) {
    return (double)(i % channels % 7) - 3 + random_normal(state);
}

static double zero(size_t i, size_t channels, uint64_t *state) {
    (void)channels, (void)state;
    return i % 3 ? 0.0 : -0.0;
}

static double all_equal(size_t i, size_t channels, uint64_t *state) {
    (void)i, (void)channels, (void)state;
    return -1.7;
}

static double with_nan(size_t i, size_t channels, uint64_t *state) {
    return i % 101 == 57 ? (double)NAN : ordinary(i, channels, state);
}

static double with_infinity(size_t i, size_t channels, uint64_t *state) {
    return i % 211 == 3 ? -(double)INFINITY : ordinary(i, channels, state);
}

static double subnormal(size_t i, size_t channels, uint64_t *state) {
    (void)i, (void)channels;
    return random_normal(state) * 0x1p-22;
}

static double smallest(size_t i, size_t channels, uint64_t *state) {
    (void)i, (void)channels;
    return ldexp(random_normal(state), -140);
}

static double one_huge_value(size_t i, size_t channels, uint64_t *state) {
    return i == channels / 2 ? 60000 : 0.01 * ordinary(i, channels, state);
}

static double one_huge_token(size_t i, size_t channels, uint64_t *state) {
    return ordinary(i, channels, state) * (i / channels == 1 ? 1000 : 1);
}

static double one_huge_channel(size_t i, size_t channels, uint64_t *state) {
    return ordinary(i, channels, state) * (i % channels == 0 ? 3000 : 1);
}

static double largest(size_t i, size_t channels, uint64_t *state) {
    (void)channels, (void)state;
    return i % 2 ? 65504 : -65504;
}

static double all_sizes(size_t i, size_t channels, uint64_t *state) {
    (void)i, (void)channels;
    return ldexp(random_normal(state), (int)(random_bits(state) % 40) - 24);
}

static const struct tensor_kind kinds[] = {
    {"ordinary", ordinary},
    {"zero", zero},
    {"all equal", all_equal},
    {"with NaN", with_nan},
    {"with infinity", with_infinity},
    {"subnormal", subnormal},
    {"smallest", smallest},
    {"one huge value", one_huge_value},
    {"one huge token", one_huge_token},
    {"one huge channel", one_huge_channel},
    {"largest", largest},
    {"all sizes", all_sizes},
    {"random bits", NULL},
};
enum { INPUT_KINDS = sizeof kinds / sizeof *kinds };

static struct tensor tensor_of(const struct tensor_kind *kind, enum page_dtype dtype,
                               const struct page_shape *shape) {
    struct tensor tensor = tensor_new(dtype, shape->tokens, shape->heads, shape->head_dim);
    uint64_t state = tensor.values;
    for (size_t i = 0; i < tensor.values && kind->value != NULL; i++)
        set_value(dtype, tensor.data, i, kind->value(i, tensor.strides.token, &state));
    for (size_t i = 0; i < tensor.bytes && kind->value == NULL; i++)
        ((uint8_t *)tensor.data)[i] = (uint8_t)random_bits(&state);
    return tensor;
}

/* ---- tests ---- */

static void try_on_all(struct page_writer *writer, const struct page_values *values) {
    uint64_t expected = 0;
    for (size_t i = 0; i < KERNEL_TABLES_MAX; i++) {
        const struct page_kernels *kernels = kernel_table(i);
        if (kernels == NULL)
            continue;
        page_kernels_use(kernels);
        uint64_t digest = page_writer_try(writer, values);
        expected = i == 0 ? digest : expected;
        ck_assert_msg(digest == expected, "%s kernels differ from the portable ones",
                      kernels->name);
    }
}

/* Ways to lie in memory, in turn. */
static void vary(struct page_values *values, size_t i) {
    values->by_heads = i % 2;
    values->gap = i % 3;
    values->off_bytes = (i * 7 + (i % 5 == 4)) % 64;
    values->at_end = i % 4 == 1;
    values->part = i % 2 ? PAGE_K : PAGE_V;
    values->sink_tokens = i % 3 && values->shape.tokens >= 4 ? 4 : 0;
    values->layers = i % 11 ? 0 : 30;
    values->layer = values->layers ? (uint32_t)i % 30 : 0;
    values->snr_db = i % 7 == 6 ? 20 : 0;
}

START_TEST(any_values_are_coded_as_promised_the_same_on_all_kernels) {
    struct page_writer writer = page_writer_new();
    size_t variation = 0;
    for (size_t s = 0; s < SHAPES; s++)
        for (size_t d = 0; d < DTYPE_COUNT; d++) {
            struct tensor in = tensor_of(&kinds[_i], all_dtypes[d], &shapes[s]);
            for (int level = PAGE_LEVEL_MIN; level <= PAGE_LEVEL_MAX; level++) {
                struct page_values values = {.shape = in.shape, .level = level, .values = in.data};
                vary(&values, variation++);
                try_on_all(&writer, &values);
            }
        }
    page_writer_free(&writer);
}
END_TEST

/* Bytes off, not only values off. */
START_TEST(every_alignment_gives_the_same_page) {
    struct page_writer writer = page_writer_new();
    struct tensor in = tensor_of(&kinds[0], all_dtypes[_i % DTYPE_COUNT], &shapes[_i % SHAPES]);
    for (size_t off = 0; off < 64; off++) {
        struct page_values values = {.shape = in.shape,
                                     .level = PAGE_LEVEL_MIN + (int)off % LEVEL_COUNT,
                                     .off_bytes = off,
                                     .gap = off % 5,
                                     .values = in.data};
        try_on_all(&writer, &values);
    }
    page_writer_free(&writer);
}
END_TEST

START_TEST(compact_dtypes_are_coded_as_promised_the_same_on_all_kernels) {
    struct page_writer writer = page_writer_new();
    size_t variation = (size_t)_i;
    for (int level = PAGE_LEVEL_MIN; level <= PAGE_LEVEL_MAX; level++)
        for (uint32_t tokens = 1; tokens <= PAGE_TOKENS_MAX; tokens += 1 + tokens / 2) {
            struct tensor in =
                tensor_new((enum page_dtype)_i, tokens, 1 + tokens % 3, 32 + 32 * (tokens % 2));
            uint64_t state = tokens;
            for (size_t i = 0; i < in.bytes; i++) /* all bytes, or none that is no number */
                ((uint8_t *)in.data)[i] =
                    (uint8_t)(random_bits(&state) & (tokens % 4 ? 0x3f : 0xff));
            struct page_values values = {.shape = in.shape, .level = level, .values = in.data};
            vary(&values, variation++);
            values.gap = 32 * (variation % 2);
            try_on_all(&writer, &values);
        }
    page_writer_free(&writer);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page inputs");
    TCase *tests = tcase_create("inputs");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, any_values_are_coded_as_promised_the_same_on_all_kernels, 0,
                        INPUT_KINDS);
    tcase_add_loop_test(tests, every_alignment_gives_the_same_page, 0, SHAPES);
    tcase_add_loop_test(tests, compact_dtypes_are_coded_as_promised_the_same_on_all_kernels,
                        PAGE_F8E4M3, PAGE_Q4_0 + 1);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
