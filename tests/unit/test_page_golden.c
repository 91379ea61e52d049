/* Every machine, compiler and table of kernels codes the same values to the same bytes: those
 * that tests/golden has digests of.
 *
 * A change of the format changes them; nothing else may. */
#include "tests/fuzz/kernel_tables.h"
#include "tests/golden/golden_cases.h"
#include "tests/unit/test_page_support.h"

#include <stdio.h>

/* Chooses the i-th table; false if it does not run here. */
static bool use_table(size_t i) {
    const struct page_kernels *kernels = kernel_table(i);
    if (kernels != NULL)
        page_kernels_use(kernels);
    return kernels != NULL;
}

START_TEST(values_have_the_same_pages_on_every_machine) {
    if (!use_table((size_t)_i))
        return;
    struct golden_work work = golden_work_new();
    char expected[GOLDEN_LINE_BYTES], line[GOLDEN_LINE_BYTES];
    FILE *file = fopen("tests/golden/encoder.txt", "r");
    ck_assert_msg(file != NULL, "tests are run from the root");
    for (size_t i = 0; i < golden_line_count(); i++) {
        golden_line(i, &work, line);
        ck_assert_ptr_nonnull(fgets(expected, sizeof expected, file));
        expected[strcspn(expected, "\n")] = '\0';
        ck_assert_msg(strcmp(line, expected) == 0, "%s:\n%s instead of\n%s", page_kernels()->name,
                      line, expected);
    }
    ck_assert_ptr_null(fgets(expected, sizeof expected, file));
    fclose(file);
    golden_work_free(&work);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page golden");
    TCase *tests = tcase_create("golden");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, values_have_the_same_pages_on_every_machine, 0, KERNEL_TABLES_MAX);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
