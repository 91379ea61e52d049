/* The disk while calls into the system fail: what was acknowledged stays true, and what failed is
 * no value. */
#include <errno.h>
#include <stdatomic.h>

#include "tests/unit/test_disk_support.h"

enum { KEYS = 6, VALUE_BYTES = 9000 };

/* Which call fails, counted from 0; those behind it too if `sticky`. */
static struct {
    _Atomic int calls, failing, failing_syncs;
    _Atomic int failing_at; /* so many reads at that offset fail */
    off_t failing_offset;
    _Atomic bool parts_unreadable, keeps_files;
    bool sticky, halves, disorderly;
    int error;
} faults;

/* Files with records that fdatasync has not reached. */
enum { DESCRIPTORS_MAX = 1024, MARK_BEGIN = 4096, RECORDS_BEGIN = 8192 };
static _Atomic bool unsynced[DESCRIPTORS_MAX];

static bool fails(void) {
    int call = atomic_fetch_add(&faults.calls, 1), failing = atomic_load(&faults.failing);
    if (failing < 0 || (faults.sticky ? call < failing : call != failing))
        return false;
    errno = faults.error;
    return true;
}

static int faulty_open(int folder, const char *name, int flags, mode_t mode) {
    return fails() ? -1 : disk_io_system.open(folder, name, flags, mode);
}

/* Half of the first part is written, before the next call fails. */
static ssize_t faulty_writev(int file, const struct iovec *parts, int count, off_t offset) {
    if (offset >= RECORDS_BEGIN)
        unsynced[file] = true;
    if (!fails())
        return disk_io_system.writev(file, parts, count, offset);
    if (!faults.halves || parts[0].iov_len < 2)
        return -1;
    struct iovec half = {parts[0].iov_base, parts[0].iov_len / 2};
    return disk_io_system.writev(file, &half, 1, offset);
}

/* Heads begin with a block, parts behind them. */
static bool is_unreadable(off_t offset) {
    if (atomic_load(&faults.parts_unreadable) && offset % MARK_BEGIN != 0)
        return true;
    return offset == faults.failing_offset && atomic_load(&faults.failing_at) > 0 &&
           atomic_fetch_sub(&faults.failing_at, 1) > 0;
}

static ssize_t faulty_readv(int file, const struct iovec *parts, int count, off_t offset) {
    if (is_unreadable(offset)) {
        errno = EIO;
        return -1;
    }
    return fails() ? -1 : disk_io_system.readv(file, parts, count, offset);
}

static int faulty_datasync(int file) {
    if (atomic_load(&faults.failing_syncs) > 0) {
        atomic_fetch_sub(&faults.failing_syncs, 1);
        errno = EIO;
        return -1;
    }
    if (fails())
        return -1;
    unsynced[file] = false;
    return disk_io_system.datasync(file);
}

static int faulty_sync(int file) {
    return fails() ? -1 : disk_io_system.sync(file);
}

static int faulty_truncate(int file, off_t bytes) {
    return fails() ? -1 : disk_io_system.truncate(file, bytes);
}

static int faulty_rename(int folder, const char *from, const char *to) {
    return fails() ? -1 : disk_io_system.rename(folder, from, to);
}

static int faulty_unlink(int folder, const char *name) {
    for (int file = 0; file < DESCRIPTORS_MAX; file++)
        faults.disorderly |= unsynced[file];
    if (atomic_load(&faults.keeps_files)) {
        errno = EIO;
        return -1;
    }
    return fails() ? -1 : disk_io_system.unlink(folder, name);
}

static const struct disk_io faulty_io = {faulty_open,     faulty_writev, faulty_readv,
                                         faulty_datasync, faulty_sync,   faulty_truncate,
                                         faulty_rename,   faulty_unlink};

/* What a key may have after a restart: what was durable last, and whatever was tried since; 0 is no
 * value. Until then it has what was acknowledged last. */
static struct {
    uint64_t may[32], now;
    size_t count;
} expected[KEYS];

static struct disk_key key_of(size_t index) {
    return (struct disk_key){.id = index + 1, .kind = SESSION};
}

