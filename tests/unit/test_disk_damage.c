/* Files that are not as they were written: what is wrong is a miss, and nothing older takes its
 * place. */
#include "tests/unit/test_disk_support.h"

enum {
    BLOCK = 4096,
    SMALL = 100,
    LARGE = 44000,
    FILES_MAX = 8,
    FILE_BYTES_MAX = 256 << 10,
    PADDING_STEP = 97, /* of what is zero, not every byte is tried */
};

static const struct disk_key kept = {.id = 1, .kind = CHUNK}, replaced = {.id = 2, .kind = SESSION},
                             deleted = {.id = 3, .kind = SESSION},
                             last = {.id = 4, .kind = SESSION};

static struct {
    char name[32];
    uint8_t bytes[FILE_BYTES_MAX];
    size_t count;
} files[FILES_MAX];
static size_t file_count;

static void set_up_plain(void) {
    make_directory();
    options.segment_bytes = 64 << 10;
    open_disk();
}

static void set_up_encrypted(void) {
    make_directory();
    options.segment_bytes = 64 << 10;
    options.key = secret;
    open_disk();
}

static void save_files(void) {
    char names[FILES_MAX][32], path[400];
    file_count = list_segments(names, FILES_MAX);
    for (size_t i = 0; i < file_count; i++) {
        memcpy(files[i].name, names[i], sizeof names[i]);
        path_of(names[i], path, sizeof path);
        int file = open(path, O_RDONLY);
        ssize_t count = read(file, files[i].bytes, FILE_BYTES_MAX);
        ck_assert_int_gt(count, 0);
        files[i].count = (size_t)count;
        close(file);
    }
}

/* The directory is as it was saved. */
static void restore_files(void) {
    char names[64][32], path[400];
    size_t count = list_segments(names, 64);
    for (size_t i = 0; i < count; i++) {
        path_of(names[i], path, sizeof path);
        unlink(path);
    }
    for (size_t i = 0; i < file_count; i++) {
        path_of(files[i].name, path, sizeof path);
        int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        ck_assert_int_eq(write(file, files[i].bytes, files[i].count), (ssize_t)files[i].count);
        close(file);
    }
}

/* Two segments: the older has what the newer replaces and deletes. */
static void write_files(void) {
    write_value(replaced, 1, SMALL);
    write_value(deleted, 1, SMALL);
    write_value(last, 1, SMALL);
    write_value(kept, 1, LARGE);
    write_value(replaced, 2, SMALL); /* a new segment, for the first is full */
    ck_assert_int_eq(delete_value(deleted), DISK_OK);
    write_value(last, 2, SMALL);
}

/* The value that counts, or none; of others try_read() is the end. Whether all are there. */
static bool check_values(void) {
    bool whole = try_read(kept, 1, LARGE) == DISK_OK;
    whole &= try_read(replaced, 2, SMALL) == DISK_OK;
    whole &= try_read(last, 2, SMALL) == DISK_OK;
    ck_assert_int_eq(try_read(deleted, 1, SMALL), DISK_MISS);
    return whole;
}

static bool was_noticed(void) {
    struct disk_stats stats = stats_now();
    return stats.scan_damaged || stats.scan_unknown || stats.damaged_reads;
}

/* A value that is found but doubtful is not to be believed: as if it were deleted. */
static void delete_doubtful(void) {
    for (size_t i = 0; i < found_count; i++)
        if (found_doubtful[i] && found[i].kind == SESSION)
            ck_assert_int_eq(delete_value(found[i]), DISK_OK);
}

static void check_damaged(void) {
    open_disk();
    delete_doubtful();
    if (!check_values())
        ck_assert(was_noticed());
    reopen_disk(); /* what was rewritten meanwhile is no other */
    delete_doubtful();
    check_values();
    close_disk();
}

static bool is_padding(size_t file, size_t at) {
    static const uint8_t zeros[64];
    const uint8_t *bytes = files[file].bytes;
    return at >= 32 && at + 32 <= files[file].count && memcmp(bytes + at - 32, zeros, 64) == 0;
}

