/* The disk under its limit: space comes back, the limit holds, and what was deleted stays so. */
#include "tests/unit/test_disk_support.h"

enum { VALUE_BYTES = 30000, RECORD_BYTES = 32768 };

static struct disk_key chunk(uint64_t id) {
    return (struct disk_key){.id = id, .kind = CHUNK};
}

static void set_up_plain(void) {
    make_directory();
    options.limit_bytes = 2 << 20;
    open_disk();
}

static void set_up_encrypted(void) {
    make_directory();
    options.limit_bytes = 2 << 20;
    options.key = secret;
    open_disk();
}

/* What the files take, as the file system says. */
static uint64_t bytes_in_files(void) {
    char names[256][32], path[400];
    uint64_t bytes = 0;
    size_t count = list_segments(names, 256);
    for (size_t i = 0; i < count; i++) {
        struct stat status;
        path_of(names[i], path, sizeof path);
        if (stat(path, &status) == 0)
            bytes += (uint64_t)status.st_size;
    }
    return bytes;
}

/* Writes until the disk is full: how many. */
static uint64_t fill_up(uint64_t first) {
    uint64_t id = first;
    enum disk_status status;
    while ((status = try_write(chunk(id), id, VALUE_BYTES, false)) == DISK_OK) {
        ck_assert_uint_le(bytes_in_files(), options.limit_bytes);
        id++;
    }
    ck_assert_int_eq(status, DISK_FULL);
    return id - first;
}

static void await_rest(void) {
    struct disk_stats before, now = stats_now();
    do {
        before = now;
        usleep(20000);
        now = stats_now();
    } while (now.copied_bytes != before.copied_bytes || now.segments != before.segments);
}

START_TEST(a_full_disk_refuses_and_keeps_what_it_has) {
    uint64_t count = fill_up(1);
    ck_assert_uint_gt(count, 40);
    ck_assert_uint_eq(stats_now().refused_full, 1);
    for (uint64_t id = 1; id <= count; id++)
        read_value(chunk(id), id, VALUE_BYTES);
    reopen_disk();
    ck_assert_uint_eq(found_count, count);
}
END_TEST

START_TEST(a_full_disk_deletes_and_has_room_again) {
    uint64_t count = fill_up(1);
    for (uint64_t id = 1; id <= count; id += 2)
        ck_assert_int_eq(delete_value(chunk(id)), DISK_OK);
    ck_assert_uint_gt(fill_up(1000), count / 4);
    for (uint64_t id = 2; id <= count; id += 2)
        read_value(chunk(id), id, VALUE_BYTES);
    reopen_disk();
    for (uint64_t id = 1; id <= count; id++)
        ck_assert_int_eq(try_read(chunk(id), id, VALUE_BYTES), id % 2 ? DISK_MISS : DISK_OK);
}
END_TEST

START_TEST(space_of_what_is_replaced_comes_back) {
    write_value(chunk(1), 1, VALUE_BYTES);
    for (uint64_t round = 0; round < 500; round++) {
        write_value(chunk(2), round, VALUE_BYTES);
        ck_assert_uint_le(bytes_in_files(), options.limit_bytes);
    }
    read_value(chunk(1), 1, VALUE_BYTES);
    read_value(chunk(2), 499, VALUE_BYTES);
    ck_assert_uint_gt(stats_now().reclaimed_segments, 10);
    reopen_disk();
    read_value(chunk(1), 1, VALUE_BYTES);
    read_value(chunk(2), 499, VALUE_BYTES);
}
END_TEST

START_TEST(space_of_what_is_forgotten_comes_back_by_itself) {
    uint64_t count = fill_up(1);
    for (uint64_t id = 1; id <= count; id++)
        disk_forget(disk, chunk(id));
    await_rest();
    ck_assert_uint_le(bytes_in_files(), 2 * DISK_TEST_SEGMENT);
    ck_assert_uint_eq(stats_now().values, 0);
}
END_TEST

START_TEST(deletes_are_forgotten_with_what_they_deleted) {
    for (uint64_t id = 1; id <= 1000; id++) {
        write_value(chunk(id), id, 10000);
        ck_assert_int_eq(delete_value(chunk(id)), DISK_OK);
    }
    await_rest();
    ck_assert_uint_le(bytes_in_files(), 2 * DISK_TEST_SEGMENT);
}
END_TEST

/* Jobs that share an fdatasync fill the disk with segments of which nobody knows yet. */
START_TEST(what_is_being_written_is_not_reclaimed) {
    enum { JOBS = 24 };
    static uint8_t bytes[JOBS][VALUE_BYTES];
    static struct disk_job jobs[JOBS];
    static struct disk_part parts[JOBS];
    static bool done[JOBS];
    disk_set_limit(disk, 900 << 10);
    for (size_t i = 0; i < JOBS; i++) {
        fill(bytes[i], VALUE_BYTES, i + 1);
        parts[i] = (struct disk_part){bytes[i], VALUE_BYTES};
        jobs[i] = (struct disk_job){.operation = DISK_WRITE,
                                    .key = chunk(i + 1),
                                    .durable = true,
                                    .parts = &parts[i],
                                    .part_count = 1,
                                    .done = note_done,
                                    .context = &done[i]};
        ck_assert(disk_submit(disk, &jobs[i]));
    }
    ck_assert_int_eq(sync_disk(), DISK_OK);
    ck_assert_int_eq(jobs[JOBS - 1].status, DISK_FULL);
    for (size_t i = 0; i < JOBS / 2; i++) {
        ck_assert_int_eq(jobs[i].status, DISK_OK);
        read_value(chunk(i + 1), i + 1, VALUE_BYTES);
    }
}
END_TEST

