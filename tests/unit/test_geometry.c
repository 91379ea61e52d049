/* What follows from the shape and dtype of a model's K and V. */
#include "daemon/store/geometry.h"

#include <check.h>
#include <stdlib.h>

static struct geometry of_dtype(enum page_dtype dtype) {
    return (struct geometry){
        .layers = 2, .heads = 3, .head_dim_k = 64, .head_dim_v = 32, .dtype = dtype};
}

START_TEST(rows_are_as_wide_as_their_dtype) {
    static const struct {
        enum page_dtype dtype;
        size_t value_bytes;
    } dtypes[] = {{PAGE_F16, 2},    {PAGE_BF16, 2},   {PAGE_F32, 4},
                  {PAGE_F8E4M3, 1}, {PAGE_F8E5M2, 1}, {PAGE_I8, 1}};
    struct geometry geometry = of_dtype(dtypes[_i].dtype);
    size_t value_bytes = dtypes[_i].value_bytes;
    ck_assert_ptr_null(geometry_fault(&geometry));
    ck_assert_ptr_null(geometry_limit(&geometry));
    ck_assert_uint_eq(geometry_token_bytes(&geometry), 2 * 3 * (64 + 32) * value_bytes);
    ck_assert_uint_eq(geometry_row_offset(&geometry, 1, PAGE_V), 3 * (64 + 32 + 64) * value_bytes);
    ck_assert_uint_eq(geometry_part_bytes(&geometry, PAGE_V, 5), 5 * 3 * 32 * value_bytes);
}
END_TEST

START_TEST(blocks_are_dtypes_that_cannot_be_stored) {
    struct geometry geometry = of_dtype(_i ? PAGE_Q4_0 : PAGE_Q8_0);
    ck_assert_ptr_null(geometry_fault(&geometry));
    ck_assert_ptr_nonnull(geometry_limit(&geometry));
}
END_TEST

START_TEST(other_numbers_are_no_dtypes) {
    struct geometry geometry = of_dtype(_i ? (enum page_dtype)(PAGE_Q4_0 + 1) : 0);
    ck_assert_ptr_nonnull(geometry_fault(&geometry));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("geometry");
    TCase *tests = tcase_create("dtypes");
    tcase_add_loop_test(tests, rows_are_as_wide_as_their_dtype, 0, 6);
    tcase_add_loop_test(tests, blocks_are_dtypes_that_cannot_be_stored, 0, 2);
    tcase_add_loop_test(tests, other_numbers_are_no_dtypes, 0, 2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