START_TEST(whichever_byte_changes_it_is_noticed_or_nothing_is_amiss) {
    write_files();
    close_disk();
    save_files();
    ck_assert_uint_eq(file_count, 2);
    size_t file = (size_t)_i % 2, skip = 1;
    for (size_t at = (size_t)_i / 2; at < files[file].count; at += skip) {
        restore_files();
        char path[400];
        path_of(files[file].name, path, sizeof path);
        int opened = open(path, O_RDWR);
        uint8_t changed = files[file].bytes[at] ^ (uint8_t)(1U << at % 8);
        ck_assert_int_eq(pwrite(opened, &changed, 1, (off_t)at), 1);
        close(opened);
        check_damaged();
        skip = options.key ? 3 : 1;
        if (file == 0 && at > 6 * BLOCK) /* in the large value */
            skip = 211;
        if (is_padding(file, at))
            skip = PADDING_STEP;
    }
}
END_TEST

START_TEST(wherever_a_closed_file_ends_it_is_noticed_or_nothing_is_amiss) {
    write_files();
    close_disk();
    save_files();
    for (size_t file = 0; file < 2; file++)
        for (size_t count = 0; count < files[file].count; count += 331) {
            char path[400];
            restore_files();
            path_of(files[file].name, path, sizeof path);
            ck_assert_int_eq(truncate(path, (off_t)count), 0);
            check_damaged();
        }
}
END_TEST

START_TEST(a_torn_tail_is_cut_wherever_it_ends) {
    ck_assert_int_eq(try_write(replaced, 1, SMALL, true), DISK_OK);
    write_value(replaced, 2, SMALL);
    save_files(); /* as kill -9 leaves it */
    close_disk();
    size_t begin = files[0].count / BLOCK * BLOCK; /* of the last record */
    for (size_t count = begin; count <= files[0].count; count++) {
        char path[400];
        restore_files();
        path_of(files[0].name, path, sizeof path);
        ck_assert_int_eq(truncate(path, (off_t)count), 0);
        open_disk();
        bool whole = count == files[0].count;
        read_value(replaced, whole ? 2 : 1, SMALL);
        ck_assert_uint_eq(stats_now().scan_damaged + stats_now().scan_unknown, 0);
        ck_assert_uint_eq(stats_now().scan_cut_bytes, whole || count == begin ? 0 : BLOCK);
        close_disk();
    }
}
END_TEST

START_TEST(after_kill_9_all_that_was_written_is_there) {
    write_files();
    save_files();
    close_disk();
    restore_files();
    open_disk();
    ck_assert(check_values());
    ck_assert_uint_eq(stats_now().scan_damaged + stats_now().scan_unknown, 0);
}
END_TEST

START_TEST(what_was_synced_and_is_cut_off_is_damage_and_no_torn_tail) {
    ck_assert_int_eq(try_write(replaced, 1, SMALL, true), DISK_OK);
    ck_assert_int_eq(try_write(replaced, 2, SMALL, true), DISK_OK);
    save_files();
    close_disk();
    restore_files();
    char path[400];
    path_of(files[0].name, path, sizeof path);
    ck_assert_int_eq(truncate(path, (off_t)files[0].count / BLOCK * BLOCK), 0);
    open_disk();
    ck_assert_int_eq(try_read(replaced, 2, SMALL), DISK_MISS);
    ck_assert_uint_eq(stats_now().scan_damaged, 1);
}
END_TEST

START_TEST(many_records_that_are_lost_at_once_are_known_by_those_behind_them) {
    for (uint64_t id = 10; id < 20; id++)
        write_value((struct disk_key){.id = id, .kind = SESSION}, 1, SMALL);
    close_disk();
    save_files();
    for (size_t at = 3 * BLOCK; at < 8 * BLOCK; at++)
        files[0].bytes[at] ^= 0xff;
    restore_files();
    open_disk();
    ck_assert_uint_eq(stats_now().scan_damaged, 5);
    ck_assert_uint_eq(stats_now().scan_unknown, 0);
    for (uint64_t id = 10; id < 20; id++)
        ck_assert_int_eq(try_read((struct disk_key){.id = id, .kind = SESSION}, 1, SMALL),
                         id >= 11 && id < 16 ? DISK_MISS : DISK_OK);
}
END_TEST

START_TEST(a_value_is_doubtful_if_an_unknown_record_may_have_replaced_it) {
    write_files();
    close_disk();
    save_files();
    memset(files[1].bytes, 0, 512); /* nothing in it can be read */
    restore_files();
    open_disk();
    ck_assert_uint_eq(found_count, 4);
    for (size_t i = 0; i < found_count; i++)
        ck_assert(found_doubtful[i]);
    write_value(last, 3, SMALL);
    reopen_disk();
    for (size_t i = 0; i < found_count; i++)
        ck_assert_int_eq(found_doubtful[i], found[i].id != last.id);
}
END_TEST