/* A delete is worth keeping only while what it deleted is in some file; that one is in the oldest,
 * which is kept alive by another value. */
START_TEST(a_delete_outlives_the_segment_it_was_written_to) {
    for (uint64_t id = 1; id <= 7; id++)
        write_value(chunk(id), id, VALUE_BYTES);
    ck_assert_int_eq(delete_value(chunk(1)), DISK_OK);
    for (uint64_t round = 0; round < 100; round++)
        write_value(chunk(100), round, VALUE_BYTES);
    await_rest();
    ck_assert_uint_gt(stats_now().reclaimed_segments, 2);
    reopen_disk();
    ck_assert_int_eq(try_read(chunk(1), 1, VALUE_BYTES), DISK_MISS);
    for (uint64_t id = 2; id <= 7; id++)
        read_value(chunk(id), id, VALUE_BYTES);
}
END_TEST

START_TEST(small_segments_of_many_restarts_are_joined) {
    for (uint64_t id = 1; id <= 20; id++) {
        write_value(chunk(id), id, 1000);
        reopen_disk();
        await_rest();
    }
    ck_assert_uint_le(stats_now().segments, 3);
    for (uint64_t id = 1; id <= 20; id++)
        read_value(chunk(id), id, 1000);
}
END_TEST

START_TEST(a_record_that_was_copied_twice_counts_once) {
    char names[8][32], path[400], kept[400];
    for (uint64_t id = 1; id <= 3; id++)
        write_value(chunk(id), id, VALUE_BYTES);
    close_disk();
    ck_assert_uint_eq(list_segments(names, 8), 1);
    path_of(names[0], path, sizeof path);
    path_of("kept", kept, sizeof kept);
    ck_assert_int_eq(link(path, kept), 0);
    open_disk();
    await_rest(); /* the small segment was copied, and is gone */
    ck_assert_int_eq(access(path, F_OK), -1);
    close_disk();
    ck_assert_int_eq(rename(kept, path), 0); /* as if it had been killed before that */
    open_disk();
    ck_assert_uint_eq(found_count, 3);
    await_rest();
    ck_assert_int_eq(delete_value(chunk(1)), DISK_OK);
    reopen_disk();
    ck_assert_uint_eq(found_count, 2);
    read_value(chunk(2), 2, VALUE_BYTES);
}
END_TEST

START_TEST(a_smaller_limit_holds_once_there_is_less) {
    uint64_t count = fill_up(1);
    disk_set_limit(disk, 1 << 20);
    ck_assert_int_eq(try_write(chunk(1000), 1, VALUE_BYTES, false), DISK_FULL);
    for (uint64_t id = 1; id <= count; id++)
        disk_forget(disk, chunk(id));
    await_rest();
    options.limit_bytes = 1 << 20;
    ck_assert_uint_gt(fill_up(2000), 10);
}
END_TEST

START_TEST(a_damaged_value_is_not_copied_and_nothing_older_comes_back) {
    char names[64][32], path[400];
    write_value(chunk(1), 1, 3 * DISK_TEST_SEGMENT / 4); /* keeps the first segment in its place */
    write_value(chunk(2), 1, 1000);
    reopen_disk();
    write_value(chunk(2), 2, 1000);
    close_disk();
    size_t count = list_segments(names, 64);
    path_of(names[count - 1], path, sizeof path);
    int file = open(path, O_RDWR);
    ck_assert_int_eq(pwrite(file, "damage", 6, 8192 + 500), 6);
    close(file);
    open_disk(); /* a small segment, so it is rewritten */
    await_rest();
    ck_assert_int_eq(access(path, F_OK), -1);
    ck_assert_uint_eq(stats_now().damaged_reads, 1);
    ck_assert_int_eq(try_read(chunk(2), 2, 1000), DISK_MISS);
    reopen_disk();
    ck_assert_int_eq(try_read(chunk(2), 2, 1000), DISK_MISS);
    read_value(chunk(1), 1, 3 * DISK_TEST_SEGMENT / 4);
}
END_TEST

static void add_tests(Suite *suite, const char *name, void (*set_up)(void)) {
    TCase *cases = tcase_create(name);
    tcase_set_timeout(cases, 60);
    tcase_add_checked_fixture(cases, set_up, remove_directory);
    tcase_add_test(cases, a_full_disk_refuses_and_keeps_what_it_has);
    tcase_add_test(cases, a_full_disk_deletes_and_has_room_again);
    tcase_add_test(cases, space_of_what_is_replaced_comes_back);
    tcase_add_test(cases, space_of_what_is_forgotten_comes_back_by_itself);
    tcase_add_test(cases, what_is_being_written_is_not_reclaimed);
    tcase_add_test(cases, deletes_are_forgotten_with_what_they_deleted);
    tcase_add_test(cases, a_delete_outlives_the_segment_it_was_written_to);
    tcase_add_test(cases, small_segments_of_many_restarts_are_joined);
    tcase_add_test(cases, a_record_that_was_copied_twice_counts_once);
    tcase_add_test(cases, a_smaller_limit_holds_once_there_is_less);
    tcase_add_test(cases, a_damaged_value_is_not_copied_and_nothing_older_comes_back);
    suite_add_tcase(suite, cases);
}

int main(void) {
    Suite *suite = suite_create("disk reclaim");
    add_tests(suite, "plain", set_up_plain);
    add_tests(suite, "encrypted", set_up_encrypted);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
