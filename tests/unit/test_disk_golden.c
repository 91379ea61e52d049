/* Segments that the first daemon with format 1 wrote, in tests/golden: they stay readable, to the
 * byte. */
#include "daemon/store/disk/guard.h"
#include "tests/unit/test_disk_support.h"

static const struct disk_key chunk = {.id = 7, .kind = CHUNK}, session = {.id = 9, .kind = SESSION},
                             deleted = {.id = 11, .kind = SESSION};

enum { CHUNK_BYTES = 5000, SESSION_BYTES = 100 };

/* As the file was made: a chunk, a session that is replaced, and one that is deleted. */
static void check(void) {
    ck_assert_uint_eq(found_count, 2);
    read_value(chunk, 1, CHUNK_BYTES);
    read_value(session, 3, SESSION_BYTES);
    ck_assert_int_eq(try_read(deleted, 4, SESSION_BYTES), DISK_MISS);
    ck_assert_uint_eq(stats_now().scan_damaged + stats_now().scan_unknown, 0);
}

/* Under the number that it was written as. */
static void copy_golden(const char *name) {
    char from[128], to[400];
    uint8_t bytes[64 << 10];
    snprintf(from, sizeof from, "tests/golden/%s", name);
    path_of("0000000000000001.segment", to, sizeof to);
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT, 0600);
    ssize_t count = read(in, bytes, sizeof bytes);
    ck_assert_int_gt(count, 0);
    ck_assert_int_eq(write(out, bytes, (size_t)count), count);
    close(in);
    close(out);
}

START_TEST(a_segment_of_version_1_is_read) {
    make_directory();
    copy_golden("plain.segment");
    open_disk();
    check();
    remove_directory();
}
END_TEST

START_TEST(an_encrypted_segment_of_version_1_is_read_with_its_key) {
    make_directory();
    options.key = secret;
    copy_golden("encrypted.segment");
    open_disk();
    check();
    remove_directory();
}
END_TEST

START_TEST(metadata_of_version_1_is_read) {
    char names[3 * DISK_NAME_BYTES_MAX];
    make_directory();
    copy_golden("plain.segment");
    open_disk();
    struct disk_job job = {.operation = DISK_READ, .key = chunk, .names = names};
    ck_assert_int_eq(run_job(&job), DISK_OK);
    ck_assert_mem_eq(job.metadata.tenant, "default", 7);
    ck_assert_mem_eq(job.metadata.model, "a model", 7);
    ck_assert_mem_eq(job.metadata.session, "a session", 9);
    ck_assert_uint_eq(job.metadata.first_token, 128);
    ck_assert_uint_eq(job.metadata.tokens, 64);
    ck_assert_uint_eq(job.metadata.version, 7);
    ck_assert_int_eq(job.metadata.level, -1);
    remove_directory();
}
END_TEST

/* Of the only segment: as if a version had written it whose format is the next one. */
static void make_newer(void) {
    uint8_t header[88];
    char path[400];
    path_of("0000000000000001.segment", path, sizeof path);
    int file = open(path, O_RDWR);
    ck_assert_int_eq(pread(file, header, sizeof header, 0), sizeof header);
    header[8]++;
    guard_checksum(header, 72, 0, header + 72);
    ck_assert_int_eq(pwrite(file, header, sizeof header, 0), sizeof header);
    close(file);
}

START_TEST(a_segment_of_a_newer_version_keeps_the_daemon_from_the_directory) {
    make_directory();
    copy_golden("plain.segment");
    make_newer();
    ck_assert(!try_open());
    ck_assert_ptr_nonnull(strstr(disk_error, "was written by a newer version"));
    remove_directory();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("disk golden");
    TCase *cases = tcase_create("golden");
    tcase_add_test(cases, a_segment_of_version_1_is_read);
    tcase_add_test(cases, an_encrypted_segment_of_version_1_is_read_with_its_key);
    tcase_add_test(cases, metadata_of_version_1_is_read);
    tcase_add_test(cases, a_segment_of_a_newer_version_keeps_the_daemon_from_the_directory);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
