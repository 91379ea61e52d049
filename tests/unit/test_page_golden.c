/* Every machine, compiler and table of kernels codes the same values to the same bytes, and decodes
 * frozen pages to the same values: tests/golden.
 *
 * A change of the format changes them; nothing else may. A change of what an encoder chooses makes
 * some anew: those before stay in tests/golden/earlier, to be read. */
#include "tests/fuzz/kernel_tables.h"
#include "tests/golden/golden_cases.h"
#include "tests/unit/test_page_support.h"

#include <glob.h>
#include <stdio.h>

static const char *const folder = "tests/golden";

static size_t read_file(const char *name, const char *ending, void *bytes, size_t count_max) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s%s", folder, name, ending);
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s is not there; tests are run from the root", path);
    size_t count = fread(bytes, 1, count_max, file);
    fclose(file);
    return count;
}

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

START_TEST(a_kept_page_is_made_and_read_as_ever) {
    struct golden_work work = golden_work_new();
    uint8_t *kept = keep(1 << 16);
    for (size_t i = 0; use_table((size_t)_i) && i < golden_page_count(); i++) {
        struct golden_page made = golden_page(i, &work);
        size_t count = read_file(made.name, ".page", kept, 1 << 16);
        ck_assert_msg(count == made.page_bytes && memcmp(kept, made.page, count) == 0,
                      "%s: another page is made of its values", made.name);
        count = read_file(made.name, ".values", kept, 1 << 16);
        ck_assert_msg(count == made.value_bytes && memcmp(kept, made.values, count) == 0,
                      "%s: decodes to other values", made.name);
    }
    golden_work_free(&work);
}
END_TEST

/* A page's file without its ending, below tests/golden. */
static void check_values_of(const char *name) {
    uint8_t *bytes = keep(1 << 16), *values = keep(1 << 16);
    size_t length = read_file(name, ".page", bytes, 1 << 16);
    size_t value_bytes = read_file(name, ".values", values, 1 << 16);
    struct coded page = {.bytes = bytes, .length = length};
    ck_assert_int_eq(page_peek(bytes, length, &page.info), PAGE_OK);
    struct tensor out = decode(&page);
    ck_assert_msg(out.bytes == value_bytes && memcmp(out.data, values, value_bytes) == 0,
                  "%s: decodes to other values", name);
}

START_TEST(a_page_of_an_earlier_encoder_is_read_as_ever) {
    glob_t found;
    ck_assert_int_eq(glob("tests/golden/earlier/*.page", 0, NULL, &found), 0);
    for (size_t i = 0; use_table((size_t)_i) && i < found.gl_pathc; i++) {
        char name[256];
        snprintf(name, sizeof name, "%s", found.gl_pathv[i] + sizeof "tests/golden");
        *strrchr(name, '.') = '\0';
        check_values_of(name);
    }
    globfree(&found);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page golden");
    TCase *tests = tcase_create("golden");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, values_have_the_same_pages_on_every_machine, 0, KERNEL_TABLES_MAX);
    tcase_add_loop_test(tests, a_kept_page_is_made_and_read_as_ever, 0, KERNEL_TABLES_MAX);
    tcase_add_loop_test(tests, a_page_of_an_earlier_encoder_is_read_as_ever, 0, KERNEL_TABLES_MAX);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
