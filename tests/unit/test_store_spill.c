/* Who loses tokens where there is a disk, which is full. */
#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

#include "daemon/store/pressure.h"
#include "daemon/store/spill.h"
#include "tests/unit/test_store_support.h"

static char directory[32];

static void set_up_with_disk(void) {
    snprintf(directory, sizeof directory, "/tmp/kvq-spill-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    struct store_options options = {
        .memory_bytes = LIMIT_BYTES,
        .landing_level = PAGE_FAST8,
        .codec_threads = 1,
        .memory_high_percent = 92,
        .memory_low_percent = 88,
        .disk = {.directory = directory, .limit_bytes = 8 << 20},
    };
    ck_assert_int_eq(store_init(&store, &options), 0);
    while (store_is_recovering(&store))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    workspace = aligned_alloc(64, PAGE_WORKSPACE_BYTES);
    for (size_t i = 0; i < TOKENS_MAX * ROW_VALUES; i++)
        values[i] = nearly_normal();
}

static void tear_down_with_disk(void) {
    tear_down();
    DIR *files = opendir(directory);
    for (struct dirent *file; (file = readdir(files));)
        if (file->d_name[0] != '.')
            unlinkat(dirfd(files), file->d_name, 0);
    closedir(files);
    ck_assert_int_eq(rmdir(directory), 0);
}

static struct session *find(const char *name) {
    return store_find(&store, name_of(name));
}

static bool exists(const char *name) {
    struct session *session = find(name);
    if (session)
        session_unref(session);
    return session != NULL;
}

static void leave_idle(const char *name) {
    struct session *session = find(name);
    ck_assert_ptr_nonnull(session);
    session->used_ns = 0;
    session_unref(session);
}

static void store_on_disk(const char *name) {
    ck_assert_int_eq(open_session(name, PAGE_EXACT), STORE_OK);
    store_tokens(name, 0, PAGE, false);
    while (atomic_load(&store.disk.counts.spilled_chunks) == 0)
        (void)spill(&store, 1, 0);
    leave_idle(name);
}

static void store_in_memory(const char *name) {
    store_tokens(name, 0, PAGE, false);
    leave_idle(name);
}

static void await_loss_of(const char *name) {
    while (exists(name))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

START_TEST(what_is_on_disk_stays_as_cold_as_it_was) {
    store_on_disk("cold");
    ck_assert_int_eq(open_session("warm", PAGE_EXACT), STORE_OK);
    store_in_memory("warm");
    atomic_fetch_add(&store.disk.counts.failed_writes, 1); /* it takes no more */
    ck_assert(pressure_evict(&store.pressure));
    ck_assert(!exists("warm"));
    struct session *cold = find("cold");
    ck_assert_ptr_nonnull(cold);
    ck_assert_int_eq(cold->coldness.place, COLDNESS_SMALL);
    session_unref(cold);
}
END_TEST

START_TEST(a_disk_too_full_to_spill_costs_the_coldest_even_if_that_is_in_memory) {
    ck_assert_int_eq(open_session("cold", PAGE_EXACT), STORE_OK);
    store_on_disk("warm");
    store_in_memory("cold");
    disk_tier_tell_shortage(&store.disk, DISK_SHORT_FOR_SPILLING);
    await_loss_of("cold");
    ck_assert(exists("warm"));
}
END_TEST

START_TEST(a_disk_too_full_to_save_costs_nothing_that_is_not_there) {
    ck_assert_int_eq(open_session("cold", PAGE_EXACT), STORE_OK);
    store_on_disk("warm");
    store_in_memory("cold");
    disk_tier_tell_shortage(&store.disk, DISK_SHORT_FOR_SAVING);
    await_loss_of("warm");
    ck_assert(exists("cold"));
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("spill");
    tcase_add_checked_fixture(cases, set_up_with_disk, tear_down_with_disk);
    tcase_add_test(cases, what_is_on_disk_stays_as_cold_as_it_was);
    tcase_add_test(cases, a_disk_too_full_to_spill_costs_the_coldest_even_if_that_is_in_memory);
    tcase_add_test(cases, a_disk_too_full_to_save_costs_nothing_that_is_not_there);
    return run_suite(cases);
}