START_TEST(damage_of_a_mark_and_a_record_is_no_torn_tail) {
    write_files();
    close_disk();
    save_files();
    memset(files[1].bytes + BLOCK, 0x5a, BLOCK + 100); /* the mark, and the newer value's head */
    restore_files();
    open_disk();
    delete_doubtful();
    ck_assert_int_eq(try_read(replaced, 2, SMALL), DISK_MISS);
}
END_TEST

START_TEST(damage_of_a_mark_alone_costs_nothing) {
    write_files();
    close_disk();
    save_files();
    memset(files[1].bytes + BLOCK, 0x5a, BLOCK);
    restore_files();
    open_disk();
    for (size_t i = 0; i < found_count; i++)
        ck_assert(!found_doubtful[i]);
    ck_assert(check_values());
}
END_TEST

START_TEST(a_stranger_s_file_is_left_alone) {
    char path[400];
    path_of("readme.txt", path, sizeof path);
    int file = open(path, O_WRONLY | O_CREAT, 0600);
    close(file);
    write_value(kept, 1, LARGE);
    reopen_disk();
    read_value(kept, 1, LARGE);
    ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(a_wrong_key_is_said_in_plain_words) {
    uint8_t other[DISK_KEY_BYTES] = {1};
    options.key = secret;
    reopen_disk();
    write_value(kept, 1, SMALL);
    close_disk();
    options.key = other;
    ck_assert(!try_open());
    ck_assert_ptr_nonnull(strstr(disk_error, "is encrypted with another key"));
    options.key = NULL;
    ck_assert(!try_open());
    ck_assert_ptr_nonnull(strstr(disk_error, "it needs its key"));
    options.key = secret;
    open_disk();
    read_value(kept, 1, SMALL);
}
END_TEST

START_TEST(with_a_key_nothing_unencrypted_is_taken) {
    write_value(kept, 1, SMALL);
    close_disk();
    options.key = secret;
    ck_assert(!try_open());
    ck_assert_ptr_nonnull(strstr(disk_error, "is not encrypted"));
}
END_TEST

START_TEST(encrypted_files_do_not_show_what_is_in_them) {
    static const char plain[] = "the quick brown fox jumps over the lazy dog";
    struct disk_part part = {plain, sizeof plain};
    options.key = secret;
    reopen_disk();
    ck_assert_int_eq(write_parts(kept, &part, 1, true), DISK_OK);
    save_files();
    ck_assert_ptr_null(memmem(files[0].bytes, files[0].count, plain, 10));
}
END_TEST

static void add_tests(TCase *cases) {
    tcase_set_timeout(cases, 120);
    tcase_add_loop_test(cases, whichever_byte_changes_it_is_noticed_or_nothing_is_amiss, 0, 2);
    tcase_add_test(cases, wherever_a_closed_file_ends_it_is_noticed_or_nothing_is_amiss);
    tcase_add_test(cases, a_torn_tail_is_cut_wherever_it_ends);
    tcase_add_test(cases, after_kill_9_all_that_was_written_is_there);
    tcase_add_test(cases, what_was_synced_and_is_cut_off_is_damage_and_no_torn_tail);
    tcase_add_test(cases, many_records_that_are_lost_at_once_are_known_by_those_behind_them);
    tcase_add_test(cases, damage_of_a_mark_and_a_record_is_no_torn_tail);
    tcase_add_test(cases, damage_of_a_mark_alone_costs_nothing);
    tcase_add_test(cases, a_value_is_doubtful_if_an_unknown_record_may_have_replaced_it);
}

int main(void) {
    Suite *suite = suite_create("disk damage");
    TCase *plain = tcase_create("plain"), *encrypted = tcase_create("encrypted");
    tcase_add_checked_fixture(plain, set_up_plain, remove_directory);
    tcase_add_checked_fixture(encrypted, set_up_encrypted, remove_directory);
    add_tests(plain);
    add_tests(encrypted);
    tcase_add_test(plain, a_stranger_s_file_is_left_alone);
    tcase_add_test(plain, a_wrong_key_is_said_in_plain_words);
    tcase_add_test(plain, with_a_key_nothing_unencrypted_is_taken);
    tcase_add_test(plain, encrypted_files_do_not_show_what_is_in_them);
    suite_add_tcase(suite, plain);
    suite_add_tcase(suite, encrypted);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
