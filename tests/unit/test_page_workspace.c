/* What decoding says it needs of the workspace is enough, whatever the page holds. */
#include "tests/fuzz/kernel_tables.h"
#include "tests/unit/test_page_support.h"

static const struct page_shape shapes[] = {
    {1, 1, 1, 0},
    {128, 4, 64, 0},
    {127, 5, 17, 0},
    {65, 2, 83, 0},
    {3, 1, 1000, 0},
    {100, 1, 31, 0},
    {7, 1, 4096, 0},
    {128, 9, 128, 0},
    {8, 1, PAGE_VALUES_MAX / 8, 0},
    {1, 1, PAGE_VALUES_MAX, 0},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* With memory behind the workspace that cannot be touched. */
static struct tensor decode_within(const struct coded *page, enum page_dtype dtype, size_t bytes) {
    const struct page_shape *shape = &page->info.shape;
    struct tensor out = tensor_new(dtype, shape->tokens, shape->heads, shape->head_dim);
    struct guarded workspace = guarded_new(bytes, 1);
    memset(workspace.data, 0xa5, bytes);
    struct page_target target = {
        .tokens = shape->tokens, .dtype = dtype, .values = out.data, .strides = out.strides};
    ck_assert_int_eq(page_decode(page->bytes, page->length, &target, workspace.data), PAGE_OK);
    guarded_free(&workspace);
    return out;
}

static void check_page(const struct tensor *in, int level) {
    struct coded page = encode(in, level, level % 2 ? in->shape.tokens / 32 : 0);
    size_t bytes = page_decode_workspace_bytes(&page.info.shape);
    ck_assert_uint_gt(bytes, 0);
    ck_assert_uint_le(bytes, PAGE_WORKSPACE_BYTES);
    for (int to = 0; to < DTYPE_COUNT; to++) {
        struct tensor out = decode_within(&page, all_dtypes[to], bytes);
        struct tensor expected = decode_as(&page, all_dtypes[to], 0, in->shape.tokens);
        ck_assert_mem_eq(out.data, expected.data, out.bytes);
    }
}

START_TEST(decoding_stays_within_the_workspace_that_it_asks_for) {
    const struct page_kernels *kernels = kernel_table((size_t)_i / SHAPES);
    const struct page_shape *shape = &shapes[_i % SHAPES];
    if (kernels == NULL)
        return;
    page_kernels_use(kernels);
    for (int d = 0; d < DTYPE_COUNT; d++) {
        struct tensor in =
            tensor_random(all_dtypes[d], shape->tokens, shape->heads, shape->head_dim, 5);
        for (int level = PAGE_LEVEL_MIN; level <= PAGE_LEVEL_MAX; level++)
            check_page(&in, level);
    }
}
END_TEST

START_TEST(a_shape_that_no_page_has_needs_no_workspace) {
    const struct page_shape none[] = {
        {0, 1, 64, PAGE_F16}, {129, 1, 64, PAGE_F16}, {128, 64, 64, PAGE_F16}, {1, 1, 8, 0}};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        ck_assert_uint_eq(page_decode_workspace_bytes(&none[i]), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page workspace");
    TCase *tests = tcase_create("workspace");
    tcase_add_loop_test(tests, decoding_stays_within_the_workspace_that_it_asks_for, 0,
                        KERNEL_TABLES_MAX * SHAPES);
    tcase_add_test(tests, a_shape_that_no_page_has_needs_no_workspace);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