static void note(size_t index, uint64_t value, enum disk_status status, bool durable) {
    if (status == DISK_OK) {
        expected[index].now = value;
        if (durable)
            expected[index].count = 0;
    }
    ck_assert_uint_lt(expected[index].count, 32);
    expected[index].may[expected[index].count++] = value;
}

static void note_synced(void) {
    for (size_t i = 0; i < KEYS; i++) {
        expected[i].may[0] = expected[i].now;
        expected[i].count = 1;
    }
}

static void write_key(size_t index, uint64_t value, bool durable) {
    note(index, value, try_write(key_of(index), value, VALUE_BYTES, durable), durable);
}

static void delete_key(size_t index, bool durable) {
    struct disk_job job = {.operation = DISK_DELETE, .key = key_of(index), .durable = durable};
    note(index, 0, run_job(&job), durable);
}

/* Reads whatever is there; one of these values or none. */
static uint64_t value_of(size_t index, enum disk_status *status) {
    static uint8_t memory[VALUE_BYTES], wanted[VALUE_BYTES];
    size_t count;
    *status = read_bytes(key_of(index), memory, VALUE_BYTES, &count);
    if (*status != DISK_OK)
        return 0;
    ck_assert_uint_eq(count, VALUE_BYTES);
    for (size_t i = 0; i < expected[index].count; i++) {
        fill(wanted, VALUE_BYTES, expected[index].may[i]);
        if (expected[index].may[i] && memcmp(memory, wanted, VALUE_BYTES) == 0)
            return expected[index].may[i];
    }
    ck_abort_msg("key %zu has a value that it never should have", index);
}

static void check_now(void) {
    for (size_t i = 0; i < KEYS; i++) {
        enum disk_status status;
        uint64_t value = value_of(i, &status);
        if (status == DISK_OK || status == DISK_MISS)
            ck_assert_uint_eq(value, expected[i].now);
    }
}

static void check_after_restart(void) {
    for (size_t i = 0; i < KEYS; i++) {
        enum disk_status status;
        uint64_t value = value_of(i, &status);
        bool may = false;
        ck_assert(status == DISK_OK || status == DISK_MISS);
        for (size_t j = 0; j < expected[i].count; j++)
            may |= value == expected[i].may[j];
        ck_assert_msg(may, "call %d: key %zu has %d", atomic_load(&faults.failing), i, (int)value);
    }
}

/* More than fits is written, so that segments end and are rewritten too. */
static void run_script(void) {
    write_key(5, 1, true); /* outlives what is written around it */
    for (uint64_t round = 1; round <= 6; round++) {
        write_key(0, 10 * round, true);
        write_key(1, 10 * round + 1, false);
        write_key(2 + round % 2, 10 * round + 2, false);
        delete_key(2 + (round + 1) % 2, round % 3 == 0);
        write_key(4, 10 * round + 4, round % 2 == 0);
        check_now();
        if (round % 2 == 0) {
            if (sync_disk() == DISK_OK)
                note_synced();
            else
                ck_assert(faults.failing >= 0);
        }
    }
    delete_key(5, true);
    check_now();
}

static void set_up(void) {
    make_directory();
    options.segment_bytes = 64 << 10;
    options.limit_bytes = 256 << 10;
    options.io = &faulty_io;
    memset(expected, 0, sizeof expected);
    for (size_t i = 0; i < KEYS; i++)
        expected[i].count = 1; /* no value */
    atomic_store(&faults.failing, -1);
    atomic_store(&faults.calls, 0);
}

/* With that call failing; false if it did not come to it. */
static bool run_with_fault(int failing) {
    set_up();
    atomic_store(&faults.failing, failing);
    if (try_open()) {
        run_script();
        close_disk();
    }
    bool failed = atomic_load(&faults.calls) > failing;
    atomic_store(&faults.failing, -1);
    open_disk();
    check_after_restart();
    for (size_t i = 0; i < KEYS; i++)
        ck_assert_int_eq(try_write(key_of(i), 1000 + i, 10, true), DISK_OK);
    reopen_disk();
    for (size_t i = 0; i < KEYS; i++)
        read_value(key_of(i), 1000 + i, 10);
    remove_directory();
    return failed;
}

