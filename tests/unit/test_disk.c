/* The disk: what was written is read, also after a restart; the newest counts, and a delete. */
#include "tests/unit/test_disk_support.h"

static const struct disk_key a_chunk = {.id = 1, .kind = CHUNK},
                             a_session = {.id = 1, .kind = SESSION};

static void set_up_plain(void) {
    make_directory();
    open_disk();
}

static void set_up_encrypted(void) {
    make_directory();
    options.key = secret;
    open_disk();
}

START_TEST(a_value_is_read_as_it_was_written) {
    write_value(a_chunk, 1, 100000);
    read_value(a_chunk, 1, 100000);
    ck_assert_uint_eq(disk_find(disk, a_chunk), 100000);
}
END_TEST

START_TEST(a_value_is_read_as_it_was_written_after_a_restart) {
    write_value(a_chunk, 1, 100000);
    write_value(a_session, 2, 10);
    reopen_disk();
    ck_assert_uint_eq(found_count, 2);
    read_value(a_chunk, 1, 100000);
    read_value(a_session, 2, 10);
}
END_TEST

START_TEST(the_newest_value_counts) {
    write_value(a_session, 1, 5000);
    write_value(a_session, 2, 6000);
    read_value(a_session, 2, 6000);
    reopen_disk();
    ck_assert_uint_eq(found_count, 1);
    read_value(a_session, 2, 6000);
    write_value(a_session, 3, 10);
    reopen_disk();
    read_value(a_session, 3, 10);
}
END_TEST

START_TEST(what_was_deleted_is_a_miss_after_a_restart_too) {
    write_value(a_session, 1, 5000);
    ck_assert_int_eq(delete_value(a_session), DISK_OK);
    ck_assert_int_eq(try_read(a_session, 1, 5000), DISK_MISS);
    ck_assert_uint_eq(disk_find(disk, a_session), 0);
    reopen_disk();
    ck_assert_uint_eq(found_count, 0);
    ck_assert_int_eq(try_read(a_session, 1, 5000), DISK_MISS);
}
END_TEST

START_TEST(a_deleted_key_may_have_a_value_again) {
    write_value(a_session, 1, 5000);
    ck_assert_int_eq(delete_value(a_session), DISK_OK);
    write_value(a_session, 2, 50);
    reopen_disk();
    read_value(a_session, 2, 50);
}
END_TEST

START_TEST(a_delete_of_nothing_is_done_and_writes_nothing) {
    uint64_t used_bytes = stats_now().used_bytes;
    ck_assert_int_eq(delete_value(a_session), DISK_OK);
    ck_assert_uint_eq(stats_now().used_bytes, used_bytes);
}
END_TEST

START_TEST(what_was_forgotten_is_a_miss) {
    write_value(a_chunk, 1, 5000);
    disk_forget(disk, a_chunk);
    ck_assert_int_eq(try_read(a_chunk, 1, 5000), DISK_MISS);
    write_value(a_chunk, 2, 50);
    read_value(a_chunk, 2, 50);
}
END_TEST

START_TEST(a_range_of_parts_is_read_alone) {
    struct disk_part parts[] = {{"one", 3}, {"two", 3}, {"three", 5}, {"four", 4}};
    char memory[8];
    ck_assert_int_eq(write_parts(a_chunk, parts, 4, false), DISK_OK);
    struct disk_job job = {.operation = DISK_READ,
                           .key = a_chunk,
                           .first_part = 1,
                           .read_parts = 2,
                           .memory = (uint8_t *)memory,
                           .capacity = sizeof memory};
    ck_assert_int_eq(run_job(&job), DISK_OK);
    ck_assert_uint_eq(job.bytes, 8);
    ck_assert_mem_eq(memory, "twothree", 8);
}
END_TEST

START_TEST(metadata_comes_with_the_value) {
    char names[3 * DISK_NAME_BYTES_MAX];
    write_value(a_session, 1, 10);
    reopen_disk();
    struct disk_job job = {.operation = DISK_READ, .key = a_session, .names = names};
    ck_assert_int_eq(run_job(&job), DISK_OK);
    ck_assert_uint_eq(job.bytes, 0);
    ck_assert_uint_eq(job.metadata.tenant_bytes, 7);
    ck_assert_mem_eq(job.metadata.tenant, "default", 7);
    ck_assert_mem_eq(job.metadata.model, "a model", 7);
    ck_assert_mem_eq(job.metadata.session, "a session", 9);
    ck_assert_uint_eq(job.metadata.first_token, 128);
    ck_assert_uint_eq(job.metadata.tokens, 64);
    ck_assert_uint_eq(job.metadata.version, 1);
    ck_assert_int_eq(job.metadata.level, -1);
}
END_TEST

