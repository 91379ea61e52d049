/* A store with a disk whose fdatasync waits or fails when a test says so. */
#include <dirent.h>
#include <errno.h>
#include <sys/syscall.h>

#include "daemon/base/clock.h"
#include "daemon/store/spill.h"
#include "tests/unit/test_store_disk_support.h"

static _Atomic bool sync_waits, sync_fails;

/* In the system's place. */
int fdatasync(int file) {
    while (sync_waits)
        wait_step();
    errno = EIO;
    return sync_fails ? -1 : (int)syscall(SYS_fdatasync, file);
}

static void tear_down_disk(void) {
    sync_waits = sync_fails = false;
    tear_down_with_disk();
}

static struct session *find(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    ck_assert_ptr_nonnull(session);
    return session;
}

/* A session of so many tokens that is on disk as it is. */
static void save(const char *name, uint64_t tokens) {
    ck_assert_int_eq(open_session(name, PAGE_EXACT), STORE_OK);
    store_tokens(name, 0, tokens, false);
    struct session *session = find(name);
    flush_session(session);
    session_unref(session);
}

/* What opening comes to when it does not wait any more. */
static int open_at_last(const char *name) {
    int status;
    while ((status = open_session(name, PAGE_EXACT)) == STORE_WAIT)
        wait_step();
    return status;
}

static bool is_in_memory(const char *name, size_t slice) {
    struct session *session = find(name);
    struct record *record = chunk_pin(session->slices[slice].chunk);
    bool in_memory = !record_is_absent(record);
    record_unpin(record);
    session_unref(session);
    return in_memory;
}

static void await_spilled(const char *name, size_t slice) {
    while (is_in_memory(name, slice))
        wait_step();
}

START_TEST(a_name_is_not_given_anew_before_its_delete_is_on_disk) {
    save("a", PAGE);
    sync_waits = true;
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_WAIT);
    ck_assert_int_eq(open_session("b", PAGE_EXACT), STORE_OK);
    ck_assert_int_eq(fork_session("b", "a", 0), STORE_WAIT);
    sync_waits = false;
    ck_assert_int_eq(open_at_last("a"), STORE_OK);
    ck_assert_uint_eq(info_of("a").state.tokens, 0);
}
END_TEST

START_TEST(a_name_whose_delete_failed_is_given_anew_when_it_has_not) {
    save("a", PAGE);
    sync_fails = true;
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_int_eq(open_at_last("a"), STORE_BUSY);
    sync_fails = false;
    int status;
    while ((status = open_at_last("a")) == STORE_BUSY)
        ;
    ck_assert_int_eq(status, STORE_OK);
}
END_TEST

START_TEST(the_name_of_a_session_that_was_in_memory_alone_is_free_at_once) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, PAGE, false);
    sync_waits = true;
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
}
END_TEST

START_TEST(a_chunk_that_another_session_was_just_given_is_not_spilled) {
    ck_assert_int_eq(open_session("cold", PAGE_EXACT), STORE_OK);
    store_tokens("cold", 0, PAGE, false);
    ck_assert_int_eq(fork_session("cold", "hot", 0), STORE_OK);
    store_tokens("cold", PAGE, 2 * PAGE, false);
    leave_idle("cold");
    ck_assert_int_eq(fetch_all("hot", 0, PAGE, 0), STORE_OK);
    ck_assert(spill(&store, &store.coldness, UINT64_MAX / 2, clock_now_ns()));
    await_spilled("cold", 1);
    ck_assert(is_in_memory("hot", 0));
    ck_assert(spill(&store, &store.coldness, UINT64_MAX / 2, 0));
    await_spilled("hot", 0);
}
END_TEST

START_TEST(what_sessions_share_is_spilled_after_what_they_do_not) {
    ck_assert_int_eq(open_session("colder", PAGE_EXACT), STORE_OK);
    store_tokens("colder", 0, PAGE, false);
    ck_assert_int_eq(fork_session("colder", "fork", 0), STORE_OK);
    ck_assert_int_eq(open_session("cold", PAGE_EXACT), STORE_OK);
    store_tokens("cold", 0, PAGE, false);
    ck_assert(spill(&store, &store.coldness, 1, 0));
    await_spilled("cold", 0);
    ck_assert(is_in_memory("colder", 0));
}
END_TEST

static const char *only_segment(void) {
    static char path[400];
    DIR *folder = opendir(store_directory);
    for (const struct dirent *entry; (entry = readdir(folder));)
        if (strstr(entry->d_name, ".segment"))
            snprintf(path, sizeof path, "%s/%.300s", store_directory, entry->d_name);
    closedir(folder);
    return path;
}