static void run_all(int error, bool sticky, bool halves) {
    faults.error = error;
    faults.sticky = sticky;
    faults.halves = halves;
    int failing = 0;
    while (run_with_fault(failing))
        failing++;
    ck_assert_int_gt(failing, 200);
}

/* The script's end, as kill -9 leaves it or closed; then a start at which that call fails, and
 * another. */
static bool scan_with_fault(int failing) {
    set_up();
    open_disk();
    run_script();
    ck_assert_int_eq(sync_disk(), DISK_OK);
    note_synced();
    close_disk();
    atomic_store(&faults.calls, 0);
    atomic_store(&faults.failing, failing);
    if (try_open()) {
        await_scan();
        for (size_t i = 0; i < found_count; i++) {
            enum disk_status status;
            if (!found_doubtful[i])
                value_of(found[i].id - 1, &status);
        }
        close_disk();
    }
    bool failed = atomic_load(&faults.calls) > failing;
    atomic_store(&faults.failing, -1);
    open_disk();
    check_after_restart();
    remove_directory();
    return failed;
}

START_TEST(any_call_may_fail_at_the_start_and_nothing_is_lost_for_good) {
    faults.error = EIO;
    faults.sticky = faults.halves = false;
    int failing = 0;
    while (scan_with_fault(failing))
        failing++;
    ck_assert_int_gt(failing, 20);
}
END_TEST

START_TEST(any_call_may_fail_once) {
    run_all(EIO, false, false);
}
END_TEST

START_TEST(any_call_may_fail_for_good) {
    run_all(EIO, true, false);
}
END_TEST

START_TEST(the_file_system_may_be_full_in_the_middle_of_any_write) {
    run_all(ENOSPC, true, true);
}
END_TEST

START_TEST(any_write_may_be_short) {
    run_all(EINTR, false, true);
}
END_TEST

START_TEST(a_durable_write_whose_fdatasync_fails_has_failed_and_the_earlier_value_counts) {
    set_up();
    open_disk();
    ck_assert_int_eq(try_write(key_of(0), 1, VALUE_BYTES, true), DISK_OK);
    atomic_store(&faults.failing_syncs, 1);
    ck_assert_int_eq(try_write(key_of(0), 2, VALUE_BYTES, true), DISK_FAILED);
    read_value(key_of(0), 1, VALUE_BYTES);
    ck_assert_int_eq(sync_disk(), DISK_OK);
    reopen_disk();
    read_value(key_of(0), 1, VALUE_BYTES);
    remove_directory();
}
END_TEST

START_TEST(what_a_failed_fdatasync_did_not_reach_is_written_anew_before_a_sync_succeeds) {
    char before[4][32], path[400];
    set_up();
    open_disk();
    write_value(key_of(0), 1, VALUE_BYTES);
    ck_assert_uint_eq(list_segments(before, 4), 1);
    atomic_store(&faults.failing_syncs, 1);
    ck_assert_int_eq(sync_disk(), DISK_FAILED);
    ck_assert_int_eq(sync_disk(), DISK_OK);
    path_of(before[0], path, sizeof path);
    ck_assert_int_eq(access(path, F_OK), -1);
    read_value(key_of(0), 1, VALUE_BYTES);
    remove_directory();
}
END_TEST

START_TEST(what_cannot_be_copied_after_a_failed_fdatasync_fails_syncs_until_it_can) {
    set_up();
    open_disk();
    for (size_t i = 0; i < 5; i++)
        write_value(key_of(i), i, VALUE_BYTES);
    char names[4][32];
    ck_assert_uint_eq(list_segments(names, 4), 2);
    atomic_store(&faults.parts_unreadable, true);
    atomic_store(&faults.failing_syncs, 1);
    ck_assert_int_eq(sync_disk(), DISK_FAILED);
    for (size_t i = 0; i < 4; i++) /* a file is worth reclaiming, that is not the one in need */
        disk_forget(disk, key_of(i));
    ck_assert_int_eq(sync_disk(), DISK_FAILED);
    write_value(key_of(5), 5, VALUE_BYTES);
    ck_assert_int_eq(sync_disk(), DISK_FAILED);
    ck_assert_uint_eq(stats_now().failed_syncs, 1);
    atomic_store(&faults.parts_unreadable, false);
    ck_assert_int_eq(sync_disk(), DISK_OK);
    reopen_disk();
    read_value(key_of(4), 4, VALUE_BYTES);
    read_value(key_of(5), 5, VALUE_BYTES);
    remove_directory();
}
END_TEST

