/* The kernel's limits on a group of processes, of a made-up tree of groups. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/cgroup.h"

#define GROUP "/kvq.slice/kvquantd.service"

static char folder[] = "/tmp/kvq-cgroup-XXXXXX", membership[64];

static void write_file(const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    ck_assert_int_eq(fclose(file), 0);
}

static void make_folder(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s%s", folder, name);
    ck_assert_int_eq(mkdir(path, 0700), 0);
}

static void set_up(void) {
    ck_assert_ptr_nonnull(mkdtemp(folder));
    make_folder("/kvq.slice");
    make_folder(GROUP);
    write_file("membership", "1:name=systemd:/elsewhere\n0::" GROUP "\n");
    snprintf(membership, sizeof membership, "%s/membership", folder);
}

static void tear_down(void) {
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    ck_assert_int_eq(system(command), 0);
}

static uint64_t limit(void) {
    return cgroup_memory_bytes(membership, folder);
}

START_TEST(without_a_limit_there_is_none) {
    ck_assert_uint_eq(limit(), UINT64_MAX);
    write_file(GROUP "/memory.max", "max\n");
    ck_assert_uint_eq(limit(), UINT64_MAX);
}
END_TEST

START_TEST(the_limit_of_its_own_group_holds) {
    write_file(GROUP "/memory.max", "1073741824\n");
    ck_assert_uint_eq(limit(), 1073741824);
}
END_TEST

START_TEST(the_limit_of_a_group_above_holds_where_it_is_less) {
    write_file(GROUP "/memory.max", "2000\n");
    write_file("kvq.slice/memory.max", "1000\n");
    ck_assert_uint_eq(limit(), 1000);
}
END_TEST

START_TEST(where_the_kernel_slows_down_is_a_limit_as_well) {
    write_file(GROUP "/memory.max", "2000\n");
    write_file(GROUP "/memory.high", "1500\n");
    ck_assert_uint_eq(limit(), 1500);
}
END_TEST

START_TEST(a_machine_without_version_2_tells_no_limit) {
    write_file(GROUP "/memory.max", "2000\n");
    write_file("membership", "4:memory:" GROUP "\n");
    ck_assert_uint_eq(limit(), UINT64_MAX);
    ck_assert_uint_eq(cgroup_memory_bytes("/nowhere", folder), UINT64_MAX);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("cgroup");
    TCase *cases = tcase_create("cgroup");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, without_a_limit_there_is_none);
    tcase_add_test(cases, the_limit_of_its_own_group_holds);
    tcase_add_test(cases, the_limit_of_a_group_above_holds_where_it_is_less);
    tcase_add_test(cases, where_the_kernel_slows_down_is_a_limit_as_well);
    tcase_add_test(cases, a_machine_without_version_2_tells_no_limit);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