START_TEST(a_value_that_does_not_fit_is_not_read) {
    uint8_t memory[100];
    size_t count;
    write_value(a_chunk, 1, 101);
    ck_assert_int_eq(read_bytes(a_chunk, memory, 100, &count), DISK_DAMAGED);
}
END_TEST

START_TEST(a_value_may_have_thousands_of_parts_and_be_larger_than_a_segment) {
    enum { PART_BYTES = 100 };
    static uint8_t bytes[DISK_PARTS_MAX * PART_BYTES], memory[sizeof bytes];
    static struct disk_part parts[DISK_PARTS_MAX];
    size_t count;
    fill(bytes, sizeof bytes, 3);
    for (size_t i = 0; i < DISK_PARTS_MAX; i++)
        parts[i] = (struct disk_part){bytes + i * PART_BYTES, PART_BYTES};
    ck_assert_int_eq(write_parts(a_chunk, parts, DISK_PARTS_MAX, true), DISK_OK);
    write_value(a_session, 1, 10);
    reopen_disk();
    ck_assert_int_eq(read_bytes(a_chunk, memory, sizeof memory, &count), DISK_OK);
    ck_assert_uint_eq(count, sizeof bytes);
    ck_assert_mem_eq(memory, bytes, sizeof bytes);
    read_value(a_session, 1, 10);
}
END_TEST

START_TEST(a_job_is_durable_where_it_asks_to_be) {
    ck_assert_int_eq(try_write(a_chunk, 1, 1000, true), DISK_OK);
    uint64_t groups = stats_now().groups;
    ck_assert_uint_ge(groups, 1);
    write_value(a_session, 1, 10);
    ck_assert_uint_eq(stats_now().groups, groups);
    ck_assert_int_eq(sync_disk(), DISK_OK);
    ck_assert_uint_eq(stats_now().groups, groups + 1);
}
END_TEST

START_TEST(a_second_daemon_is_refused_in_plain_words) {
    struct disk *first = disk;
    ck_assert(!try_open());
    ck_assert_ptr_nonnull(strstr(disk_error, "is another daemon's"));
    disk = first;
}
END_TEST

START_TEST(files_are_the_owners_alone) {
    char names[4][32], path[400];
    struct stat status;
    ck_assert_int_eq(rmdir(directory), -1);
    write_value(a_chunk, 1, 10);
    ck_assert_uint_eq(list_segments(names, 4), 1);
    path_of(names[0], path, sizeof path);
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0600);
}
END_TEST

START_TEST(a_directory_that_is_made_is_the_owners_alone) {
    struct stat status;
    remove_directory();
    open_disk();
    ck_assert_int_eq(stat(directory, &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0700);
}
END_TEST

static void add_tests(Suite *suite, const char *name, void (*set_up)(void)) {
    TCase *cases = tcase_create(name);
    tcase_add_checked_fixture(cases, set_up, remove_directory);
    tcase_add_test(cases, a_value_is_read_as_it_was_written);
    tcase_add_test(cases, a_value_is_read_as_it_was_written_after_a_restart);
    tcase_add_test(cases, the_newest_value_counts);
    tcase_add_test(cases, what_was_deleted_is_a_miss_after_a_restart_too);
    tcase_add_test(cases, a_deleted_key_may_have_a_value_again);
    tcase_add_test(cases, a_delete_of_nothing_is_done_and_writes_nothing);
    tcase_add_test(cases, what_was_forgotten_is_a_miss);
    tcase_add_test(cases, a_range_of_parts_is_read_alone);
    tcase_add_test(cases, metadata_comes_with_the_value);
    tcase_add_test(cases, a_value_that_does_not_fit_is_not_read);
    tcase_add_test(cases, a_value_may_have_thousands_of_parts_and_be_larger_than_a_segment);
    tcase_add_test(cases, a_job_is_durable_where_it_asks_to_be);
    tcase_add_test(cases, a_second_daemon_is_refused_in_plain_words);
    tcase_add_test(cases, files_are_the_owners_alone);
    tcase_add_test(cases, a_directory_that_is_made_is_the_owners_alone);
    suite_add_tcase(suite, cases);
}

int main(void) {
    Suite *suite = suite_create("disk");
    add_tests(suite, "plain", set_up_plain);
    add_tests(suite, "encrypted", set_up_encrypted);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