/* A small segment is written anew at a start. */
static void leave_a_copy(void) {
    options.segment_bytes = 128 << 10;
    open_disk();
    ck_assert_int_eq(try_write(key_of(0), 1, VALUE_BYTES, true), DISK_OK);
    atomic_store(&faults.keeps_files, true);
    reopen_disk();
    while (stats_now().copied_bytes == 0)
        usleep(1000);
    close_disk();
    atomic_store(&faults.keeps_files, false);
}

START_TEST(of_two_copies_the_one_that_can_be_read_counts) {
    set_up();
    leave_a_copy();
    char names[4][32];
    ck_assert_uint_eq(list_segments(names, 4), 2);
    faults.failing_offset = RECORDS_BEGIN;
    atomic_store(&faults.failing_at, 1);
    open_disk();
    ck_assert_int_le(atomic_load(&faults.failing_at), 0);
    read_value(key_of(0), 1, VALUE_BYTES);
    reopen_disk();
    read_value(key_of(0), 1, VALUE_BYTES);
    remove_directory();
}
END_TEST

/* What was being written when the daemon ended is no damage; the mark alone tells. */
static void leave_a_torn_tail(void) {
    char names[4][32], path[400];
    open_disk();
    ck_assert_int_eq(try_write(key_of(0), 1, VALUE_BYTES, true), DISK_OK);
    close_disk();
    ck_assert_uint_eq(list_segments(names, 4), 1);
    path_of(names[0], path, sizeof path);
    int file = open(path, O_WRONLY | O_APPEND);
    ck_assert_int_eq(write(file, path, sizeof path), sizeof path);
    close(file);
}

START_TEST(where_a_mark_cannot_be_read_it_is_told_that_not_all_could_be) {
    set_up();
    leave_a_torn_tail();
    faults.failing_offset = MARK_BEGIN;
    atomic_store(&faults.failing_at, 1);
    open_disk();
    ck_assert(stats_now().scan_unread);
    reopen_disk();
    ck_assert(!stats_now().scan_unread);
    ck_assert_uint_eq(found_count, 1);
    ck_assert(!found_doubtful[0]);
    read_value(key_of(0), 1, VALUE_BYTES);
    remove_directory();
}
END_TEST

START_TEST(no_file_goes_before_what_was_copied_is_durable) {
    set_up();
    open_disk();
    run_script();
    ck_assert(!faults.disorderly);
    ck_assert_uint_gt(stats_now().reclaimed_segments, 0);
    ck_assert_uint_gt(stats_now().copied_bytes, 0);
    remove_directory();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("disk faults");
    TCase *cases = tcase_create("faults");
    tcase_set_timeout(cases, 120);
    tcase_add_test(cases, any_call_may_fail_once);
    tcase_add_test(cases, any_call_may_fail_at_the_start_and_nothing_is_lost_for_good);
    tcase_add_test(cases, any_call_may_fail_for_good);
    tcase_add_test(cases, the_file_system_may_be_full_in_the_middle_of_any_write);
    tcase_add_test(cases, any_write_may_be_short);
    tcase_add_test(cases,
                   a_durable_write_whose_fdatasync_fails_has_failed_and_the_earlier_value_counts);
    tcase_add_test(cases,
                   what_a_failed_fdatasync_did_not_reach_is_written_anew_before_a_sync_succeeds);
    tcase_add_test(cases, what_cannot_be_copied_after_a_failed_fdatasync_fails_syncs_until_it_can);
    tcase_add_test(cases, of_two_copies_the_one_that_can_be_read_counts);
    tcase_add_test(cases, where_a_mark_cannot_be_read_it_is_told_that_not_all_could_be);
    tcase_add_test(cases, no_file_goes_before_what_was_copied_is_durable);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
