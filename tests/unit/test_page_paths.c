/* Whatever kernels the processor gets: the same pages, and the same values of them. */
#include "proto/page/kernels.h"
#include "tests/unit/test_page_support.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct page_shape shapes[] = {
    {1, 1, 1, 0},    {2, 1, 64, 0},   {63, 1, 65, 0},  {64, 3, 40, 0},     {65, 2, 83, 0},
    {127, 5, 17, 0}, {128, 1, 7, 0},  {128, 9, 1, 0},  {124, 3, 64, 0},    {128, 8, 128, 0},
    {3, 1, 1000, 0}, {100, 1, 31, 0}, {33, 7, 100, 0}, {1, 1, 1 << 18, 0},
};
enum {
    SHAPE_COUNT = sizeof shapes / sizeof *shapes,
    RECORD_BYTES = 2 * DTYPE_COUNT * LEVEL_COUNT * (5 << 20),
};

/* What a process wrote down of its work, in memory that its parent sees. */
struct record {
    char kernels[32];
    size_t used;
    uint8_t bytes[RECORD_BYTES];
};

static void write_down(struct record *record, const void *bytes, size_t count) {
    ck_assert_uint_le(count, RECORD_BYTES - record->used);
    memcpy(record->bytes + record->used, bytes, count);
    record->used += count;
}

/* Ordinary values, and for every other shape some that saturate, are tiny, zero or not finite. */
static struct tensor tensor_of(enum page_dtype dtype, const struct page_shape *shape, int seed) {
    struct tensor in =
        tensor_random(dtype, shape->tokens, shape->heads, shape->head_dim, (uint64_t)seed);
    const double special[] = {65504, -65504, 0, -0.0, 0x1p-24, -0x1.8p-16};
    for (size_t i = 0; seed % 2 != 0 && i < in.values; i += 37)
        set_value(dtype, in.data, i, special[i / 37 % 6]);
    if (seed % 4 == 3)
        set_value(dtype, in.data, in.values / 2, NAN);
    return in;
}

static void code_everything(const struct page_shape *shape, int seed, struct record *record) {
    for (int d = 0; d < DTYPE_COUNT; d++) {
        struct tensor in = tensor_of(all_dtypes[d], shape, seed);
        struct tensor by_heads = tensor_by_heads(&in);
        for (int level = PAGE_LEVEL_MIN; level <= PAGE_LEVEL_MAX; level++) {
            struct coded page = encode_part(&by_heads, PAGE_V, level, seed % 2 ? 1 : 0);
            write_down(record, page.bytes, page.length);
            for (int to = 0; to < DTYPE_COUNT; to++) {
                struct tensor out = decode_as(&page, all_dtypes[to], 0, shape->tokens);
                write_down(record, out.data, out.bytes);
            }
        }
    }
}

/* In a process of its own, since the kernels are chosen once. */
static struct record *record_of(const char *kvq_cpu, const struct page_shape *shape, int seed) {
    struct record *record = mmap(NULL, sizeof *record, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert(record != MAP_FAILED);
    pid_t child = fork();
    ck_assert_int_ne(child, -1);
    if (child == 0) {
        setenv("KVQ_CPU", kvq_cpu, 1);
        snprintf(record->kernels, sizeof record->kernels, "%s", page_kernels()->name);
        code_everything(shape, seed, record);
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(status == 0, "%s kernels: exit status %#x", record->kernels, (unsigned)status);
    return record;
}

START_TEST(all_kernels_give_the_bytes_and_values_of_the_portable_ones) {
    struct record *portable = record_of("portable", &shapes[_i], _i);
    struct record *best = record_of("", &shapes[_i], _i);
    ck_assert_str_eq(portable->kernels, "portable");
    ck_assert_uint_gt(portable->used, 0);
    ck_assert_uint_eq(best->used, portable->used);
    ck_assert_msg(memcmp(best->bytes, portable->bytes, best->used) == 0,
                  "%s kernels differ from the portable ones", best->kernels);
}
END_TEST

static const char *const names[] = {"avx512", "avx2", "x86_64_v3", "portable"};
enum { NAME_COUNT = sizeof names / sizeof *names };

/* The first from `from` on that the build has and the processor runs. */
static const char *best_name(int from) {
    while (page_kernels_by_name(names[from]) == NULL)
        from++;
    return names[from];
}

START_TEST(a_processor_gets_the_best_kernels_that_it_runs) {
    unsetenv("KVQ_CPU");
    ck_assert_str_eq(page_kernels()->name, best_name(0));
}
END_TEST

/* What a process of its own chooses. */
static void assert_chosen(const char *kvq_cpu, const char *expected) {
    fflush(NULL);
    pid_t child = fork();
    ck_assert_int_ne(child, -1);
    if (child == 0) {
        setenv("KVQ_CPU", kvq_cpu, 1);
        _exit(strcmp(page_kernels()->name, expected) != 0);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(status == 0, "KVQ_CPU=%s did not choose %s", kvq_cpu, expected);
}

START_TEST(the_environment_asks_for_kernels_or_gets_the_best_below) {
    assert_chosen(names[_i], best_name(_i));
}
END_TEST

START_TEST(a_name_that_is_none_changes_nothing) {
    assert_chosen("no such kernels", best_name(0));
    assert_chosen("", best_name(0));
}
END_TEST

START_TEST(kernels_are_found_by_name) {
    for (int i = 0; i < NAME_COUNT; i++) {
        const struct page_kernels *kernels = page_kernels_by_name(names[i]);
        if (kernels != NULL)
            ck_assert_str_eq(kernels->name, names[i]);
    }
    ck_assert_ptr_nonnull(page_kernels_by_name("portable"));
    ck_assert_ptr_null(page_kernels_by_name("no such kernels"));
    ck_assert_ptr_null(page_kernels_by_name(NULL));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page paths");
    TCase *tests = tcase_create("paths");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, all_kernels_give_the_bytes_and_values_of_the_portable_ones, 0,
                        SHAPE_COUNT);
    tcase_add_test(tests, a_processor_gets_the_best_kernels_that_it_runs);
    tcase_add_loop_test(tests, the_environment_asks_for_kernels_or_gets_the_best_below, 0,
                        NAME_COUNT);
    tcase_add_test(tests, a_name_that_is_none_changes_nothing);
    tcase_add_test(tests, kernels_are_found_by_name);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