START_TEST(what_the_disk_would_take_is_not_evicted) {
    struct pressure pressure = {.store = &store, .high_percent = 92, .low_percent = 88};
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, PAGE + 1, false);
    leave_idle("a");
    ck_assert(!pressure_evict(&pressure));
    ck_assert_uint_eq(info_of("a").state.tokens, PAGE + 1);
    atomic_fetch_add(&store.disk.counts.broken_writes, 1);
    ck_assert(pressure_evict(&pressure)); /* its tail */
    ck_assert(pressure_evict(&pressure));
    ck_assert_ptr_null(store_find(&store, name_of("a")));
}
END_TEST

START_TEST(the_next_chunks_are_loaded_while_one_is_sent) {
    struct fetch fetch;
    struct fetch_piece pieces[GEOMETRY_PARTS];
    size_t count;
    struct fetch_request request = {.session = name_of("a"), .end = 3 * PAGE};
    save("a", 4 * PAGE);
    ck_assert(spill(&store, &store.coldness, UINT64_MAX / 2, 0));
    for (size_t slice = 0; slice < 4; slice++)
        await_spilled("a", slice);
    ck_assert_int_eq(fetch_begin(&store, &request, &fetch), STORE_OK);
    int status;
    while ((status = fetch_next(&store, &fetch, &got_room, workspace, pieces, &count)) ==
           STORE_WAIT)
        wait_step();
    ck_assert_int_eq(status, STORE_MORE);
    for (size_t slice = 1; slice < 3; slice++)
        while (!is_in_memory("a", slice))
            wait_step();
    ck_assert(!is_in_memory("a", 3)); /* it is not asked for */
}
END_TEST

START_TEST(what_a_removed_file_had_is_a_miss_and_the_tokens_before_it_are_not) {
    save("a", 3 * PAGE + 1);
    ck_assert(spill(&store, &store.coldness, UINT64_MAX / 2, 0));
    for (size_t slice = 0; slice < 3; slice++)
        await_spilled("a", slice);
    ck_assert_int_eq(fetch_all("a", 0, PAGE, 0), STORE_OK);
    unlink(only_segment());
    ck_assert_int_eq(fetch_all("a", 0, 3 * PAGE, 0), STORE_MISS);
    ck_assert_uint_eq(info_of("a").state.tokens, PAGE);
    ck_assert_uint_eq(info_of("a").state.lost_tokens, 2 * PAGE + 1);
    ck_assert_int_eq(fetch_all("a", 0, PAGE, 0), STORE_OK);
}
END_TEST

START_TEST(what_is_saved_behind_a_removed_file_is_in_another) {
    int status;
    save("a", PAGE);
    unlink(only_segment());
    store_tokens("a", PAGE, 2 * PAGE, false);
    struct session *session = find("a");
    while ((status = saving_step(&store, session, session_point(session))) != STORE_OK) {
        if (status == STORE_DISK)
            (void)saving_retry(session);
        wait_step();
    }
    session_unref(session);
    crash();
    ck_assert_int_eq(fetch_all("a", 0, 2 * PAGE, 0), STORE_OK);
}
END_TEST

static uint64_t disk_bytes(void) {
    struct store_totals totals;
    info_totals(&store, &totals);
    return totals.disk_bytes;
}

START_TEST(what_is_on_disk_is_counted_once_the_same_after_a_restart_and_not_after_a_delete) {
    save("a", 2 * PAGE);
    uint64_t bytes = info_of("a").disk_bytes;
    ck_assert_int_eq(fork_session("a", "b", 0), STORE_OK);
    ck_assert_uint_eq(disk_bytes(), bytes);
    restart();
    ck_assert_uint_eq(disk_bytes(), bytes);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_int_eq(delete_session("b"), STORE_OK);
    while (disk_bytes() > 0)
        wait_step();
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("disk");
    tcase_add_checked_fixture(cases, set_up_with_disk, tear_down_disk);
    tcase_add_test(cases, a_name_is_not_given_anew_before_its_delete_is_on_disk);
    tcase_add_test(cases, a_name_whose_delete_failed_is_given_anew_when_it_has_not);
    tcase_add_test(cases, the_name_of_a_session_that_was_in_memory_alone_is_free_at_once);
    tcase_add_test(cases, a_chunk_that_another_session_was_just_given_is_not_spilled);
    tcase_add_test(cases, what_sessions_share_is_spilled_after_what_they_do_not);
    tcase_add_test(cases, what_the_disk_would_take_is_not_evicted);
    tcase_add_test(cases, the_next_chunks_are_loaded_while_one_is_sent);
    tcase_add_test(cases, what_a_removed_file_had_is_a_miss_and_the_tokens_before_it_are_not);
    tcase_add_test(cases, what_is_saved_behind_a_removed_file_is_in_another);
    tcase_add_test(cases,
                   what_is_on_disk_is_counted_once_the_same_after_a_restart_and_not_after_a_delete);
    return run_suite(cases);
}
